//! Headers of requests as values, and blobs and containers as headers of answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use storage::{Blob, BlobHeaders, BlobKind, ByteRange, Caller, Conditions, Found, FoundContainer, Metadata};

use super::error::Refusal;
use crate::wire::{Head, Response};

pub(super) fn conditions(head: &Head) -> Result<Conditions, Refusal> {
    let tag = |name| head.header(name).map(|text| bare(text).to_owned());
    let date = |name: &'static str| {
        let text = head.header(name);
        text.map(|text| storage::shared_key::date(text).ok_or(Refusal::Header(name))).transpose()
    };
    let number = |name: &'static str| {
        head.header(name).map(|text| text.parse().map_err(|_| Refusal::Header(name))).transpose()
    };
    Ok(Conditions {
        if_match: tag("if-match"),
        if_none_match: tag("if-none-match"),
        if_modified_since: date("if-modified-since")?,
        if_unmodified_since: date("if-unmodified-since")?,
        append_position: number("x-ms-blob-condition-appendpos")?,
        length_max: number("x-ms-blob-condition-maxsize")?,
    })
}

fn bare(tag: &str) -> &str {
    tag.trim().trim_matches('"')
}

pub(super) fn metadata(head: &Head) -> Result<Metadata, Refusal> {
    let mut metadata = Metadata::new();
    for (name, value) in &head.headers {
        let Some(name) = name.as_str().strip_prefix("x-ms-meta-") else { continue };
        let value = value.to_str().map_err(|_| Refusal::Storage(storage::Error::InvalidMetadata))?;
        metadata.insert(name.to_owned(), value.to_owned());
    }
    Ok(metadata)
}

/// What the client wants answers to reads to carry. `Content-Type` and the like of the request itself count where it says nothing
/// else, and only when its body is the blob's.
pub(super) fn blob_headers(head: &Head, is_body_the_blobs: bool) -> BlobHeaders {
    let said = |own: &str, of_request: &str| {
        let of_request = || head.header(of_request).filter(|_| is_body_the_blobs);
        head.header(own).or_else(of_request).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    BlobHeaders {
        content_type: said("x-ms-blob-content-type", "content-type"),
        content_encoding: said("x-ms-blob-content-encoding", "content-encoding"),
        content_language: said("x-ms-blob-content-language", "content-language"),
        content_disposition: said("x-ms-blob-content-disposition", ""),
        cache_control: said("x-ms-blob-cache-control", "cache-control"),
        content_md5: said("x-ms-blob-content-md5", ""),
    }
}

/// What the body must sum up to.
pub(super) fn md5(head: &Head) -> Result<Option<[u8; 16]>, Refusal> {
    let Some(text) = head.header("content-md5") else { return Ok(None) };
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or(Refusal::Header("Content-MD5"))
}

pub(super) fn length(head: &Head) -> Result<Option<u64>, Refusal> {
    let text = head.header("content-length");
    text.map(|text| text.parse().map_err(|_| Refusal::Header("Content-Length"))).transpose()
}

/// `x-ms-range` stands before `Range`.
pub(super) fn range(head: &Head) -> Result<Option<ByteRange>, Refusal> {
    let text = head.header("x-ms-range").or_else(|| head.header("range"));
    Ok(text.map(ByteRange::parse).transpose().map_err(storage::Error::from)?)
}

/// An answer to a write.
pub(super) fn written(status: u16, found: &Found) -> Response {
    tagged(Response::empty(status), &found.etag, found.blob.modified)
        .header("x-ms-request-server-encrypted", "true")
}

pub(super) fn container_tagged(status: u16, found: &FoundContainer) -> Response {
    tagged(Response::empty(status), &found.etag, found.container.modified)
}

pub(super) fn tagged(response: Response, etag: &str, modified: base::Timestamp) -> Response {
    response.header("etag", &format!("\"{etag}\"")).header("last-modified", &modified.rfc1123())
}

pub(super) fn with_metadata(mut response: Response, metadata: &Metadata) -> Response {
    for (name, value) in metadata {
        response = response.header(&format!("x-ms-meta-{name}"), value);
    }
    response
}

/// Everything that is told of a blob beside its bytes.
pub(super) fn describe(response: Response, found: &Found, caller: &Caller, is_part: bool) -> Response {
    let Found { blob, etag } = found;
    let mut response = tagged(response, etag, blob.modified)
        .header("accept-ranges", "bytes")
        .header("x-ms-blob-type", blob.kind.name())
        .header("x-ms-creation-time", &blob.created.rfc1123())
        .header("x-ms-lease-state", "available")
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-server-encrypted", "true");
    response = match blob.kind {
        BlobKind::Append => response.header("x-ms-blob-committed-block-count", &blob.blocks.to_string()),
        BlobKind::Block => {
            response.header("x-ms-access-tier", "Hot").header("x-ms-access-tier-inferred", "true")
        }
    };
    let md5 = if is_part { "x-ms-blob-content-md5" } else { "content-md5" };
    for (name, value) in shown(blob, caller, md5) {
        if let Some(value) = value {
            response = response.header(name, value);
        }
    }
    with_metadata(response, &blob.metadata)
}

/// What a token sets stands before what is stored.
fn shown<'a>(blob: &'a Blob, caller: &'a Caller, md5: &'static str) -> [(&'static str, Option<&'a str>); 6] {
    let headers = &blob.headers;
    let stored_type = headers.content_type.as_deref().unwrap_or("application/octet-stream");
    let told =
        |field: &str, stored: &'a Option<String>| caller.overridden_header(field).or(stored.as_deref());
    [
        ("content-type", caller.overridden_header("rsct").or(Some(stored_type))),
        ("content-encoding", told("rsce", &headers.content_encoding)),
        ("content-language", told("rscl", &headers.content_language)),
        ("content-disposition", told("rscd", &headers.content_disposition)),
        ("cache-control", told("rscc", &headers.cache_control)),
        (md5, headers.content_md5.as_deref()),
    ]
}
