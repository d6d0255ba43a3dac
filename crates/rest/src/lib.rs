//! Doors in over HTTP: wire ⇄ operation. `server` calls [`Front::serve`] for every connection; the doors call the domain.
//! It must never hold a rule: a handler parses, calls one operation and writes its answer.

pub mod admin;
pub mod blob;
pub mod body;
pub mod connection;
pub mod counted;
pub mod digital_twins;
pub mod entra;
pub mod front;
pub mod graph;
pub mod hub;
mod paging;
pub mod provisioning;
pub mod resource_manager;
pub mod router;
#[cfg(test)]
mod test_wire;
pub mod websocket;
pub mod wire;

use base::reading as json;

pub use connection::Connection;
pub use counted::Counted;
pub use front::{AnyDoor, Front, Served, mount};
pub use router::{Door, Fault, RouteInfo, Routes};
pub use wire::{Head, Request, Response};
