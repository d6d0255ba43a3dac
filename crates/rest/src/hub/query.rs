//! `POST /devices/query` (`iothub-service.md` §5): the text in the body, pages by headers.

use access::Permission;
use hub::query::{Query, RowKind};
use serde::Deserialize;

use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::paging::{self, MAX_ITEM_COUNT};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("POST", "/devices/query", "Query_GetTwins", handler!(query))
        .requires(Permission::TwinRead)
}

#[derive(Deserialize)]
struct Specification {
    query: Option<String>,
}

async fn query(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let Specification { query } = body(request)?;
    let text = query.ok_or(hub::Error::ArgumentNull("query"))?;
    let continuation = paging::continuation(request).map_err(Refusal::Malformed)?;
    let query = Query { text, continuation, page_max: page_max(request)? };
    let page = at.hub.query(&at.caller, &query).await?;
    // Clients ask on for as long as there is a token, whatever is in it.
    Ok(paging::page(item_type(page.kind), &page.rows, page.next.as_ref()))
}

/// None, nothing, or a number below 1 is what a client sends that leaves it to the service.
fn page_max(request: &Request) -> Result<Option<usize>, Refusal> {
    let Some(text) = request.head.header(MAX_ITEM_COUNT).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let number: i64 =
        text.trim().parse().map_err(|_| Refusal::Malformed(format!("{MAX_ITEM_COUNT} must be a number")))?;
    Ok(usize::try_from(number).ok().filter(|number| *number > 0))
}

/// In exactly this case: .NET compares it so.
fn item_type(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Twin => "Twin",
        RowKind::DeviceJob => "DeviceJob",
        RowKind::Raw => "Raw",
    }
}
