//! TLS as every listener speaks it: 1.2 and 1.3, certificates by host name, client certificates asked for and never required.
//! Whether a client's certificate is acceptable is decided later, by the identity it claims; here its key is proven only.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use access::Certificates;
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Addresses for which a configuration is kept; more are made anew for each connection.
const CONFIGURATIONS_MAX: usize = 256;

/// Hands out the configuration for a connection. One per dialled address, since clients that dial an address and send no
/// name must find that address in the certificate.
pub(crate) struct Tls {
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
    made: Mutex<HashMap<(IpAddr, Protocol), Arc<ServerConfig>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Https,
    Mqtt,
}

impl Tls {
    pub(crate) fn new(certificates: Certificates) -> Self {
        Self { certificates, provider: Arc::new(aws_lc_rs::default_provider()), made: Mutex::default() }
    }

    pub(crate) fn configuration(&self, local: IpAddr, protocol: Protocol) -> Arc<ServerConfig> {
        let key = (local, protocol);
        if let Some(made) = self.made.lock().get(&key) {
            return made.clone();
        }
        let configuration = Arc::new(self.make(local, protocol));
        let mut made = self.made.lock();
        if made.len() < CONFIGURATIONS_MAX {
            made.insert(key, configuration.clone());
        }
        configuration
    }

    fn make(&self, local: IpAddr, protocol: Protocol) -> ServerConfig {
        let verifier = AnyClient { algorithms: self.provider.signature_verification_algorithms };
        let resolver = ByName { certificates: self.certificates.clone(), local };
        let mut configuration = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(resolver));
        // A device connects for hours: sessions to resume would cost memory and save nothing.
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        configuration.send_tls13_tickets = 0;
        if protocol == Protocol::Https {
            configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        configuration
    }
}

#[derive(Debug)]
struct ByName {
    certificates: Certificates,
    local: IpAddr,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let made = self.certificates.for_handshake(hello.server_name(), self.local);
        made.inspect_err(|error| tracing::warn!(%error, name = hello.server_name(), "no certificate")).ok()
    }
}

/// Accepts any chain whose first certificate is well formed and whose key the client proves to hold.
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyClient")
    }
}

impl AnyClient {
    /// Checks `signature` with the leaf's own key. webpki would refuse leaves of X.509 version 1, which older `openssl x509
    /// -req` makes and which devices carry, so the key is taken from the certificate here.
    fn verify(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let key = parsed.public_key();
        let candidates = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
        let (_, candidates) = candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let algorithm = key_algorithm(key.raw).ok_or(CertificateError::BadEncoding)?;
        let bits = &key.subject_public_key.data;
        let proven = candidates
            .iter()
            .filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
            .any(|candidate| candidate.verify_signature(bits, message, signature.signature()).is_ok());
        if proven {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        X509Certificate::from_der(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.3 has no PKCS#1 v1.5 and no SHA-1 signatures in handshakes.
        if !is_for_tls13(signature.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_for_tls13(scheme: SignatureScheme) -> bool {
    use SignatureScheme as S;
    matches!(
        scheme,
        S::ECDSA_NISTP256_SHA256
            | S::ECDSA_NISTP384_SHA384
            | S::ECDSA_NISTP521_SHA512
            | S::RSA_PSS_SHA256
            | S::RSA_PSS_SHA384
            | S::RSA_PSS_SHA512
            | S::ED25519
    )
}

/// What stands inside the `AlgorithmIdentifier` of a DER `SubjectPublicKeyInfo`: the form in which rustls names algorithms.
fn key_algorithm(subject_public_key_info: &[u8]) -> Option<&[u8]> {
    let (outer, _) = sequence(subject_public_key_info)?;
    let (algorithm, _) = sequence(outer)?;
    Some(algorithm)
}

/// The contents of the DER sequence that `der` begins with, and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x30, first, rest @ ..] = der else { return None };
    let (length, rest) = match *first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(length)
}
