//! What every door needs and none owns: the peer of a connection, the proof it has given, how long a stranger may stay, and the
//! bytes inside a WebSocket. Called by the doors and by `server`, which fills a peer. It knows no protocol of a service.

mod peer;
pub mod websocket;

use std::time::Duration;

use base::caps;

pub use peer::{Peer, Proof};

/// How long a connection may last before its peer has proved who it is, its handshake included.
pub const STRANGERS_STAY: Duration = Duration::from_secs(caps::UNAUTHENTICATED_SECONDS_MAX);
