//! The certificates that a client presented in its handshake, where it proved to hold the key of the first one. Whoever knows the
//! identity that the client claims judges here whether they speak for it. Strangers send them: nothing is believed unread.

mod issuing;
#[cfg(test)]
mod tests;

use base::{Timestamp, caps};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) use issuing::is_proof;
pub use issuing::key_algorithm;

use crate::certificates::thumbprints;

/// The text with which the service's logs tell of a thumbprint that was not registered.
const OTHER_THUMBPRINT: &str = "the certificate's thumbprint does not match the one it is registered with";

/// A leaf and what came along with it, in the order of the handshake.
pub struct ClientCertificates<'a> {
    leaf_der: &'a [u8],
    leaf: X509Certificate<'a>,
    others: Vec<X509Certificate<'a>>,
}

impl<'a> ClientCertificates<'a> {
    /// What a handshake brought, leaf first. The error says, for the log, what is wrong with it.
    pub fn read(chain: &'a [impl AsRef<[u8]>]) -> Result<Self, &'static str> {
        let [leaf, others @ ..] = chain else { return Err("it presented no certificate") };
        if chain.len() > caps::CLIENT_CERTIFICATES_MAX {
            return Err("it presented too many certificates");
        }
        let read = |der: &'a [u8]| {
            let is_small = der.len() <= caps::CERTIFICATE_BYTES_MAX;
            let read = X509Certificate::from_der(der).ok().filter(|(rest, _)| is_small && rest.is_empty());
            read.map(|(_, certificate)| certificate).ok_or("it presented a certificate that cannot be read")
        };
        let leaf_der = leaf.as_ref();
        let others = others.iter().map(|der| read(der.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { leaf_der, leaf: read(leaf_der)?, others })
    }

    /// Whether the leaf has one of the registered thumbprints, which are SHA-1 or SHA-256 in hex.
    pub fn match_thumbprint<'t>(
        &self,
        registered: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), &'static str> {
        let presented = thumbprints(self.leaf_der);
        let is_presented =
            |thumbprint: &str| presented.iter().any(|presented| presented.eq_ignore_ascii_case(thumbprint));
        if registered.into_iter().any(is_presented) { Ok(()) } else { Err(OTHER_THUMBPRINT) }
    }

    /// Whether the leaf is issued to `name`, and a chain of certificates that are valid now leads from it to one of `anchors`, which are certificates in DER.
    pub fn lead_to(
        &self,
        anchors: &[impl AsRef<[u8]>],
        name: &str,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        if issuing::common_name(&self.leaf) != Some(name) {
            return Err("the common name of its certificate is not its id");
        }
        if !issuing::is_valid_at(&self.leaf, now) {
            return Err("its certificate is not valid yet, or no longer");
        }
        issuing::check_leaf(&self.leaf)?;
        let read = |anchor| issuing::read_anchor(AsRef::as_ref(anchor), now);
        let anchors: Vec<_> = anchors.iter().filter_map(read).collect();
        if self.is_issued_below(&anchors, now) {
            return Ok(());
        }
        Err("its certificate leads to no CA certificate of the hub that is verified and valid now")
    }

    /// Looks level by level, so that a certificate is reached on its shortest way from the leaf and looked at once.
    fn is_issued_below(&self, anchors: &[X509Certificate<'_>], now: Timestamp) -> bool {
        let mut unreached: Vec<&X509Certificate<'_>> = self.others.iter().collect();
        let mut level = vec![&self.leaf];
        let mut below = 0;
        while !level.is_empty() {
            let is_below = |issuer: &X509Certificate<'_>| level.iter().any(|at| issuing::issued(issuer, at));
            if anchors.iter().any(is_below) {
                return true;
            }
            let (next, rest) = unreached
                .into_iter()
                .partition(|issuer| issuing::may_issue(issuer, below, now) && is_below(issuer));
            (level, unreached) = (next, rest);
            below += 1;
        }
        false
    }
}
