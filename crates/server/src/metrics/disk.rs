//! What lies on the disk, and how much room is left there. Looked at when asked, on a thread that may wait.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use rest::admin::{Family, Kind};

/// Where the server keeps what it keeps.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) data_dir: PathBuf,
    pub(crate) store: store::Location,
}

/// Bytes, as the files are long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) records: u64,
    pub(crate) records_wal: u64,
    pub(crate) log: u64,
    /// Of the file system that the data lies on; `None` where the system does not say.
    pub(crate) free: Option<u64>,
}

impl Places {
    pub(crate) fn of(config: &crate::config::Config) -> Self {
        Self { data_dir: config.data_dir.clone(), store: config.store.clone() }
    }

    /// What holds the data: the store's own directory, or the data directory with its keys.
    pub(crate) fn directory(&self) -> &Path {
        match &self.store {
            store::Location::File(directory) => directory,
            store::Location::Memory | store::Location::Postgres(_) => &self.data_dir,
        }
    }

    pub(crate) async fn sizes(&self) -> Sizes {
        let places = self.clone();
        tokio::task::spawn_blocking(move || places.look()).await.unwrap_or_default()
    }

    pub(crate) fn look(&self) -> Sizes {
        let free = free_bytes(self.directory());
        let store::Location::File(store) = &self.store else { return Sizes { free, ..Sizes::default() } };
        Sizes {
            free,
            records: file_bytes(&store.join("records.db")),
            records_wal: file_bytes(&store.join("records.db-wal")),
            log: directory_bytes(&store.join("log")),
        }
    }
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Of the files right in it; the log has no others.
fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let files = entries.flatten().filter_map(|entry| entry.metadata().ok()).filter(Metadata::is_file);
    files.map(|file| file.len()).sum()
}

/// What an ordinary user may still write.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(path).ok()?;
    Some(told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

pub(super) fn families(places: &Places) -> [Family; 4] {
    type Pick = fn(&Sizes) -> Option<u64>;
    let family = |name, help, pick: Pick| {
        let places = places.clone();
        Family::waiting(Kind::Gauge, name, help, move |mut samples| {
            let places = places.clone();
            async move {
                if let Some(bytes) = pick(&places.sizes().await) {
                    samples.count(&[], bytes);
                }
                samples
            }
        })
    };
    [
        family("twinhub_records_bytes", "Size of records.db.", |sizes| Some(sizes.records)),
        family("twinhub_records_wal_bytes", "Size of the write-ahead log of records.db.", |sizes| {
            Some(sizes.records_wal)
        }),
        family("twinhub_log_bytes", "Size of the log's segments, with what is made ahead.", |sizes| {
            Some(sizes.log)
        }),
        family("twinhub_disk_free_bytes", "What may still be written where the data lies.", |sizes| {
            sizes.free
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("log")).unwrap();
        for (name, bytes) in [("records.db", 10), ("records.db-wal", 20), ("log/1", 3), ("log/2", 4)] {
            std::fs::write(path.join(name), vec![0; bytes]).unwrap();
        }
        let places = Places { data_dir: path.to_owned(), store: store::Location::File(path.to_owned()) };
        let sizes = places.look();
        assert_eq!((sizes.records, sizes.records_wal, sizes.log), (10, 20, 7));
        assert!(sizes.free.is_none_or(|free| free > 0));
        let in_memory = Places { store: store::Location::Memory, ..places };
        assert_eq!(Sizes { free: None, ..in_memory.look() }, Sizes::default());
    }
}
