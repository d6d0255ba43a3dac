//! Queries and their pages: what a client selects, how many it wants at a time, where it goes on (`dps.md` §3.4).

use ::query::enrollments::Selection;
use base::{Continuation, caps};
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::{has_body, typed};
use crate::wire::{Request, Response};

const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
const CONTINUATION: &str = "x-ms-continuation";

pub(super) struct Paging {
    pub(super) size: usize,
    pub(super) from: Option<Continuation>,
}

impl Paging {
    pub(super) fn of(request: &Request) -> Result<Self, Refusal> {
        let size = match header(request, MAX_ITEM_COUNT)? {
            None => caps::QUERY_PAGE_DEFAULT,
            Some(text) => match text.trim().parse::<usize>() {
                Ok(count) if count > 0 => count.min(caps::QUERY_PAGE_MAX),
                _ => return Err(bad(format!("{MAX_ITEM_COUNT} must be a number above zero."))),
            },
        };
        let from = header(request, CONTINUATION)?.filter(|token| !token.is_empty());
        Ok(Self { size, from: from.map(Continuation::from_client) })
    }

    /// Every page names its type, which two clients insist on; the last one carries no continuation.
    pub(super) fn answer<T: Serialize>(
        &self,
        item_type: &str,
        items: &[T],
        next: Option<&Continuation>,
    ) -> Response {
        let response = Response::json(200, items)
            .header(MAX_ITEM_COUNT, &self.size.to_string())
            .header("x-ms-item-type", item_type);
        match next {
            Some(next) => response.header(CONTINUATION, next.as_str()),
            None => response,
        }
    }
}

/// `{"query": "…"}` or nothing at all. No text of a query is refused: installed clients send strange ones and mean everything.
pub(super) fn selection(request: &Request) -> Result<Selection, Refusal> {
    if !has_body(request) {
        return Ok(Selection::parse(""));
    }
    let QueryInput { query } = typed(request)?;
    Ok(Selection::parse(query.as_deref().unwrap_or_default()))
}

#[derive(Deserialize)]
struct QueryInput {
    query: Option<String>,
}

/// The value of a header that changes what is listed. Several, or one that is no text, must not count as none.
fn header<'r>(request: &'r Request, name: &str) -> Result<Option<&'r str>, Refusal> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        (Some(_), _) => Err(bad(format!("{name} must be one text."))),
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    provisioning::Error::bad(message).into()
}
