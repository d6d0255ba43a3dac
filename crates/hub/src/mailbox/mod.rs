//! The devices that are connected to this node: one mailbox per session, under its epoch. It is one end of the bus, and knows
//! neither the store nor what an operation is.

mod one;
mod registry;
#[cfg(test)]
mod tests;
mod under_way;

pub use self::one::Command;
pub(crate) use self::one::{Mailbox, MethodAnswer};
pub(crate) use self::registry::{Known, Mailboxes, UnderWay};
