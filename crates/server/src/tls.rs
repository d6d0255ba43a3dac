//! TLS as every listener speaks it: 1.2 and 1.3, certificates by host name, of RSA for who can do nothing else, client
//! certificates asked for and never required. Whether a client's certificate is acceptable is decided later, by the identity it claims; here its key is proven only.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::client_certificates::key_algorithm;
use access::{Certificates, KeyKind};
use base::{Clock, Elapsed, caps};
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

const TLS12_ALONE: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Hands out the configuration for a connection. One per dialled address, since clients that dial an address and send no
/// name must find that address in the certificate.
pub(crate) struct Tls {
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
    made: Mutex<HashMap<(IpAddr, Protocol, Chain), Arc<ServerConfig>>>,
    clock: Clock,
    rsa: Arc<Mutex<RsaChain>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Https,
    Mqtt,
}

/// What a client is served with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Chain {
    Ecdsa,
    Rsa,
    /// In TLS 1.3 an RSA key signs with PSS alone, which this client does not offer.
    RsaInTls12,
}

/// Whether the chain with RSA keys is there. It is made once, by whoever needs it first, on a thread of its own.
enum RsaChain {
    NotYet {
        failed_at: Option<Elapsed>,
    },
    /// Closed when it is over, well or not.
    Making(watch::Receiver<()>),
    There,
}

impl Chain {
    /// RSA is for who offers nothing else, and only if it offers that.
    fn for_client(hello: &ClientHello<'_>, provider: &CryptoProvider) -> Self {
        use SignatureScheme as S;
        let (mut in_tls13, mut ecdsa_in_tls12, mut rsa_in_tls12) = (false, false, false);
        for suite in &provider.cipher_suites {
            if !hello.cipher_suites().contains(&suite.suite()) {
                continue;
            }
            match suite {
                SupportedCipherSuite::Tls13(_) => in_tls13 = true,
                SupportedCipherSuite::Tls12(suite) => {
                    ecdsa_in_tls12 |= suite.sign.contains(&S::ECDSA_NISTP256_SHA256);
                    rsa_in_tls12 |= suite.sign.contains(&S::RSA_PKCS1_SHA256);
                }
            }
        }
        let verifies =
            |schemes: &[S]| schemes.iter().any(|scheme| hello.signature_schemes().contains(scheme));
        let pss = verifies(&[S::RSA_PSS_SHA256, S::RSA_PSS_SHA384, S::RSA_PSS_SHA512]);
        let pkcs1 = verifies(&[S::RSA_PKCS1_SHA256, S::RSA_PKCS1_SHA384, S::RSA_PKCS1_SHA512]);
        if verifies(&[S::ECDSA_NISTP256_SHA256]) && (in_tls13 || ecdsa_in_tls12) {
            Self::Ecdsa
        } else if pss && (in_tls13 || rsa_in_tls12) || pkcs1 && rsa_in_tls12 && !in_tls13 {
            Self::Rsa
        } else if pkcs1 && rsa_in_tls12 {
            Self::RsaInTls12
        } else {
            Self::Ecdsa
        }
    }
}

impl Tls {
    pub(crate) fn new(certificates: Certificates, clock: Clock) -> Self {
        Self {
            certificates,
            provider: Arc::new(aws_lc_rs::default_provider()),
            made: Mutex::default(),
            clock,
            rsa: Arc::new(Mutex::new(RsaChain::NotYet { failed_at: None })),
        }
    }

    /// What a client that says `hello` is served with. The first that can do RSA alone waits until there are keys.
    pub(crate) async fn configuration(
        &self,
        hello: ClientHello<'_>,
        local: IpAddr,
        protocol: Protocol,
    ) -> Arc<ServerConfig> {
        let chain = Chain::for_client(&hello, &self.provider);
        if chain != Chain::Ecdsa {
            self.rsa_is_there().await;
        }
        self.configuration_of(chain, local, protocol)
    }

    fn configuration_of(&self, chain: Chain, local: IpAddr, protocol: Protocol) -> Arc<ServerConfig> {
        let key = (local, protocol, chain);
        if let Some(made) = self.made.lock().get(&key) {
            return made.clone();
        }
        let configuration = Arc::new(self.make(local, protocol, chain));
        let mut made = self.made.lock();
        if made.len() < caps::TLS_CONFIGURATIONS_MAX {
            made.insert(key, configuration.clone());
        }
        configuration
    }

    /// Waits for the chain with RSA keys, if it can be had. Strangers make the server compute it once and no more: what has
    /// failed is not tried again at once.
    async fn rsa_is_there(&self) {
        let mut over = {
            let mut rsa = self.rsa.lock();
            match &*rsa {
                RsaChain::There => return,
                RsaChain::Making(over) => over.clone(),
                RsaChain::NotYet { failed_at: Some(at) }
                    if self.clock.elapsed().since(*at) < Duration::from_secs(caps::RSA_RETRY_SECONDS) =>
                {
                    return;
                }
                RsaChain::NotYet { .. } => {
                    let (end, over) = watch::channel(());
                    *rsa = RsaChain::Making(over.clone());
                    self.make_rsa(end);
                    over
                }
            }
        };
        // Nothing is ever sent: an error says that it is over.
        let _ = over.changed().await;
    }

