//! Compiled queries: answered by what says what they mean.

use query::plan::{Output, Position};
use query::{Plan, reference};
use serde_json::Value as Json;

use super::state::State;
use crate::compiled::{self, Found, Rows};
use crate::error::StoreError;
use crate::key::Key;
use crate::table::{self, Table};

/// Digital twins and relationships, as queries address them.
pub(super) type Documents = (Vec<Json>, Vec<Json>);

pub(super) fn documents(state: &State, instance: &str) -> Documents {
    let prefix = Key::new([instance]);
    let of = |table: &Table| {
        let docs = state.rows(table, &prefix).map(|(_, kept)| &kept.doc);
        let parsed = docs.filter_map(|doc| serde_json::from_str::<Json>(doc).ok());
        parsed.map(|mut record| record["document"].take()).collect()
    };
    (of(&table::DIGITAL_TWIN), of(&table::RELATIONSHIP))
}

pub(super) fn page(
    plan: &Plan,
    (twins, relationships): &Documents,
    after: Option<&Position>,
    limit: usize,
) -> Result<Rows, StoreError> {
    let mut rows = reference::rows(plan, twins, relationships);
    if let Output::Count { .. } = plan.output {
        return Ok(Rows { rows: plan.count_row(rows.len() as u64).into_iter().collect(), next: None });
    }
    let keys = plan.order().len();
    rows.retain(|row| after.is_none_or(|after| row[..keys] > after.keys[..]));
    let before = after.map_or(0, |position| position.rows);
    let wanted = plan.rows_left(limit, before);
    let has_more = rows.len() > wanted;
    rows.truncate(wanted);
    compiled::answer(plan, before, &Found { rows, has_more })
}
