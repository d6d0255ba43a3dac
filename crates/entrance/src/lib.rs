//! What every door needs and none owns: the peer of a connection, the proof it has given, and how long a stranger may stay.
//! Called by the doors and by `server`, which fills a peer. It knows no protocol.

mod peer;

use std::time::Duration;

use base::caps;

pub use peer::{Peer, Proof};

/// How long a connection may last before its peer has proved who it is, its handshake included.
pub const STRANGERS_STAY: Duration = Duration::from_secs(caps::UNAUTHENTICATED_SECONDS_MAX);
