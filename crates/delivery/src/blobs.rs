//! A client of the blob service of one storage account: what a hub and its jobs need of one (`messaging.md` §4). Requests are signed
//! with the account's key, or carry the signature that its connection string has.

use std::time::Duration;

use base::{Clock, Timestamp, caps};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use storage::{AccountAddress, BlobName, ContainerName, Credential, shared_key};

use crate::listing::Listing;
use crate::requests::{Answer, Destination, Requests};

/// What every blob service of today knows.
const VERSION: &str = "2020-10-02";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Nobody answered, or not in time: worth another try.
    #[error("{account} {why}")]
    Unreachable { account: String, why: String },
    #[error("{account} answered {status}{}", code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused { account: String, status: u16, code: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobProperties {
    pub size_bytes: u64,
    pub last_modified: Timestamp,
}

/// One account.
pub struct Account<'a> {
    address: &'a AccountAddress,
    requests: &'a Requests,
    clock: &'a Clock,
    deadline: Duration,
}

/// A request before it is signed.
struct Ask<'a> {
    method: &'static str,
    path: String,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
    body: Bytes,
}

impl<'a> Account<'a> {
    pub fn new(address: &'a AccountAddress, requests: &'a Requests, clock: &'a Clock) -> Self {
        let deadline = Duration::from_secs(caps::BLOB_REQUEST_SECONDS_MAX);
        Self { address, requests, clock, deadline }
    }

    /// For those who cannot wait as long as most.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// `None`: there is no such blob, or no such container.
    pub async fn properties(
        &self,
        container: &ContainerName,
        blob: &BlobName,
    ) -> Result<Option<BlobProperties>, DeliveryError> {
        let path = self.address.blob_path(container, blob);
        let Some(answer) = self.found(Ask::new("HEAD", path)).await? else { return Ok(None) };
        let size = answer.header("content-length").and_then(|length| length.parse().ok());
        let last_modified = answer.header("last-modified").and_then(shared_key::date);
        match (size, last_modified) {
            (Some(size_bytes), Some(last_modified)) => Ok(Some(BlobProperties { size_bytes, last_modified })),
            _ => Err(self.unreachable("does not say how large the blob is and since when".to_owned())),
        }
    }

    /// A blob as a whole, where it is no larger than an answer may be.
    pub async fn get(
        &self,
        container: &ContainerName,
        blob: &BlobName,
    ) -> Result<Option<Bytes>, DeliveryError> {
        let path = self.address.blob_path(container, blob);
        Ok(self.found(Ask::new("GET", path)).await?.map(|answer| answer.body))
    }

    /// Up to `most` bytes of a blob from `from` on, and how long it is. `None`: there is no such blob, or no such container.
    pub async fn get_range(
        &self,
        container: &ContainerName,
        blob: &BlobName,
        from: u64,
        most: usize,
    ) -> Result<Option<(Bytes, u64)>, DeliveryError> {
        let last = from.saturating_add(most as u64).saturating_sub(1);
        let range = format!("bytes={from}-{last}");
        let headers = [("x-ms-range", range.as_str())];
        let path = self.address.blob_path(container, blob);
        let answer = self.send(Ask { headers: &headers, ..Ask::new("GET", path) }).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            // It ends before, or is empty.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let found = self.properties(container, blob).await?;
                Ok(found.map(|blob| (Bytes::new(), blob.size_bytes)))
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {
                let total =
                    answer.header("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok());
                let total = total.unwrap_or_else(|| answer.body.len() as u64);
                Ok(Some((answer.body, total)))
            }
            _ => Err(self.refused(&answer)),
        }
    }

