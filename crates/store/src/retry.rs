//! Optimistic concurrency, once: read, decide, commit; on a conflict do all three again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::caps;

use crate::error::CommitError;

/// Retries before the first pause: most conflicts are between two.
const AT_ONCE: usize = 4;

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
/// The operation, an `async || { … }`, must read again what it decides on. (Not `AsyncFnMut`: the compiler cannot prove
/// that such a future may move between threads.)
pub async fn retry_on_conflict<T, E, F>(mut operation: impl FnMut() -> F) -> Result<T, E>
where
    E: MayConflict,
    F: Future<Output = Result<T, E>>,
{
    for tried in 0..caps::CONFLICT_RETRIES_MAX {
        match operation().await {
            Err(error) if error.is_conflict() => pause(tried).await,
            answer => return answer,
        }
    }
    operation().await
}

/// Spreads those who fight over one record, so that each wins in turn: everyone who pauses gets another length.
async fn pause(tried: usize) {
    static TURN: AtomicU64 = AtomicU64::new(0);
    if tried < AT_ONCE {
        return tokio::task::yield_now().await;
    }
    let longest = (tried as u64).min(caps::CONFLICT_PAUSE_MILLIS_MAX);
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % (longest + 1);
    tokio::time::sleep(Duration::from_millis(turn)).await;
}
