//! Who is at the other end of a connection, as far as the transport tells, and whether that somebody has proved who he is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Elapsed;
use base::hosts::Dialled;
use bytes::Bytes;

/// What the transport knows of the other side. Clones are cheap, and share the proof.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `None` counts as this machine.
    pub remote: Option<SocketAddr>,
    /// The address of ours that was dialled; a loopback address of an instance's own chooses that instance.
    pub local: Option<SocketAddr>,
    /// The host name of the TLS handshake.
    pub sni: Option<String>,
    /// When the connection was accepted; its handshake counts among the time that a stranger has. `None`: now.
    pub accepted_at: Option<Elapsed>,
    /// The chain that the client proved to hold, in DER, leaf first; nobody has judged it yet.
    pub client_certificates: Arc<[Bytes]>,
    pub proof: Proof,
}

impl Peer {
    pub fn remote_address(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip())
    }

    pub fn local_address(&self) -> Option<IpAddr> {
        self.local.map(|local| local.ip())
    }

    /// What the client called us in its handshake, and where it reached us.
    pub fn dialled(&self) -> Dialled {
        Dialled::new(self.sni.as_deref(), self.local_address())
    }
}

/// Whether the other side of a connection has ever proved who it is. Until then it may cost little and not for long. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub struct Proof(Arc<AtomicBool>);

impl Proof {
    pub fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_every_clone_of_a_peer() {
        let peer = Peer::default();
        let clone = peer.clone();
        assert!(!peer.proof.is_given());
        clone.proof.give();
        assert!(peer.proof.is_given());
    }
}
