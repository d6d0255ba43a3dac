//! What can go wrong. The texts are for the log: callers of a service never see them.

use crate::streams::Lost;

/// A failure of the storage itself. Carries detail for the log and nothing that a service would answer with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{0} is in use by another server")]
    InUse(String),
    /// The disk refused or is full. Nothing of the request was kept; a later one may succeed.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// A read came to records of a stream that are damaged. What lies behind them can be read.
    #[error("damaged and lost: {0}")]
    Lost(Box<Lost>),
    #[error("the data was written by another version: {0}")]
    Version(String),
    /// The request breaks a limit of `base::caps` or the shape of its table.
    #[error("refused by the store: {0}")]
    Refused(String),
    /// The bounded queue in front of the disk is full: wait for room or shed load.
    #[error("too many requests wait for the disk")]
    Busy,
    /// Nobody ensured the stream, or it was removed meanwhile. Nothing was appended.
    #[error("there is no stream {0}")]
    NoStream(String),
    /// Whether the change was kept could not be learned in time: it may be there, or not.
    #[error("what became of a commit is not known: {0}")]
    Unknown(String),
    #[error("the store is closed")]
    Closed,
}

/// Why a batch did not commit. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A record changed since it was read, exists although it must not, or the reverse: read again and decide again.
    #[error("a record changed meanwhile")]
    Conflict,
    #[error("counter {counter} would pass {max}")]
    CounterLimit { counter: String, max: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// For batches that insist on nothing: only the storage can fail them.
    pub fn unconditional(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            other => StoreError::Unavailable(other.to_string()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
