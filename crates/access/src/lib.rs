//! Who calls and what they may do: callers, permissions, roles, the directory with its token issuer, certificates.
//! Called by every operation's first line and by the doors. It must never know a protocol.

mod caller;
mod permission;

pub use caller::{Caller, Denied, Grant};
pub use permission::{Permission, Right};
