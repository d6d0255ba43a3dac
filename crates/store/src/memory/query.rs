//! Compiled queries: answered by what says what they mean.

use std::collections::BTreeMap;

use query::plan::{Beside, Output, Position, Table as Of};
use query::reference::Documents;
use query::{Plan, reference};
use serde_json::Value as Json;

use super::state::State;
use crate::compiled::{self, Found, Rows};
use crate::error::StoreError;
use crate::key::Key;
use crate::table::{self, Table};

/// All that queries address of an instance, at one moment.
pub(super) struct Known {
    documents: Documents,
    /// What goes with twins of a hub: by the name of its table and what follows the instance in its key.
    beside: BTreeMap<(&'static str, Vec<String>), String>,
}

pub(super) fn known(state: &State, instance: &str) -> Known {
    let of = |table: &Table, prefix: &[&str]| {
        let prefix = Key::new([&[instance][..], prefix].concat());
        let docs: Vec<Json> = state
            .rows(table, &prefix)
            .filter_map(|(_, kept)| serde_json::from_str::<Json>(&kept.doc).ok())
            .collect();
        docs
    };
    let inside = |table: &Table| {
        let records = of(table, &[]).into_iter();
        records.map(|mut record| record["document"].take()).collect()
    };
    let documents = Documents {
        digital_twins: inside(&table::DIGITAL_TWIN),
        relationships: inside(&table::RELATIONSHIP),
        device_twins: of(&table::DEVICE_TWIN, &["device"]),
        module_twins: of(&table::DEVICE_TWIN, &["module"]),
    };
    let mut beside = BTreeMap::new();
    for table in [&table::IDENTITY, &table::ACTIVITY, &table::DEVICE_QUEUE] {
        for (key, kept) in state.rows(table, &Key::new([instance])) {
            beside.insert((table.name, key.parts()[1..].to_vec()), kept.doc.clone());
        }
    }
    Known { documents, beside }
}

pub(super) fn page(
    plan: &Plan,
    known: &Known,
    after: Option<&Position>,
    limit: usize,
) -> Result<Rows, StoreError> {
    let mut rows = reference::rows(plan, &known.documents);
    if let Output::Count { .. } = plan.output {
        return Ok(Rows { rows: plan.count_row(rows.len() as u64).into_iter().collect(), next: None });
    }
    if let Output::Groups(_) = plan.output {
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        return compiled::groups(plan, &Found { rows, has_more });
    }
    let keys = plan.order().len();
    rows.retain(|row| after.is_none_or(|after| row[..keys] > after.keys[..]));
    let before = after.map_or(0, |position| position.rows);
    let wanted = plan.rows_left(limit, before);
    let has_more = rows.len() > wanted;
    rows.truncate(wanted);
    for row in &mut rows {
        let beside = plan.beside().iter().map(|beside| known.beside(plan, *beside, &row[..keys]));
        let beside: Vec<String> = beside.collect();
        row.extend(beside);
    }
    compiled::answer(plan, before, &Found { rows, has_more })
}

impl Known {
    fn beside(&self, plan: &Plan, beside: Beside, ids: &[String]) -> String {
        let is_module = plan.bindings[0].table == Of::ModuleTwins;
        let kind = if is_module { "module" } else { "device" };
        let (device, module) = (ids[0].clone(), ids.get(1).cloned().unwrap_or_default());
        let same = vec![kind.to_owned(), device.clone(), module];
        let key = match beside {
            Beside::Identity => (table::IDENTITY.name, same),
            Beside::Activity => (table::ACTIVITY.name, same),
            Beside::MessageQueue if is_module => return "null".to_owned(),
            Beside::MessageQueue => (table::DEVICE_QUEUE.name, vec![device]),
        };
        self.beside.get(&key).cloned().unwrap_or_else(|| "null".to_owned())
    }
}
