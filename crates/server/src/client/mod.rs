//! Small clients of our own for the public wire: HTTPS, what speaks through it, and MQTT over TLS. The demo, the commands that ask a running server, and the
//! benchmarks use them. They must never take a shortcut that a client on another machine could not take.

mod https;
mod management;
mod mqtt;
mod refusal;
mod service;
mod trust;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

pub use https::{Answer, Https};
pub use management::{Management, Variables, token, variable};
pub use mqtt::{Login, MqttClient};
pub use refusal::Refusal;
pub use service::ServiceApi;
pub use trust::Trust;

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
    /// What the service answered other than success.
    #[error("{0}")]
    Service(Refusal),
    /// An operation of Resource Manager that failed or goes on for ever.
    #[error("{0}")]
    Operation(String),
    #[error("`twinhub env` gives no {0}")]
    Variable(String),
    #[error("the connection string {0} lacks HostName, SharedAccessKeyName or a SharedAccessKey in base64")]
    ConnectionString(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Service(refusal)
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
