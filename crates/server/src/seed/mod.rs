//! A seed: a file of hubs, devices, enrollments, models, twins and the like that a server shall have (`docs/seed.md`). Read and held
//! against every rule that needs no store before the server starts; applied through the domain's own operations, as its operator,
//! before the doors open. Applied again, it changes what differs and nothing else.

mod apply;
mod document;
mod entries;
mod fault;
mod table;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};

use base::caps;

pub(crate) use self::apply::Ground;
use self::entries::Entries;
use self::fault::{Fault, Faults, SeedError};

#[derive(Debug)]
pub(crate) struct Seed {
    path: PathBuf,
    entries: Entries,
}

impl Seed {
    /// Reads the file, as TOML or JSON by its name.
    pub(crate) fn read(path: &Path) -> Result<Self, SeedError> {
        let wrong = |line, message: String| SeedError::of(path, vec![Fault { line, message }]);
        let text = read_text(path).map_err(|error| wrong(1, error.to_string()))?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let root = match extension.to_ascii_lowercase().as_str() {
            "toml" => document::toml(&text),
            "json" => document::json(&text),
            _ => {
                return Err(wrong(
                    1,
                    "the name of a seed ends in .toml or .json, and says what it is".to_owned(),
                ));
            }
        };
        let root = root.map_err(|fault| SeedError::of(path, vec![fault]))?;
        let (faults, folder) = (Faults::default(), path.parent().unwrap_or(Path::new("")));
        let entries = Entries::read(&root, folder, &faults);
        faults.into_result(path)?;
        Ok(Self { path: path.to_owned(), entries })
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(caps::SEED_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > caps::SEED_BYTES_MAX) {
        return Err(std::io::Error::other(format!("it has more than {} bytes", caps::SEED_BYTES_MAX)));
    }
    Ok(text)
}