    /// Put Block: it waits for being committed.
    pub async fn put_block(
        &self,
        container: &ContainerName,
        blob: &BlobName,
        block_id: &str,
        body: Bytes,
    ) -> Result<(), DeliveryError> {
        let query = [("comp", "block"), ("blockid", block_id)];
        let path = self.address.blob_path(container, blob);
        let answer = self.send(Ask { query: &query, body, ..Ask::new("PUT", path) }).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// Put Block List: the blob consists of these blocks from now on. Ids of base64 need no escapes in XML.
    pub async fn put_block_list(
        &self,
        container: &ContainerName,
        blob: &BlobName,
        block_ids: &[String],
        content_type: &str,
    ) -> Result<(), DeliveryError> {
        let blocks: String = block_ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>");
        let headers = [("x-ms-blob-content-type", content_type), ("content-type", "application/xml")];
        let path = self.address.blob_path(container, blob);
        let ask = Ask {
            query: &[("comp", "blocklist")],
            headers: &headers,
            body: body.into(),
            ..Ask::new("PUT", path)
        };
        let answer = self.send(ask).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// Makes a block blob, or replaces it.
    pub async fn put(
        &self,
        container: &ContainerName,
        blob: &BlobName,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), DeliveryError> {
        let headers = [("x-ms-blob-type", "BlockBlob"), ("content-type", content_type)];
        let path = self.address.blob_path(container, blob);
        let answer = self.send(Ask { headers: &headers, body, ..Ask::new("PUT", path) }).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// Whether it was there.
    pub async fn delete(&self, container: &ContainerName, blob: &BlobName) -> Result<bool, DeliveryError> {
        let path = self.address.blob_path(container, blob);
        Ok(self.found(Ask::new("DELETE", path)).await?.is_some())
    }

    pub async fn has_container(&self, container: &ContainerName) -> Result<bool, DeliveryError> {
        let path = self.address.container_path(container);
        let ask = Ask { query: &[("restype", "container")], ..Ask::new("HEAD", path) };
        Ok(self.found(ask).await?.is_some())
    }

    /// Makes the container where it is not there.
    pub async fn ensure_container(&self, container: &ContainerName) -> Result<(), DeliveryError> {
        let path = self.address.container_path(container);
        let answer = self.send(Ask { query: &[("restype", "container")], ..Ask::new("PUT", path) }).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::CONFLICT => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Names that begin with `prefix`, in their order, from the marker of the page before on. Of a container that is not there none.
    pub async fn list(
        &self,
        container: &ContainerName,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<Listing, DeliveryError> {
        let mut query = vec![("restype", "container"), ("comp", "list"), ("prefix", prefix)];
        query.extend(marker.map(|marker| ("marker", marker)));
        let path = self.address.container_path(container);
        let answer = self.found(Ask { query: &query, ..Ask::new("GET", path) }).await?;
        Ok(answer.map(|answer| Listing::parse(&String::from_utf8_lossy(&answer.body))).unwrap_or_default())
    }

    /// An answer of success, or `None` for what is not there.
    async fn found(&self, ask: Ask<'_>) -> Result<Option<Answer>, DeliveryError> {
        let answer = self.send(ask).await?;
        match answer.status {
            status if status.is_success() => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(&answer)),
        }
    }

    async fn send(&self, ask: Ask<'_>) -> Result<Answer, DeliveryError> {
        let request = self.signed(ask).map_err(|error| self.unreachable(error.to_string()))?;
        let AccountAddress { is_https, authority, .. } = self.address;
        let to = Destination { is_https: *is_https, authority };
        self.requests.send(to, request, self.deadline).await.map_err(|why| self.unreachable(why))
    }

    fn signed(&self, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
        let (date, length) = (self.clock.now().rfc1123(), ask.body.len().to_string());
        let own = [("x-ms-version", VERSION), ("x-ms-date", date.as_str())];
        let mut headers: Vec<(&str, &str)> = own.into_iter().chain(ask.headers.iter().copied()).collect();
        if ask.method == "PUT" {
            headers.push(("content-length", &length));
        }
        let escaped = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
        let mut query: Vec<String> =
            ask.query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let mut request = Request::builder().method(ask.method).header("host", &self.address.authority);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let Ask { method: verb, path, query: said, .. } = &ask;
        match &self.address.credential {
            Credential::Key(key) => {
                let signed = shared_key::Request { verb, headers: &headers, path, query: said };
                let authorization = shared_key::sign(signed, &self.address.name, key);
                request = request.header("authorization", authorization);
            }
            Credential::Signature(signature) => query.push(signature.expose().to_owned()),
        }
        let separator = if query.is_empty() { "" } else { "?" };
        request.uri(format!("{path}{separator}{}", query.join("&"))).body(Full::new(ask.body))
    }

    fn unreachable(&self, why: String) -> DeliveryError {
        DeliveryError::Unreachable { account: self.address.to_string(), why }
    }

    fn refused(&self, answer: &Answer) -> DeliveryError {
        let code = answer.header("x-ms-error-code").map(str::to_owned);
        DeliveryError::Refused { account: self.address.to_string(), status: answer.status.as_u16(), code }
    }
}

impl Ask<'_> {
    fn new(method: &'static str, path: String) -> Self {
        Self { method, path, query: &[], headers: &[], body: Bytes::new() }
    }
}
