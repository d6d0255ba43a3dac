//! The server's side of a backup: takes the records and the log at one moment and streams them while everyone else goes on.
//!
//! The records are taken first. What the relay moves to the log in between is then in both, and the log skips it when it is
//! relayed again; the other way round it would be in neither. Chunks of blobs are linked behind them: none that a record names has
//! gone by then, since what is let go of is kept for another hour (ADR 17).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Clock, caps};
use bytes::Bytes;
use rest::admin::Pieces;
use store::{Store, Streams, chunk_files};
use tar::{Builder, Header};
use tokio::sync::mpsc;

use super::{BLOBS, CHECKSUMS, FORMAT, KEPT, LOG, MANIFEST, Manifest, READ_ME, RECORDS, Summed, WARNING};
use crate::data_directory::at;
use crate::{Failure, data_directory};

const UNFINISHED: &str = "backup.unfinished";
const PIECE_BYTES: usize = 256 * 1024;

/// What a backup is made from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) data_dir: PathBuf,
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    /// One at a time: each holds a copy of the records on disk.
    pub(crate) is_busy: Arc<AtomicBool>,
}

/// Removes what a server that was killed during a backup left behind.
pub(crate) fn remove_leftovers(data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Source {
    /// Starts a backup on a thread of its own; it ends early when nobody takes the pieces any more.
    pub(crate) fn begin(&self) -> Result<Pieces, String> {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return Err("Another backup is being made.".into());
        }
        let (sender, pieces) = mpsc::channel(caps::BACKUP_PIECES_MAX);
        let source = self.clone();
        let work = move || {
            if let Err(error) = source.write(&sender) {
                tracing::warn!(%error, "a backup was not made");
                let _ = sender.blocking_send(Err(error.to_string()));
            }
            if let Err(error) = remove_leftovers(&source.data_dir) {
                tracing::warn!(%error, "what a backup left could not be removed");
            }
            source.is_busy.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new().name("backup".into()).spawn(work) {
            self.is_busy.store(false, Ordering::Release);
            return Err(error.to_string());
        }
        Ok(pieces)
    }

    fn write(&self, sender: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), Failure> {
        let snapshot = self.store.snapshot()?;
        let log = self.streams.copy()?;
        let unfinished = self.data_dir.join(UNFINISHED);
        let records = unfinished.join(RECORDS);
        remove_leftovers(&self.data_dir)?;
        data_directory::make(&unfinished)?;
        let chunks = link_chunks(&self.data_dir, &unfinished)?;
        data_directory::make_private(&records)?;
        snapshot.write_to(&records)?;
        drop(snapshot);

        let mut archive = Archive::new(sender, &self.clock);
        archive.text(READ_ME, WARNING)?;
        archive.text(MANIFEST, &self.manifest())?;
        archive.file(RECORDS, &records)?;
        for segment in log {
            let name = format!("{LOG}{}", segment.name());
            archive.add(&name, segment.bytes_left(), segment)?;
        }
        for chunk in chunks {
            let path = unfinished.join(chunk_files::FOLDER).join(&chunk);
            archive.file(&format!("{BLOBS}{chunk}"), &path)?;
        }
        for name in KEPT {
            let path = self.data_dir.join(name);
            if path.is_file() {
                archive.file(name, &path)?;
            }
        }
        archive.end()
    }

    fn manifest(&self) -> String {
        let made_by = format!("twinhub {}", env!("CARGO_PKG_VERSION"));
        let manifest = Manifest { format: FORMAT, made_by, made_at: self.clock.now() };
        serde_json::to_string_pretty(&manifest).expect("plain data")
    }
}

/// Every chunk that there is now, under a second name that nobody takes away; copied where the file system has no such names.
fn link_chunks(from: &Path, to: &Path) -> Result<Vec<String>, Failure> {
    let chunks = chunk_files::list(from)?;
    for chunk in &chunks {
        let (from, to) =
            (from.join(chunk_files::FOLDER).join(chunk), to.join(chunk_files::FOLDER).join(chunk));
        if let Some(folder) = to.parent() {
            data_directory::make(folder)?;
        }
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).map_err(at(&from))?;
    }
    Ok(chunks)
}

/// The tar file under way, and the sums of what is in it.
struct Archive<'a> {
    tar: Builder<Outlet<'a>>,
    sums: String,
    seconds: u64,
}

impl<'a> Archive<'a> {
    fn new(sender: &'a mpsc::Sender<Result<Bytes, String>>, clock: &Clock) -> Self {
        let seconds = u64::try_from(clock.now().unix_seconds()).unwrap_or(0);
        let tar = Builder::new(Outlet { sender, gathered: Vec::with_capacity(PIECE_BYTES) });
        Self { tar, sums: String::new(), seconds }
    }

    fn text(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        self.add(name, text.len() as u64, text.as_bytes())
    }

    fn file(&mut self, name: &str, path: &Path) -> Result<(), Failure> {
        let file = File::open(path)?;
        self.add(name, file.metadata()?.len(), file)
    }

    fn add(&mut self, name: &str, length: u64, content: impl Read) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let mut content = Summed::new(content.take(length));
        self.tar.append_data(&mut header, name, &mut content)?;
        // A tar file in which one entry is shorter than it says makes no sense from there on.
        if content.bytes != length {
            return Err(format!("{name} became shorter while it was read").into());
        }
        self.sums.push_str(&content.line(name));
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        let sums = std::mem::take(&mut self.sums);
        self.text(CHECKSUMS, &sums)?;
        Ok(self.tar.into_inner()?.flush()?)
    }
}

/// Gathers small writes into pieces and hands them on, waiting for whoever takes them.
struct Outlet<'a> {
    sender: &'a mpsc::Sender<Result<Bytes, String>>,
    gathered: Vec<u8>,
}

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE_BYTES)).into();
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the backup any more");
        self.sender.blocking_send(Ok(piece)).map_err(gone)
    }
}
