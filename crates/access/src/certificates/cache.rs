//! Minted leaves by name and address. Bounded, because a peer chooses the name before it is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base::Timestamp;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use super::{CACHE_MAX, CertificateError};

pub(super) type Name = (Option<String>, IpAddr);

#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Name, Leaf>>);

struct Leaf {
    certified: Arc<CertifiedKey>,
    renew_at: Timestamp,
}

impl Cache {
    /// The leaf for `name`, minted when there is none or the one at hand grows old. Minting happens outside the lock: two
    /// handshakes may mint the same leaf, and either will do.
    pub(super) fn get_or_mint(
        &self,
        name: Name,
        now: Timestamp,
        mint: impl FnOnce(&Name) -> Result<(Arc<CertifiedKey>, Timestamp), CertificateError>,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        if let Some(leaf) = self.0.lock().get(&name).filter(|leaf| leaf.renew_at > now) {
            return Ok(leaf.certified.clone());
        }
        let (certified, renew_at) = mint(&name)?;
        let mut leaves = self.0.lock();
        if leaves.len() >= CACHE_MAX {
            // Whoever fills the cache with names gains little: minting a leaf costs one signature, as the handshake itself does.
            leaves.clear();
        }
        leaves.insert(name, Leaf { certified: certified.clone(), renew_at });
        Ok(certified)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
