//! Small clients of our own for the public wire: HTTPS and MQTT over TLS. The demo, the commands that ask a running server, and the
//! benchmarks use them. They must never take a shortcut that a client on another machine could not take.

mod https;
mod mqtt;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use https::{Answer, Https};
pub use mqtt::{Login, MqttClient};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{0} is not an address this client understands")]
    Address(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server refused the connection: {0}")]
    Refused(String),
    #[error("{method} {url} answered {status}: {body}")]
    Status { method: String, url: String, status: u16, body: String },
    #[error("no answer within {0} s")]
    Timeout(u64),
    #[error("the trust file holds no certificate")]
    Trust,
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Whom we believe: the certificates of one PEM file and nobody else.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    pub fn only(pem: &str) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|_| ClientError::Trust)?).map_err(|_| ClientError::Trust)?;
        }
        if roots.is_empty() {
            return Err(ClientError::Trust);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Opens a TLS connection to a host whose certificate we believe.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, ClientError> {
        let tcp = dial(host, port).await?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Address(host.to_owned()))?;
        let stream = TlsConnector::from(self.0.clone()).connect(name, tcp).await;
        stream.map_err(|source| ClientError::Connect { address: format!("{host}:{port}"), source })
    }
}

/// Opens a TCP connection. Names below `localhost` are this machine (RFC 6761), whatever the resolver thinks.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, ClientError> {
    let failed = |source| ClientError::Connect { address: format!("{host}:{port}"), source };
    let tcp = if host == "localhost" || host.ends_with(".localhost") {
        TcpStream::connect(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await.map_err(failed)?
    } else {
        TcpStream::connect((host, port)).await.map_err(failed)?
    };
    tcp.set_nodelay(true).map_err(failed)?;
    Ok(tcp)
}
