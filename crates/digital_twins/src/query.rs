//! Queries over the graph: text to plan, plan to rows. Called by the door.
//! Reads committed state only, so that a caller always sees its own writes.

use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Permission};
use base::{Continuation, Meter, caps};
use query::digital_twins::SqlQueryError;
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
        self.query_within(caller, query, Duration::from_secs(caps::QUERY_SECONDS_MAX)).await
    }

    /// The store stops a query that nobody waits for any more.
    async fn query_within(
        &self,
        caller: &Caller,
        query: &Query,
        longest: Duration,
    ) -> Result<QueryPage, Error> {
        caller.require(Permission::DigitalTwinQuery, self.scope())?;
        self.charge(Meter::Query).map_err(|error| match error {
            Error::Throttled(throttled) => Error::QuotaReached(throttled),
            other => other,
        })?;
        let token = query.continuation.as_ref().map(Continuation::decode::<Token>).transpose();
        let token = token.map_err(|_| Error::ContinuationInvalid)?;
        let text =
            token.as_ref().map(|token| &token.query).or(query.text.as_ref()).ok_or(Error::PayloadInvalid)?;
        let refused = |error: SqlQueryError| Error::SqlQueryError(error.0.to_string());
        let select = query::digital_twins::parse(text).map_err(refused)?;
        // Most queries ask for no model, and need not know whether the set has changed.
        let models = if select.model_tests().is_empty() { Arc::default() } else { self.models().await? };
        let plan = select.plan(|model, exact| models_of(&models, model, exact)).map_err(refused)?;
        let after = token.as_ref().map(|token| &token.after);
        if after.is_some_and(|after| !plan.accepts(after)) {
            return Err(Error::ContinuationInvalid);
        }
        let limit = query.page_max.unwrap_or(caps::QUERY_PAGE_DEFAULT).clamp(1, caps::QUERY_PAGE_MAX);
        let answer = self.store().query((self.id(), caller.object_id()), &plan, after, limit);
        let found = tokio::time::timeout(longest, answer).await;
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
    models.subtypes(&id).iter().map(ToString::to_string).collect()
}

/// Azure does not publish how it charges. Ours rises with collections and rows from about what small graphs were recorded at.
fn charge(bindings: usize, rows: usize) -> u64 {
    const BASE: u64 = 250;
    const PER_BINDING: u64 = 50;
    const PER_ROW: u64 = 3;
    let (bindings, rows) = (bindings as u64, rows as u64);
    BASE + PER_BINDING * bindings + PER_ROW * rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[tokio::test]
    async fn a_query_that_takes_too_long_ends_with_the_services_own_error_and_disturbs_no_other() {
        let fixture = Fixture::with_models().await;
        let names: Vec<String> = (0..24).map(|n| format!("r{n}")).collect();
        for name in &names {
            fixture.room(name).await;
        }
        // Everyone contains everyone: five joins have six million paths.
        for (source, target) in
            names.iter().flat_map(|source| names.iter().map(move |target| (source, target)))
        {
            if source != target {
                fixture.contain(source, target, target).await.unwrap();
            }
        }
        let joins: Vec<String> =
            (0..caps::QUERY_JOINS_MAX).map(|n| format!("JOIN T{} RELATED T{n}.contains", n + 1)).collect();
        let ask = async |text: String, longest: Duration| {
            let query = Query { text: Some(text), ..Query::default() };
            fixture.instance.query_within(&fixture.caller, &query, longest).await
        };
        let paths = format!("SELECT COUNT() FROM DIGITALTWINS T0 {} WHERE T0.$dtId = 'r0'", joins.join(" "));
        let error = ask(paths, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((error.code(), error), ("TimeoutError", Error::QueryTimeout));
        let all = ask("SELECT * FROM DIGITALTWINS".to_owned(), Duration::MAX).await.unwrap();
        assert_eq!(all.rows.len(), names.len());
    }

    #[tokio::test]
    async fn a_page_has_a_hundred_rows_unless_asked_and_a_thousand_at_most() {
        let fixture = Fixture::with_models().await;
        for n in 0..=caps::QUERY_PAGE_MAX {
            fixture.room(&format!("r{n}")).await;
        }
        let text = Some("SELECT T.$dtId FROM DIGITALTWINS T".to_owned());
        let (most, default) = (caps::QUERY_PAGE_MAX, caps::QUERY_PAGE_DEFAULT);
        for (page_max, rows) in [
            (None, default),
            (Some(0), 1),
            (Some(most - 1), most - 1),
            (Some(most + 1), most),
            (Some(usize::MAX), most),
        ] {
            let query = Query { text: text.clone(), page_max, ..Query::default() };
            let page = fixture.instance.query(&fixture.caller, &query).await.unwrap();
            assert_eq!((page.rows.len(), page.next.is_some()), (rows, true), "{page_max:?}");
        }
    }

    #[tokio::test]
    async fn a_token_is_good_for_the_query_that_it_carries_and_for_nothing_else() {
        let fixture = Fixture::with_models().await;
        for name in ["a", "b", "c"] {
            fixture.room(name).await;
        }
        let ask = async |continuation: Continuation| {
            let query = Query { continuation: Some(continuation), ..Query::default() };
            fixture.instance.query(&fixture.caller, &query).await
        };
        let token = |query: &str, keys: &[&str], rows: u64| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            Continuation::encode(&Token { query: query.to_owned(), after: Position { keys, rows } })
        };
        let all = "SELECT T.$dtId FROM DIGITALTWINS T";
        assert_eq!(ask(token(all, &["a"], 1)).await.unwrap().rows.len(), 2);
        assert_eq!(ask(token(all, &["a"], u64::MAX)).await.unwrap().rows.len(), 2);
        assert_eq!(
            ask(token("SELECT TOP(2) FROM DIGITALTWINS", &["a"], u64::MAX)).await.unwrap().rows.len(),
            0
        );
        for bad in [
            token(all, &[], 1),
            token(all, &["a", "b"], 1),
            token("SELECT COUNT() FROM RELATIONSHIPS", &["a"], 1),
            Continuation::from_client(""),
            Continuation::from_client("e30"),
            Continuation::encode(&serde_json::json!({"query": all})),
        ] {
            assert_eq!(ask(bad).await.unwrap_err(), Error::ContinuationInvalid);
        }
        assert_eq!(ask(token("nonsense", &["a"], 1)).await.unwrap_err().code(), "SqlQueryError");
    }
}
