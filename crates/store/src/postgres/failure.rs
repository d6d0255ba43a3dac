//! What the database said, in the store's words. The texts are for the log.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::error::StoreError;

/// What a failure says about a transaction whose `COMMIT` was not sent yet, or was sent behind the statement that failed: it is
/// rolled back for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another transaction was faster, or the server chose ours to end a deadlock: the same may succeed.
    Again,
    /// The connection or the server is going.
    Gone,
    Other,
}

pub(super) fn kind(error: &Error) -> Kind {
    let Some(code) = error.code() else {
        return if error.is_closed() || is_of_the_wire(error) { Kind::Gone } else { Kind::Other };
    };
    let again = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DIVISION_BY_ZERO,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    if again.contains(code) {
        return Kind::Again;
    }
    // Class 08: connection exceptions. Class 57P: the operator intervened. 25P03: the server ended an idle transaction.
    let text = code.code();
    if text.starts_with("08") || text.starts_with("57P") || text == "25P03" || text == "25006" {
        return Kind::Gone;
    }
    Kind::Other
}

fn is_of_the_wire(error: &Error) -> bool {
    error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if is_named(&error, &["XX001", "XX002"]) {
            return Self::Corrupt(text(&error));
        }
        // Class 22, a value that the server refuses; 54, a limit of its own, as of a key in an index: no retry helps.
        if error.code().is_some_and(|code| code.code().starts_with("22") || code.code().starts_with("54")) {
            return Self::Refused(text(&error));
        }
        Self::Unavailable(text(&error))
    }
}

fn is_named(error: &Error, codes: &[&str]) -> bool {
    error.code().is_some_and(|code| codes.contains(&code.code()))
}

/// With the server's own words, which the driver's text leaves out.
pub(super) fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("the database says {}: {}", said.code().code(), said.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
