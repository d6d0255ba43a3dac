//! Optimistic concurrency, once: read, decide, commit; on a conflict do all three again.

use base::caps;

use crate::error::CommitError;

/// An error that may mean "someone else wrote first, decide again". Each domain's error enum implements it.
pub trait MayConflict {
    fn is_conflict(&self) -> bool;
}

impl MayConflict for CommitError {
    fn is_conflict(&self) -> bool {
        *self == CommitError::Conflict
    }
}

/// Runs `operation` until it gives anything but a conflict, at most `caps::CONFLICT_RETRIES_MAX` times more.
/// The operation must read again what it decides on.
pub async fn retry_on_conflict<T, E: MayConflict>(
    mut operation: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..caps::CONFLICT_RETRIES_MAX {
        match operation().await {
            Err(error) if error.is_conflict() => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    operation().await
}
