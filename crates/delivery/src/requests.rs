//! HTTP/1.1 to elsewhere, bare or over TLS: one connection for each request, few at a time, each with a deadline, and answers no larger
//! than the cap. What is asked and signed is the caller's affair.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base::caps;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use crate::trust::Trust;

/// Clones share their number.
#[derive(Clone)]
pub struct Requests {
    trust: Trust,
    turns: Arc<Semaphore>,
}

/// Where a request goes to.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) is_https: bool,
    /// A host, with its port if it is no usual one.
    pub(crate) authority: &'a str,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Requests {
    pub fn new(trust: Trust) -> Self {
        Self { trust, turns: Arc::new(Semaphore::new(caps::BLOB_REQUESTS_MAX)) }
    }

    /// Sends a request and gives whatever is answered; else what is in the way, in words for the log.
    pub(crate) async fn send(
        &self,
        to: Destination<'_>,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Answer, String> {
        let exchange = async {
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            let (host, port) = host_and_port(to).ok_or("its address has no host")?;
            let tcp = dial(host, port).await.map_err(|error| format!("cannot be reached: {error}"))?;
            if !to.is_https {
                return over(tcp, request).await;
            }
            let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
            let connector = TlsConnector::from(self.trust.config()?);
            let tls = connector.connect(name, tcp).await;
            over(tls.map_err(|error| format!("cannot be reached over TLS: {error}"))?, request).await
        };
        let late = Err(format!("did not answer within {} s", deadline.as_secs()));
        tokio::time::timeout(deadline, exchange).await.unwrap_or(late)
    }
}

/// A host without the brackets of IPv6.
fn host_and_port(to: Destination<'_>) -> Option<(&str, u16)> {
    let usual = if to.is_https { 443 } else { 80 };
    let (host, port) = match to.authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (to.authority, usual),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

/// Not every system's resolver knows names below `localhost`, which are this machine (RFC 6761).
async fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let tcp = if host == "localhost" || host.ends_with(".localhost") {
        TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await?
    } else {
        TcpStream::connect((host, port)).await?
    };
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let broken = |error: hyper::Error| format!("broke off: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, caps::BLOB_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("did not end its answer well: {error}"))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // What came before the connection ended is still to be read.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_usual_one_unless_it_is_said() {
        let of = |is_https, authority| host_and_port(Destination { is_https, authority });
        assert_eq!(of(true, "acct.example"), Some(("acct.example", 443)));
        assert_eq!(of(false, "acct.example"), Some(("acct.example", 80)));
        assert_eq!(of(true, "127.0.0.1:10000"), Some(("127.0.0.1", 10000)));
        assert_eq!((of(true, "[::1]:8"), of(true, "[::1]")), (Some(("::1", 8)), Some(("::1", 443))));
        assert_eq!((of(true, ""), of(true, "h:x")), (None, None));
    }
}
