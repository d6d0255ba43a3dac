//! `/jobs`: import and delete jobs, which this server does not run yet. It says so instead of looking broken.

use super::error::WireError;
use super::{At, Outcome};
use crate::wire::Request;

pub(super) async fn not_supported(_: At, _: Request) -> Outcome {
    Err(WireError::JobsNotSupported)
}
