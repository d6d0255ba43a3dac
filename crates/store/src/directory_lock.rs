//! One process alone has a data directory open. The operating system gives its lock back when the process dies, and here it is given
//! back by hand besides: a program that another thread starts at that moment has inherited the file, and would keep it for a while.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::StoreError;
use crate::store::{create_private, private_file};

pub(crate) struct DirectoryLock(File);

impl DirectoryLock {
    /// Creates the directory where it is missing.
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        create_private(directory)?;
        let path = directory.join("lock");
        let file = private_file().create(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Where that fails it ends with the file.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_although_a_program_that_was_started_has_the_file_still() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        assert!(matches!(DirectoryLock::take(directory.path()), Err(StoreError::InUse(_))));
        let inherited = lock.0.try_clone().unwrap();
        drop(lock);
        DirectoryLock::take(directory.path()).unwrap();
        drop(inherited);
    }
}
