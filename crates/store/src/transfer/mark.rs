//! The file in a data directory that says that its data moves or has moved. It names the move, so that a database knows whose it is.

use std::fs;
use std::path::Path;

use base::secret;

use crate::error::StoreError;

const MARK: &str = "moved";
const MOVING: &str = "moving ";
const MOVED: &str = "moved ";

/// How far a directory is.
pub(super) enum State {
    Here,
    /// By the name of the move.
    Moving(String),
    /// And where to, for people.
    Moved(String, String),
}

pub(super) fn state(directory: &Path) -> Result<State, StoreError> {
    let Some(text) = read(directory)? else { return Ok(State::Here) };
    let (first, place) = text.split_once('\n').unwrap_or((&text, ""));
    let name = |prefix| first.strip_prefix(prefix).map(|name: &str| name.trim().to_owned());
    if let Some(name) = name(MOVED) {
        return Ok(State::Moved(name, place.trim().to_owned()));
    }
    name(MOVING).map(State::Moving).ok_or_else(|| {
        StoreError::Corrupt(format!("{} is not as it was written", directory.join(MARK).display()))
    })
}

/// For whoever opens the directory to serve from it.
pub(crate) fn refuse_moved(directory: &Path) -> Result<(), StoreError> {
    match state(directory)? {
        State::Here => Ok(()),
        State::Moved(_, place) => Err(has_moved(directory, &place)),
        State::Moving(_) => Err(StoreError::Refused(format!(
            "the data of {} is being moved to a database: end that with `twinhub move`, or remove the file {} to go on from here",
            directory.display(),
            directory.join(MARK).display()
        ))),
    }
}

pub(super) fn has_moved(directory: &Path, place: &str) -> StoreError {
    StoreError::Refused(format!(
        "the data of {} has moved to a database, {place}; start with `--store` and its address",
        directory.display()
    ))
}

/// Gives the move its name.
pub(super) fn begin(directory: &Path) -> Result<String, StoreError> {
    let name = secret::random_hex(8);
    write(directory, &format!("{MOVING}{name}\n"))?;
    Ok(name)
}

pub(super) fn finish(directory: &Path, name: &str, place: &str) -> Result<(), StoreError> {
    write(directory, &format!("{MOVED}{name}\n{place}\n"))
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
