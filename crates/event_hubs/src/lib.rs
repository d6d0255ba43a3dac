//! Event hubs of this server: namespaces, their event hubs, the authorization rules of both, and who may send.
//! Resource Manager makes and changes them; `events` asks before each delivery. The streams themselves are the affair of `events`.

mod authorization_rule;
mod error;
mod event_hub;
mod gate;
mod namespace;
mod namespaces;
#[cfg(test)]
mod tests;

pub use authorization_rule::{AccessRight, AuthorizationRule};
pub use error::Error;
pub use event_hub::EventHub;
pub use gate::Gate;
pub use namespace::{Namespace, NamespaceSettings};
pub use namespaces::{Context, Namespaces};