    fn make_rsa(&self, end: watch::Sender<()>) {
        let (certificates, rsa, clock) = (self.certificates.clone(), self.rsa.clone(), self.clock.clone());
        tokio::task::spawn_blocking(move || {
            let made = certificates.open_rsa();
            *rsa.lock() = match made {
                Ok(()) => RsaChain::There,
                Err(error) => {
                    tracing::warn!(%error, "there are no certificates for clients that can do RSA alone");
                    RsaChain::NotYet { failed_at: Some(clock.elapsed()) }
                }
            };
            drop(end);
        });
    }

    fn make(&self, local: IpAddr, protocol: Protocol, chain: Chain) -> ServerConfig {
        let verifier = AnyClient { algorithms: self.provider.signature_verification_algorithms };
        let (kind, versions) = match chain {
            Chain::Ecdsa => (KeyKind::Ecdsa, rustls::DEFAULT_VERSIONS),
            Chain::Rsa => (KeyKind::Rsa, rustls::DEFAULT_VERSIONS),
            Chain::RsaInTls12 => (KeyKind::Rsa, TLS12_ALONE),
        };
        let resolver = ByName { certificates: self.certificates.clone(), kind, local };
        let mut configuration = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
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
    kind: KeyKind,
    local: IpAddr,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let made = self.certificates.for_handshake(self.kind, hello.server_name(), self.local);
        made.inspect_err(|error| match error {
            // Why not was told when it could not be made.
            access::certificates::CertificateError::NotYet => {}
            error => tracing::warn!(%error, name = hello.server_name(), "no certificate"),
        })
        .ok()
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

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{
        CipherSuite, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection,
    };

    use super::*;

    /// X.509 version 1, as `openssl x509 -req` of OpenSSL 3.0 makes it when it is given no extensions.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGjCBwQIUC0bgKHV+oH4UxOgV9xN2al6L1dswCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwIBcNMjYxMTIyMDMxMDMxWhgPMjEyNjEwMjkwMzEwMzFaMBExDzAN
BgNVBAMMBmRldi12MTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFmESr/XRiKD
iLXGi1Xka9JWxO3if4uiswMzcrDN+KsCY67brzofQz9qJmDvBnyG9VhPoz+oNfXR
gyevoy9PYGQwCgYIKoZIzj0EAwIDSAAwRQIgLS66oZxKyTuw5LP+n2g0DlX2m62E
buDQllA4vfdcNLACIQDfS4Tz9WppTt4Bez5JERP+j2drNmBi5dGS4siQeBiBeg==
-----END CERTIFICATE-----
";
    const VERSION_1_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgt1KR6wTCIKUQTkgj
uQsqVv2MOyOmwUU6f9+MWaSuoR+hRANCAARZhEq/10Yig4i1xotV5GvSVsTt4n+L
orMDM3KwzfirAmOu2686H0M/aiZg7wZ8hvVYT6M/qDX10YMnr6MvT2Bk
-----END PRIVATE KEY-----
";

    type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    fn version_1() -> Identity {
        let certificate = CertificateDer::from_pem_slice(VERSION_1.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(VERSION_1_KEY.as_bytes()).unwrap())
    }

    fn self_signed(algorithm: &'static rcgen::SignatureAlgorithm) -> Identity {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Shakes hands in memory and gives the certificates that the server saw.
    fn shake(version: ProtocolVersion, client: Option<Identity>) -> Result<usize, Error> {
        let directory = tempfile::tempdir().unwrap();
        let secrets = access::ServerSecrets::Files(directory.path().to_owned());
        let certificates = Certificates::open(&secrets, Clock::system()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&certificates.files().ca).unwrap()).unwrap();
        let versions: &[&rustls::SupportedProtocolVersion] = match version {
            ProtocolVersion::TLSv1_2 => &[&rustls::version::TLS12],
            _ => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                // Without rustls' own check that certificate and key belong together, so that a thief can try.
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let identity = Arc::new(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                    Arc::unwrap_or_clone(identity),
                )))
            }
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let tls = Tls::new(certificates, Clock::system());
        let configuration = tls.configuration_of(Chain::Ecdsa, IpAddr::from([127, 0, 0, 1]), Protocol::Mqtt);
        let mut server = ServerConnection::new(configuration).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut to_server = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut to_server).unwrap();
            }
            pass(&to_server, |bytes| server.read_tls(bytes));
            server.process_new_packets()?;
            let mut to_client = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut to_client).unwrap();
            }
            pass(&to_client, |bytes| client.read_tls(bytes));
            client.process_new_packets()?;
        }
        assert_eq!(server.protocol_version(), Some(version));
        Ok(server.peer_certificates().map_or(0, <[_]>::len))
    }

    fn pass(bytes: &[u8], mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            read(&mut rest).unwrap();
        }
    }

    const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

    #[test]
    fn a_client_may_come_without_a_certificate() {
        for version in VERSIONS {
            assert_eq!(shake(version, None).unwrap(), 0);
        }
    }

    /// What a server thinks of a client that offers these suites and signatures.
    fn chain_for(suites: &[CipherSuite], schemes: &[SignatureScheme]) -> Chain {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
        let all = provider.signature_verification_algorithms;
        let mapping: Vec<_> =
            all.mapping.iter().filter(|(scheme, _)| schemes.contains(scheme)).copied().collect();
        // The provider wants it for as long as the process lives.
        provider.signature_verification_algorithms =
            WebPkiSupportedAlgorithms { mapping: mapping.leak(), ..all };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().unwrap_or_else(|_| panic!("a hello")).expect("all of it");
        Chain::for_client(&accepted.client_hello(), &aws_lc_rs::default_provider())
    }

    #[test]
    fn rsa_is_for_who_offers_nothing_else() {
        use CipherSuite as C;
        use SignatureScheme as S;
        let all_suites: Vec<_> =
            aws_lc_rs::default_provider().cipher_suites.iter().map(SupportedCipherSuite::suite).collect();
        let tls13 = C::TLS13_AES_128_GCM_SHA256;
        let rsa = C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        let ecdsa = C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        let (p256, p384, pkcs1, pss) =
            (S::ECDSA_NISTP256_SHA256, S::ECDSA_NISTP384_SHA384, S::RSA_PKCS1_SHA256, S::RSA_PSS_SHA256);
        for (suites, schemes, expected) in [
            (&all_suites[..], &[p256, pkcs1, pss][..], Chain::Ecdsa),
            (&[ecdsa, rsa], &[p256, pkcs1], Chain::Ecdsa),
            (&[tls13], &[p256], Chain::Ecdsa),
            (&[tls13, rsa], &[p256, pkcs1], Chain::Ecdsa),
            (&[rsa], &[p256, pkcs1], Chain::Rsa),
            (&[rsa], &[pkcs1], Chain::Rsa),
            (&[ecdsa, rsa], &[pss], Chain::Rsa),
            (&[ecdsa, rsa], &[p384, pkcs1], Chain::Rsa),
            (&[tls13], &[pss], Chain::Rsa),
            (&[tls13, rsa], &[pkcs1, pss], Chain::Rsa),
            (&[tls13, rsa], &[pkcs1], Chain::RsaInTls12),
            (&all_suites, &[pkcs1], Chain::RsaInTls12),
            // Nothing helps these, and no key is made for them.
            (&[tls13], &[pkcs1], Chain::Ecdsa),
            (&[ecdsa], &[pkcs1, pss], Chain::Ecdsa),
            (&[rsa], &[p256], Chain::Ecdsa),
            (&[tls13], &[p384], Chain::Ecdsa),
        ] {
            assert_eq!(chain_for(suites, schemes), expected, "{suites:?} with {schemes:?}");
        }
    }

    #[tokio::test]
    async fn keys_of_rsa_are_made_once_and_a_failure_is_not_repeated_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = access::ServerSecrets::Files(directory.path().to_owned());
        let certificates = Certificates::open(&secrets, Clock::system()).unwrap();
        let clock = Clock::manual(base::Timestamp::from_unix_seconds(1_700_000_000));
        let tls = Tls::new(certificates.clone(), clock.clone());
        let in_the_way = directory.path().join("ca-rsa-key.pem");
        std::fs::create_dir(&in_the_way).unwrap();
        let is_there = async || {
            let strangers = (tls.rsa_is_there(), tls.rsa_is_there(), tls.rsa_is_there());
            tokio::join!(strangers.0, strangers.1, strangers.2);
            let local = IpAddr::from([127, 0, 0, 1]);
            certificates.for_handshake(KeyKind::Rsa, None, local).is_ok()
        };
        assert!(!is_there().await);
        std::fs::remove_dir(&in_the_way).unwrap();
        clock.advance(Duration::from_secs(caps::RSA_RETRY_SECONDS - 1));
        assert!(!is_there().await, "too soon");
        assert!(!in_the_way.exists(), "nothing was tried");
        clock.advance(Duration::from_secs(1));
        assert!(is_there().await);
        std::fs::remove_file(&in_the_way).unwrap();
        assert!(is_there().await);
        assert!(!in_the_way.exists(), "nothing was made again");
    }

    #[test]
    fn any_certificate_is_taken_whose_key_is_proven() {
        for version in VERSIONS {
            for algorithm in
                [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256]
            {
                assert_eq!(shake(version, Some(self_signed(algorithm))).unwrap(), 1, "{version:?}");
            }
            assert_eq!(shake(version, Some(version_1())).unwrap(), 1, "X.509 version 1, {version:?}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        for version in VERSIONS {
            let (chain, _) = version_1();
            let (_, other_key) = self_signed(&rcgen::PKCS_ECDSA_P256_SHA256);
            let refused = shake(version, Some((chain, other_key)));
            assert_eq!(refused, Err(CertificateError::BadSignature.into()), "{version:?}");
        }
    }
}
