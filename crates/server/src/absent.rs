//! The door of a service that this build does not have: it says so.

use rest::router::{Door, Fault, RouteInfo, Routes};
use rest::wire::{Head, Response};

#[derive(Clone)]
pub(crate) struct Absent;

impl Door for Absent {
    type Context = ();

    fn routes() -> Routes<Self> {
        Routes::new()
    }

    async fn authenticate(&self, _: &Head, _: &RouteInfo) -> Result<(), Response> {
        Ok(())
    }

    fn refuse(&self, _: &Head, _: Fault) -> Response {
        Response::text(501, "This build has no such service.\n")
    }
}
