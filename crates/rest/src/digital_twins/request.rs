//! Parts of a request that several operations share: versions, ids, conditions, page sizes, bodies, links.

use std::str::FromStr;

use base::json::Object;
use base::{Continuation, IfMatch, IfNoneMatch, caps};
use digital_twins::Dtmi;
use digital_twins::json_patch::{self, Operation};
use digital_twins::{DigitalTwinId, Error};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::WireError;
use crate::wire::{Head, Request, Response};

/// A published version of the data plane (§1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiVersion {
    /// Twins without `$lastUpdateTime`.
    V20201031,
    Later,
}

impl ApiVersion {
    pub(super) fn of(head: &Head) -> Result<Self, WireError> {
        match head.api_version() {
            None => Err(WireError::ApiVersionUnspecified),
            Some("2020-10-31") => Ok(Self::V20201031),
            Some(
                "2021-06-30-preview" | "2022-05-31" | "2023-02-27-preview" | "2023-06-30" | "2023-10-31",
            ) => Ok(Self::Later),
            Some(other) => {
                Err(WireError::UnsupportedApiVersion(other.chars().take(caps::ID_CHARACTERS_MAX).collect()))
            }
        }
    }

    /// A document as this version shows it.
    pub(super) fn document(self, document: &Object) -> Object {
        let mut document = document.clone();
        if self == Self::V20201031 {
            document.values_mut().for_each(drop_update_times);
            drop_own_update_time(&mut document);
        }
        document
    }

    /// A row of a query as this version shows it; rows hold twins at any place.
    pub(super) fn row(self, row: &mut Value) {
        if self == Self::V20201031 {
            drop_update_times(row);
        }
    }
}

fn drop_own_update_time(members: &mut Object) {
    if let Some(Value::Object(metadata)) = members.get_mut("$metadata") {
        metadata.shift_remove("$lastUpdateTime");
    }
}

fn drop_update_times(value: &mut Value) {
    if let Value::Object(members) = value {
        drop_own_update_time(members);
        members.values_mut().for_each(drop_update_times);
    }
}

pub(super) fn twin_id(request: &Request) -> Result<DigitalTwinId, Error> {
    request.param("id").parse().map_err(|_| Error::DigitalTwinIdInvalid)
}

pub(super) fn model_id(text: &str) -> Result<Dtmi, Error> {
    text.parse().map_err(|_| Error::ModelIdInvalid(text.chars().take(caps::ID_CHARACTERS_MAX).collect()))
}

/// `*` or an etag as it was handed out; nothing looser, which `--etag AAAA==` of the CLI's tests relies on.
pub(super) fn if_match(head: &Head) -> Result<IfMatch, Error> {
    let mut values = head.headers.get_all("if-match").iter();
    let Some(value) = values.next() else { return Ok(IfMatch::Absent) };
    let text = value.to_str().map_err(|_| Error::IfMatchInvalid)?.trim();
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let tag = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // A list of tags, in one header or in several, is more than the service takes.
    let is_tag = tag.is_some_and(|tag| !tag.is_empty() && !tag.contains('"'));
    if values.next().is_some() {
        return Err(Error::IfMatchInvalid);
    }
    if text == "*" || is_tag { Ok(IfMatch::parse(Some(text))) } else { Err(Error::IfMatchInvalid) }
}

pub(super) fn if_none_match(head: &Head) -> IfNoneMatch {
    let value = head.headers.get("if-none-match");
    IfNoneMatch::parse(value.map(|value| value.to_str().unwrap_or("not text")))
}

/// A hint: a greater number than the service allows is cut, nonsense is refused.
pub(super) fn page_max(head: &Head) -> Result<Option<usize>, Error> {
    let name = "max-items-per-page";
    let Some(value) = head.headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| usize::from_str(text.trim()).ok()).filter(|n| *n > 0);
    number.map(Some).ok_or(Error::ArgumentInvalid(name))
}

pub(super) fn flag(head: &Head, name: &'static str) -> Result<bool, Error> {
    match head.query(name) {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(Error::ArgumentInvalid(name)),
    }
}

pub(super) fn body(request: &Request) -> Result<Value, Error> {
    let value: Value = request.json().map_err(|_| Error::PayloadInvalid)?;
    if base::json::depth(&value) > caps::JSON_DEPTH_MAX { Err(Error::PayloadInvalid) } else { Ok(value) }
}

pub(super) fn object(request: &Request) -> Result<Object, Error> {
    match body(request)? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::PayloadInvalid),
    }
}

/// An object of known members. Never a list: a derived reader would take one for the members in their order.
pub(super) fn members<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    serde_json::from_value(Value::Object(object(request)?)).map_err(|_| Error::PayloadInvalid)
}

pub(super) fn patch(request: &Request) -> Result<Vec<Operation>, Error> {
    Ok(json_patch::parse(&request.body)?)
}

const TOKEN: &str = "continuationToken";

pub(super) fn continuation(head: &Head) -> Option<Continuation> {
    head.query(TOKEN).map(Continuation::from_client)
}

/// The same request for the next page, absolute: clients fetch it as it is.
pub(super) fn next_link(head: &Head, next: Option<&Continuation>) -> Option<String> {
    let next = next?;
    let kept = head.raw_query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !name.eq_ignore_ascii_case(TOKEN)
    });
    let token = format!("{TOKEN}={}", utf8_percent_encode(next.as_str(), NON_ALPHANUMERIC));
    let query: Vec<&str> = kept.chain([token.as_str()]).collect();
    Some(format!("{}{}?{}", head.base_url(), head.raw_path, query.join("&")))
}

/// 204 with the etag that the change made.
pub(super) fn changed(etag: &str) -> Response {
    Response::empty(204).header("etag", etag)
}
