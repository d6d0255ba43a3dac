//! Queries over the graph: text to plan, plan to rows. Called by the door.
//! Reads committed state only, so that a caller always sees its own writes.

use std::time::Duration;

use access::{Caller, Permission};
use base::{Continuation, Meter, caps};
use query::plan::Position;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::Snapshot;
use crate::{Error, Instance};

/// A first page is asked for with a text, the following ones with the token of the one before; then the text is not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub text: Option<String>,
    pub continuation: Option<Continuation>,
    pub page_max: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct QueryPage {
    /// Each as the client sees it.
    pub rows: Vec<Box<RawValue>>,
    pub next: Option<Continuation>,
    /// Query units in hundredths.
    pub charge_hundredths: u64,
}

#[derive(Serialize, Deserialize)]
struct Token {
    query: String,
    after: Position,
}

impl Instance {
    /// `Query_QueryTwins`.
    pub async fn query(&self, caller: &Caller, query: &Query) -> Result<QueryPage, Error> {
        caller.require(Permission::DigitalTwinQuery, self.scope())?;
        self.charge(Meter::Query)?;
        let token = query.continuation.as_ref().map(Continuation::decode::<Token>).transpose();
        let token = token.map_err(|_| Error::ContinuationInvalid)?;
        let text =
            token.as_ref().map(|token| &token.query).or(query.text.as_ref()).ok_or(Error::PayloadInvalid)?;
        let models = self.models().await?;
        let plan = query::digital_twins::compile(text, |model, exact| models_of(&models, model, exact));
        let plan = plan.map_err(|error| Error::SqlQueryError(error.0.to_string()))?;
        let after = token.as_ref().map(|token| &token.after);
        if after.is_some_and(|after| !plan.accepts(after)) {
            return Err(Error::ContinuationInvalid);
        }
        let limit = query.page_max.unwrap_or(caps::QUERY_PAGE_DEFAULT).clamp(1, caps::QUERY_PAGE_MAX);
        let answer = self.store().query(self.id(), &plan, after, limit);
        let found = tokio::time::timeout(Duration::from_secs(caps::QUERY_SECONDS_MAX), answer).await;
        let found = found.map_err(|_| Error::QueryTimeout)??;
        let next = found.next.map(|after| Continuation::encode(&Token { query: text.clone(), after }));
        let charge_hundredths = charge(plan.bindings.len(), found.rows.len());
        Ok(QueryPage { rows: found.rows, next, charge_hundredths })
    }
}

/// The ids that satisfy `IS_OF_MODEL`. A deleted model is still matched by the twins that name it.
fn models_of(models: &Snapshot, model: &str, exact: bool) -> Vec<String> {
    let Ok(id) = model.parse::<dtdl::Dtmi>() else { return vec![] };
    if exact {
        return vec![id.to_string()];
    }
    models.models.subtypes(&id).iter().map(ToString::to_string).collect()
}

/// Azure does not publish how it charges. Ours rises with collections and rows from about what small graphs were recorded at.
fn charge(bindings: usize, rows: usize) -> u64 {
    const BASE: u64 = 250;
    const PER_BINDING: u64 = 50;
    const PER_ROW: u64 = 3;
    let (bindings, rows) = (bindings as u64, rows as u64);
    BASE + PER_BINDING * bindings + PER_ROW * rows
}
