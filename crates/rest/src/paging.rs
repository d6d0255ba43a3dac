//! Pages by headers, as hubs and provisioning services give them: how many items a client wants at a time, and where it goes on.

use base::{Continuation, caps};
use serde::Serialize;

use crate::wire::{Request, Response};

pub(crate) const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
const CONTINUATION: &str = "x-ms-continuation";

pub(crate) struct Paging {
    pub(crate) size: usize,
    pub(crate) from: Option<Continuation>,
}

impl Paging {
    /// Or what is wrong with the headers.
    pub(crate) fn of(request: &Request) -> Result<Self, String> {
        let size = match header(request, MAX_ITEM_COUNT)? {
            None => caps::QUERY_PAGE_DEFAULT,
            Some(text) => match text.trim().parse::<usize>() {
                Ok(count) if count > 0 => count.min(caps::QUERY_PAGE_MAX),
                _ => return Err(format!("{MAX_ITEM_COUNT} must be a number above zero.")),
            },
        };
        Ok(Self { size, from: continuation(request)? })
    }
}

/// The token of the page before, if there was one.
pub(crate) fn continuation(request: &Request) -> Result<Option<Continuation>, String> {
    let token = header(request, CONTINUATION)?.filter(|token| !token.is_empty());
    Ok(token.map(Continuation::from_client))
}

/// Every page names its type, which some clients insist on; the last one carries no continuation.
pub(crate) fn page<T: Serialize>(item_type: &str, items: &[T], next: Option<&Continuation>) -> Response {
    let response = Response::json(200, items).header("x-ms-item-type", item_type);
    match next {
        Some(next) => response.header(CONTINUATION, next.as_str()),
        None => response,
    }
}

/// The value of a header that changes what is listed. Several, or one that is no text, must not count as none.
fn header<'r>(request: &'r Request, name: &str) -> Result<Option<&'r str>, String> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        (Some(_), _) => Err(format!("{name} must be one text.")),
    }
}
