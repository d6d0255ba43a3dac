//! Where the data of a run is: a new directory that goes with it, or one that stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::caps;
use tempfile::TempDir;

use crate::{Failure, data_directory};

const REMOVED: &str = "twinhub-run-";
const KEPT: &str = "twinhub-kept-";

pub(super) enum Directory {
    /// Removed when it is dropped, however that comes.
    Removed(TempDir),
    Kept(PathBuf),
}

impl Directory {
    pub(super) fn open(given: Option<&Path>, keep: bool) -> Result<Self, Failure> {
        Ok(match given {
            Some(path) => Self::Kept(std::path::absolute(path)?),
            None if keep => Self::Kept(make(&std::env::temp_dir(), KEPT)?.keep()),
            None => Self::Removed(match in_memory().map(|place| make(&place, REMOVED)) {
                Some(Ok(made)) => made,
                Some(Err(_)) | None => make(&std::env::temp_dir(), REMOVED)?,
            }),
        })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Removed(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// What is to be removed even when we are killed.
    pub(super) fn removed(&self) -> Option<&Path> {
        Some(self.path()).filter(|_| !self.is_kept())
    }

    /// The end, with a word where something stays.
    pub(super) fn close(self) {
        match self {
            Self::Kept(path) => {
                let path = path.display();
                eprintln!(
                    "twinhub run: the data is in {path}; serve it again with: twinhub serve --data-dir {path}"
                );
            }
            Self::Removed(directory) => {
                let path = directory.path().to_owned();
                if let Err(error) = directory.close() {
                    eprintln!("twinhub run: {} cannot be removed: {error}", path.display());
                }
            }
        }
    }
}

fn make(place: &Path, prefix: &str) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(place);
    made.map_err(|error| format!("no directory can be made in {}: {error}", place.display()).into())
}

/// Where what is soon removed never meets a disk, which would take longer over the few keys there than all else takes. Not where
/// somebody says which place to take.
fn in_memory() -> Option<PathBuf> {
    let is_told = std::env::var_os("TMPDIR").is_some_and(|place| !place.is_empty());
    (cfg!(target_os = "linux") && !is_told).then(|| PathBuf::from("/dev/shm"))
}

/// Removes what runs left behind that could not do so, as when everything was killed at once. Best effort.
pub(super) fn remove_abandoned() {
    let places = [Some(std::env::temp_dir()), in_memory()];
    let entries = places.into_iter().flatten().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    for entry in entries.flatten() {
        let is_run = entry.file_name().to_str().is_some_and(|name| name.starts_with(REMOVED));
        if is_run && is_abandoned(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory of ours, no link, that no server holds any more, and that is not just being made.
fn is_abandoned(path: &Path) -> bool {
    let Ok(about) = path.symlink_metadata() else { return false };
    let age = about.modified().ok().and_then(|made| made.elapsed().ok());
    about.is_dir()
        && is_ours(&about)
        && age.is_some_and(|age| age >= Duration::from_secs(caps::ABANDONED_RUN_SECONDS_MIN))
        && path.join("serve.lock").is_file()
        && data_directory::claim(path).is_ok()
}

#[cfg(unix)]
fn is_ours(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(about) == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(_: &std::fs::Metadata) -> bool {
    true
}
