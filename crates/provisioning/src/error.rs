//! What can go wrong in provisioning, with the service's own six digits. Operations return it; every door maps it once.

use std::time::Duration;

use access::Denied;
use base::Refused;
use base::meter::Throttled;
use store::{CommitError, MayConflict, StoreError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    BadRequest(String),
    /// No credential, a wrong one, or one that may not do this. Says nothing more.
    #[error("Unauthorized")]
    Unauthorized,
    #[error("{0}")]
    PrincipalUnauthorized(Denied),
    #[error("Registration not found.")]
    RegistrationNotFound,
    #[error("Enrollment not found.")]
    EnrollmentNotFound,
    #[error("Enrollment group not found.")]
    EnrollmentGroupNotFound,
    #[error("Operation not found.")]
    OperationNotFound,
    #[error("The enrollment already exists. Send its etag in If-Match to replace it.")]
    AlreadyExists,
    #[error("The etag does not match the stored one.")]
    PreconditionFailed,
    #[error("The message exceeds the limit of {} bytes.", base::caps::PROVISIONING_MESSAGE_BYTES_MAX)]
    MessageTooLarge,
    #[error("The service holds as many of these as it may.")]
    QuotaExceeded,
    #[error("The request has been throttled.")]
    Throttled { retry_after: Duration },
    #[error("The server is busy. Try again.")]
    ServerBusy,
    #[error("An internal error occurred.")]
    ServerError,
    /// A record changed between read and write. Retried by the operation; never leaves the crate.
    #[error("The entity changed meanwhile.")]
    Conflict,
}

impl Error {
    pub fn bad(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// The service's six digits (`dps.md` §0.4). What a door makes of the first three is its own affair.
    pub fn code(&self) -> u32 {
        match self {
            Self::BadRequest(_) => 400_004,
            Self::Unauthorized | Self::PrincipalUnauthorized(_) => 401_002,
            Self::QuotaExceeded => 403_000,
            Self::RegistrationNotFound | Self::EnrollmentNotFound => 404_201,
            Self::EnrollmentGroupNotFound => 404_202,
            Self::OperationNotFound => 404_203,
            Self::AlreadyExists | Self::Conflict => 409_000,
            Self::PreconditionFailed => 412_000,
            Self::MessageTooLarge => 413_000,
            Self::Throttled { .. } => 429_001,
            Self::ServerError => 500_000,
            Self::ServerBusy => 503_000,
        }
    }
}

impl From<Error> for Refused<Error> {
    /// Only credentials are judged before a device is known; what else goes wrong then is the server's.
    fn from(error: Error) -> Self {
        Self::new(error, "its enrollment could not be read")
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::PrincipalUnauthorized(denied)
    }
}

impl From<Throttled> for Error {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled { retry_after: throttled.retry_after }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            // Whoever asks again learns what became of it.
            StoreError::Busy | StoreError::Unknown(_) | StoreError::Unavailable(_) => Self::ServerBusy,
            _ => Self::ServerError,
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::CounterLimit { .. } => Self::QuotaExceeded,
            CommitError::Store(error) => error.into(),
        }
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask_again_is_told_so() {
        for error in [
            StoreError::Busy,
            StoreError::Unknown("no answer".into()),
            StoreError::Unavailable("gone".into()),
        ] {
            assert_eq!(Error::from(error), Error::ServerBusy);
        }
        assert_eq!(Error::from(StoreError::Closed), Error::ServerError);
    }
}
