//! The file in a data directory that says that its data moves or has moved. It names the move, so that a database knows whose it is.

use std::fs;
use std::path::Path;

use base::secret;

use crate::error::StoreError;

const MARK: &str = "moved";
const MOVING: &str = "moving ";
const MOVED: &str = "moved ";

/// For whoever opens the directory to serve from it.
pub(crate) fn refuse_moved(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(MARK);
    match read(directory)? {
        None => Ok(()),
        Some(text) if text.starts_with(MOVED) => Err(StoreError::Refused(format!(
            "the data of {} has moved to a database; start with `--store` and its address",
            directory.display()
        ))),
        Some(_) => Err(StoreError::Refused(format!(
            "the data of {} is being moved to a database: end that with `twinhub move`, or remove the file {} to go on from here",
            directory.display(),
            path.display()
        ))),
    }
}

/// The name of the move, which is given once.
pub(super) fn begin(directory: &Path) -> Result<String, StoreError> {
    if let Some(text) = read(directory)? {
        return match text.strip_prefix(MOVING) {
            Some(name) => Ok(name.trim().to_owned()),
            None => refuse_moved(directory).map(|()| String::new()),
        };
    }
    let name = secret::random_hex(8);
    write(directory, &format!("{MOVING}{name}\n"))?;
    Ok(name)
}

pub(super) fn finish(directory: &Path) -> Result<(), StoreError> {
    let text = read(directory)?.unwrap_or_default();
    let name = text.strip_prefix(MOVING).unwrap_or_default();
    write(directory, &format!("{MOVED}{name}"))
}

fn read(directory: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(directory.join(MARK)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// In whole or not at all, and durable.
fn write(directory: &Path, text: &str) -> Result<(), StoreError> {
    let unfinished = directory.join("moved.unfinished");
    fs::write(&unfinished, text)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(unfinished, directory.join(MARK))?;
    #[cfg(unix)]
    fs::File::open(directory)?.sync_all()?;
    Ok(())
}
