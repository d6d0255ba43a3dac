//! Whether the disk takes what it is given, as the last write showed. Noted by records and streams, each for itself; asked by whoever
//! tells others of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::StoreError;

#[derive(Default)]
pub(crate) struct Health {
    failing: AtomicBool,
    failures: AtomicU64,
}

impl Health {
    pub(crate) fn note(&self, written: Result<(), &StoreError>) {
        match written {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => {
                self.failing.store(true, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            // Not the disk's fault.
            Err(_) => {}
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn failures_total(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
