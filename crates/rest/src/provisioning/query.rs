//! Queries and their pages: what a client selects, how many it wants at a time, where it goes on (`dps.md` §3.4).

use ::query::enrollments::Selection;
use base::Continuation;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::{has_body, typed};
use crate::paging::{self, MAX_ITEM_COUNT, Paging};
use crate::wire::{Request, Response};

pub(super) fn paging(request: &Request) -> Result<Paging, Refusal> {
    Paging::of(request).map_err(|why| provisioning::Error::bad(why).into())
}

/// A page of these tells how many items it might have held, too.
pub(super) fn page<T: Serialize>(
    paging: &Paging,
    item_type: &str,
    items: &[T],
    next: Option<&Continuation>,
) -> Response {
    paging::page(item_type, items, next).header(MAX_ITEM_COUNT, &paging.size.to_string())
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
