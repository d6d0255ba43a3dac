//! `/query`: text or token in, rows out.

use base::Continuation;
use digital_twins::Query;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::request::{ApiVersion, members, page_max};
use super::{At, Outcome};
use crate::wire::{Request, Response};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    query: Option<String>,
    continuation_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultBody<'a, R> {
    value: &'a [R],
    continuation_token: Option<&'a str>,
}

pub(super) async fn query(at: At, request: Request) -> Outcome {
    let specification: Specification = members(&request)?;
    let query = Query {
        text: specification.query,
        continuation: specification.continuation_token.as_deref().map(Continuation::from_client),
        page_max: page_max(&request)?,
    };
    let page = at.instance.query(&at.caller, &query).await?;
    let continuation_token = page.next.as_ref().map(Continuation::as_str);
    let response = match at.version {
        ApiVersion::Later => Response::json(200, &ResultBody { value: &page.rows, continuation_token }),
        ApiVersion::V20201031 => {
            let value: Vec<Value> = page.rows.iter().map(|row| older(at.version, row)).collect();
            Response::json(200, &ResultBody { value: &value, continuation_token })
        }
    };
    let charge = format!("{}.{:02}", page.charge_hundredths / 100, page.charge_hundredths % 100);
    Ok(response.header("query-charge", &charge))
}

fn older(version: ApiVersion, row: &RawValue) -> Value {
    let mut row = serde_json::from_str(row.get()).unwrap_or_default();
    version.row(&mut row);
    row
}
