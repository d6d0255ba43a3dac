//! The data directory: where it is unless told, and files in it that only their owner may read.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::Failure;

/// The platform's place for application data.
pub(crate) fn platform_default() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        // The specification of XDG_DATA_HOME lets a relative path be ignored.
        variable("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("twinhub"))
}

/// [`platform_default`] in words.
pub(crate) const DESCRIBED: &str = if cfg!(windows) {
    "%LOCALAPPDATA%\\twinhub"
} else if cfg!(target_os = "macos") {
    "~/Library/Application Support/twinhub"
} else {
    "$XDG_DATA_HOME/twinhub or ~/.local/share/twinhub"
};

/// What went wrong with a file, with its path: the system's own words name none.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

pub(crate) fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).map_err(at(path))
}

/// Reads a secret that the operator gave, unless others may read it too.
pub(crate) fn read_own(path: &Path) -> io::Result<String> {
    let mut file = File::open(path).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if file.metadata().map_err(at(path))?.permissions().mode() & 0o077 != 0 {
            let shown = path.display();
            return Err(io::Error::other(format!(
                "others may read {shown}: it holds a key. chmod go-rwx {shown}"
            )));
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

/// Makes the directory, for its owner alone: it holds keys. One that is there keeps its mode.
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(at(directory))
}

/// Takes the directory for this process, as long as the file is held. The store locks its own place too, but with
/// `sqlite::memory:` it has none, and `run.json` and the keys are here in any case.
pub(crate) fn claim(directory: &Path) -> Result<File, Failure> {
    let path = directory.join("serve.lock");
    let file = private_file().create(true).append(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(directory).into()),
        Err(TryLockError::Error(error)) => Err(at(&path)(error).into()),
    }
}

pub(crate) fn in_use(directory: &Path) -> String {
    format!("another server uses {}; give this one its own --data-dir", directory.display())
}

pub(crate) fn held(directory: &Path) -> String {
    format!("a server uses {}; end it first", directory.display())
}

/// Makes what the store keeps, before the store does, so that its owner alone may read it whatever the directory's mode.
/// `SQLite` gives the mode of a database to the files beside it.
pub(crate) fn prepare_store(directory: &Path) -> io::Result<()> {
    make(directory)?;
    make(&directory.join("log"))?;
    let records = directory.join("records.db");
    private_file().create(true).append(true).open(&records).map_err(at(&records))?;
    Ok(())
}

/// Takes a private file for this process as long as it is held, and empties it.
pub(crate) fn take_private(path: &Path) -> Result<File, Failure> {
    let file =
        private_file().read(true).write(true).create(true).truncate(false).open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(at(path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            Err(format!("another command is at work on {}", path.display()).into())
        }
        Err(TryLockError::Error(error)) => Err(at(path)(error).into()),
    }
}

/// An empty file that its owner alone may read, whatever was there.
pub(crate) fn make_private(path: &Path) -> io::Result<File> {
    private_file().write(true).create(true).truncate(true).open(path).map_err(at(path))
}

fn private_file() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file that its owner alone may read, in one step: a reader sees the old or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = make_private(&beside)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&beside))?;
    std::fs::rename(&beside, path).map_err(at(path))
}
