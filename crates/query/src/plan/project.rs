//! Documents to the rows that a client sees. A whole document goes through as the text it is.

use std::collections::HashMap;

use serde_json::Value as Json;
use serde_json::value::{RawValue, to_raw_value};

use super::{Column, Output, OutputColumn, Plan};

impl Plan {
    /// One row of the answer. `documents` holds the JSON text of what `Plan::documents` lists, in that order, then of what
    /// `Plan::beside` lists.
    pub fn row(&self, documents: &[String]) -> Result<Box<RawValue>, serde_json::Error> {
        match &self.output {
            Output::Columns(columns) => Row { plan: self, documents }.object(columns),
            Output::Groups(_) => RawValue::from_string(group(documents)),
            Output::Records(_) => RawValue::from_string(format!("[{}]", documents.join(","))),
            Output::Document | Output::Count { .. } => {
                RawValue::from_string(documents.first().cloned().unwrap_or_default())
            }
        }
    }

    /// The only row of a COUNT, or none if the plan does not count or TOP(0) wants no row.
    pub fn count_row(&self, rows: u64) -> Option<Box<RawValue>> {
        let Output::Count { name } = &self.output else { return None };
        let row = base::json::Object::from_iter([(name.clone(), Json::from(rows))]);
        (self.top != Some(0)).then(|| to_raw_value(&row).expect("a name and a number are JSON"))
    }
}

/// The values of a group, empty where they are undefined, and its number of rows.
fn group(values: &[String]) -> String {
    let (count, values) =
        values.split_last().map_or(("0", &[][..]), |(count, values)| (count.as_str(), values));
    let values = values.iter().map(|value| format!("[{value}],"));
    format!("[{}{count}]", values.collect::<String>())
}

struct Row<'r> {
    plan: &'r Plan,
    documents: &'r [String],
}

impl Row<'_> {
    fn object(&self, columns: &[OutputColumn]) -> Result<Box<RawValue>, serde_json::Error> {
        let needed = self.plan.documents();
        let mut parsed: Vec<Option<Json>> = vec![None; needed.len()];
        let mut members: Vec<(&str, Option<Box<RawValue>>)> = Vec::with_capacity(columns.len());
        let mut places: HashMap<&str, usize> = HashMap::new();
        for OutputColumn { name, column } in columns {
            let Ok(at) = needed.binary_search(&column.binding) else { continue };
            let Some(text) = self.documents.get(at) else { continue };
            if let Some(value) = member(column, text, &mut parsed[at])? {
                // Two columns of one name: the last one wins, as in any JSON object.
                if let Some(earlier) = places.insert(name, members.len()) {
                    members[earlier].1 = None;
                }
                members.push((name, Some(value)));
            }
        }
        RawValue::from_string(write(&members))
    }
}

/// The document is parsed at most once, and only for a column inside it.
fn member(
    column: &Column,
    text: &str,
    parsed: &mut Option<Json>,
) -> Result<Option<Box<RawValue>>, serde_json::Error> {
    if column.path.is_empty() {
        return RawValue::from_string(text.to_owned()).map(Some);
    }
    if parsed.is_none() {
        *parsed = Some(serde_json::from_str(text)?);
    }
    let mut here = parsed.as_ref();
    for member in &column.path {
        here = here.and_then(|value| value.as_object()).and_then(|object| object.get(member));
    }
    here.map(to_raw_value).transpose()
}

fn write(members: &[(&str, Option<Box<RawValue>>)]) -> String {
    let mut text = String::from("{");
    let members = members.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)));
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Json::from(name).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text
}
