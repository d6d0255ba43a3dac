//! The disk under the servers' data: how fast it syncs and how much it writes. What `/proc` says a process wrote is of no use
//! here: file systems with large folios count every page of one, however few bytes of it changed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::clock::now;
use crate::statistics::Latencies;

/// Appends of the size and number that a group commit under load makes.
const PROBE_BYTES: usize = 64 * 1024;
const PROBE_ROUNDS: usize = 200;

const SECTOR_BYTES: u64 = 512;
/// The place of the written sectors in the line of a device's counters (Linux, `Documentation/block/stat.rst`).
const SECTORS_WRITTEN_AT: usize = 6;

/// Counts for the whole device, so other programs' writes count too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    counters: PathBuf,
}

impl Disk {
    pub(crate) fn under(path: &Path) -> Result<Self, Failure> {
        let device = std::fs::metadata(path)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Self { counters: format!("/sys/dev/block/{major}:{minor}/stat").into() })
    }

    /// Bytes written since the machine's start; `None` where no block device is below, as in some containers.
    pub(crate) fn written_bytes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.counters).ok()?;
        let sectors: u64 = text.split_whitespace().nth(SECTORS_WRITTEN_AT)?.parse().ok()?;
        Some(sectors * SECTOR_BYTES)
    }
}

/// How long an append takes to reach the disk: the floor under every durable answer.
pub(crate) fn probe(path: &Path) -> Result<Latencies, Failure> {
    probe_with(path, PROBE_BYTES)
}

/// The same for appends of another size.
pub(crate) fn probe_with(path: &Path, bytes: usize) -> Result<Latencies, Failure> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let block = vec![7; bytes];
    let mut latencies = Latencies::default();
    for _ in 0..PROBE_ROUNDS {
        let start = now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.add(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_is_seen_to_be_written() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let disk = Disk::under(directory.path()).unwrap();
        let Some(before) = disk.written_bytes() else {
            eprintln!("did not run: no block device is below /var/tmp");
            return;
        };
        assert_eq!(probe(&directory.path().join("probe")).unwrap().count(), 200);
        let written = disk.written_bytes().unwrap() - before;
        assert!(written >= (PROBE_BYTES * PROBE_ROUNDS) as u64, "{written} bytes");
    }
}
