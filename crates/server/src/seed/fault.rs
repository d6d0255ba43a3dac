//! What is wrong with a seed: all of it at once, each with its line, so that a file need not be mended one error at a time.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use base::caps;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Where faults are gathered while a file is read.
#[derive(Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, line: usize, message: impl Into<String>) {
        self.0.borrow_mut().push(Fault { line, message: message.into() });
    }

    pub(super) fn into_result(self, path: &Path) -> Result<(), SeedError> {
        let faults = self.0.into_inner();
        if faults.is_empty() { Ok(()) } else { Err(SeedError::of(path, faults)) }
    }
}

/// What keeps a seed from being planted: nothing of it is applied.
#[derive(Debug)]
pub(crate) struct SeedError {
    path: PathBuf,
    faults: Vec<Fault>,
}

impl SeedError {
    pub(super) fn of(path: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.line);
        Self { path: path.to_owned(), faults }
    }
}

impl std::error::Error for SeedError {}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the seed is wrong, and nothing of it is applied:")?;
        for Fault { line, message } in self.faults.iter().take(caps::SEED_FAULTS_TOLD_MAX) {
            write!(f, "\n  {}:{line}: {message}", self.path.display())?;
        }
        match self.faults.len().saturating_sub(caps::SEED_FAULTS_TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
