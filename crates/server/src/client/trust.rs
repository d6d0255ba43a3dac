//! Whom our own clients believe: the certificates of one PEM file and nobody else.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientError, dial};

/// Whom we believe.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    pub fn only(pem: &str) -> Result<Self, ClientError> {
        Self::with(pem, rustls::crypto::aws_lc_rs::default_provider())
    }

    /// [`Self::only`] over TLS 1.3 with AES-128-GCM alone, so that servers that are compared do the same work.
    pub fn only_with_aes_128_gcm(pem: &str) -> Result<Self, ClientError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        Self::with(pem, provider)
    }

    fn with(pem: &str, provider: CryptoProvider) -> Result<Self, ClientError> {
        let trusted: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| ClientError::Trust)?;
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots.add(certificate.clone()).map_err(|_| ClientError::Trust)?;
        }
        let provider = Arc::new(provider);
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|_| ClientError::Trust)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OfTheFile { usual, trusted }))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Opens a TLS connection to a host whose certificate we believe.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, ClientError> {
        self.over(dial(host, port).await?, host, port).await
    }

    /// The same over a connection that is open, for protocols that begin in plain text.
    pub async fn over(
        &self,
        tcp: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Address(host.to_owned()))?;
        let stream = TlsConnector::from(self.0.clone()).connect(name, tcp).await;
        stream.map_err(|source| ClientError::Connect { address: format!("{host}:{port}"), source })
    }
}

/// The very certificate of the file is believed whatever it names: an operator's own need not name the address that we dial,
/// and one that signed itself is an authority too, which the usual rules refuse.
#[derive(Debug)]
struct OfTheFile {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OfTheFile {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
