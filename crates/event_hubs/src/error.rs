//! What can go wrong with an event hub, beside what Resource Manager says of every resource.

use store::{CommitError, MayConflict, StoreError};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("The event hub '{0}' does not exist.")]
    EventHubNotFound(String),
    #[error("The rights must be some of 'Listen', 'Send' and 'Manage'.")]
    UnknownRights,
    #[error("The right 'Manage' needs 'Listen' and 'Send' too.")]
    ManageAlone,
    #[error("At most {0} authorization rules are allowed.")]
    TooManyRules(usize),
    /// The namespace was changed or removed by another request; the operation is decided again.
    #[error("The namespace was changed by another request. Please retry.")]
    WrittenMeanwhile,
    #[error("The service is unavailable. Please retry.")]
    Store(#[from] StoreError),
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::WrittenMeanwhile,
            other => Self::Store(other.unconditional()),
        }
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::WrittenMeanwhile
    }
}
