//! HTTP/1.1 over TLS with one kept connection per host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{ClientError, Trust};

const TIMEOUT_SECONDS: u64 = 60;

/// Clones share the connections.
#[derive(Clone)]
pub struct Https {
    trust: Trust,
    timeout: Duration,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    idle: HashMap<String, Vec<SendRequest<Full<Bytes>>>>,
    drivers: JoinSet<()>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Https {
    pub fn new(trust: Trust) -> Self {
        Self { trust, timeout: Duration::from_secs(TIMEOUT_SECONDS), connections: Arc::default() }
    }

    /// The same connections, where an answer may take so long instead of a minute.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Sends a request and returns whatever the server answers, errors of the service included.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let exchange = async {
            let (key, response) = self.exchange(method, url, headers, body.into()).await?;
            let ((parts, body), sender) = (response.0.into_parts(), response.1);
            let body =
                body.collect().await.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes();
            self.connections.lock().idle.entry(key).or_default().push(sender);
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let late = ClientError::Timeout(self.timeout.as_secs());
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(late))
    }

    /// Like [`Self::send`], but anything other than success is an error that shows what the server said.
    pub async fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let answer = self.send(method, url, headers, body).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let body = String::from_utf8_lossy(&answer.body).chars().take(500).collect();
        Err(ClientError::Status {
            method: method.into(),
            url: url.into(),
            status: answer.status.as_u16(),
            body,
        })
    }

    /// Sends a request and hands out the body as it arrives, on a connection of its own.
    pub async fn follow(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<(StatusCode, Incoming), ClientError> {
        let (_, (response, _)) = self.exchange(method, url, headers, Bytes::new()).await?;
        Ok((response.status(), response.into_body()))
    }

    async fn exchange(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(String, (http::Response<Incoming>, SendRequest<Full<Bytes>>)), ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::Address(url.to_owned()))?;
        let authority = uri.authority().ok_or_else(|| ClientError::Address(url.to_owned()))?.to_string();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path).header("host", &authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|_| ClientError::Address(url.to_owned()))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let mut sender = self.sender(&authority, &host, uri.port_u16().unwrap_or(443)).await?;
        let response = sender.send_request(request).await;
        Ok((authority, (response.map_err(|error| ClientError::Broken(error.to_string()))?, sender)))
    }

    async fn sender(
        &self,
        key: &str,
        host: &str,
        port: u16,
    ) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let idle = || self.connections.lock().idle.get_mut(key).and_then(Vec::pop);
        while let Some(mut sender) = idle() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = self.trust.connect(host, port).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ClientError::Broken(error.to_string()))?;
        let mut connections = self.connections.lock();
        while connections.drivers.try_join_next().is_some() {}
        // What goes wrong with the connection shows at the request that uses it.
        connections.drivers.spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
