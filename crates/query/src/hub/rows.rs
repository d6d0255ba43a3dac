//! What a query makes of documents: which it selects, the rows it shows of them, their order, and groups with their aggregates.
//! Reads nothing: whoever calls brings the documents, in the order of their ids.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base::caps;
use base::json::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Aggregate, Item, ItemValue, Projection, Property, Select, Total};
use crate::functions;
use crate::tree::{Arithmetic, Number};
use crate::value::Value;

/// A value as one that has a place among all others: first what is missing, then null, booleans, numbers, texts, and at last
/// what no comparison of the language orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Sort {
    Missing,
    Null,
    Bool(bool),
    Integer(i64),
    /// A double by its bits, which come back as they went.
    Real(u64),
    Text(String),
    Other(String),
}

/// Where a document stands in the order that a query asks for; of two with the same rank the smaller id comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank(Vec<Directed>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Directed {
    value: Sort,
    descending: bool,
}

impl Select {
    /// Whether WHERE is true of a document.
    pub fn selects(&self, document: &Json) -> bool {
        self.condition.as_ref().is_none_or(|condition| super::selects(condition, document))
    }

    /// At most this many rows, all pages together.
    pub fn top(&self) -> Option<u64> {
        self.top
    }

    /// Whether a row is of many documents.
    pub fn is_grouped(&self) -> bool {
        !self.group_by.is_empty()
            || self.items().iter().any(|item| matches!(item.value, ItemValue::Aggregate(_)))
    }

    /// Whether rows have another order than that of ids.
    pub fn is_ordered(&self) -> bool {
        !self.order_by.is_empty()
    }

    /// The row of one document, where a row is of one. What is missing in the document is missing in the row.
    pub fn row(&self, document: &Json) -> Json {
        if self.projection == Projection::All {
            return document.clone();
        }
        let mut row = Object::new();
        for item in self.items() {
            if let ItemValue::Property(property) = &item.value {
                show(&mut row, &item.name, at(document, property).cloned());
            }
        }
        Json::Object(row)
    }

    pub fn rank(&self, document: &Json) -> Rank {
        Rank(self.ranked(|property| Sort::of(&property.of(document))))
    }

    /// Whether it can be a rank of this query: a token that a client brings back may be anyone's.
    pub fn accepts(&self, rank: &Rank) -> bool {
        self.is_ordered()
            && rank
                .0
                .iter()
                .map(|place| place.descending)
                .eq(self.order_by.iter().map(|order| order.descending))
    }

    /// No groups yet; give every document that is selected to `Groups::add`.
    pub fn groups(&self) -> Groups<'_> {
        Groups { select: self, groups: BTreeMap::new() }
    }

    fn ranked(&self, sort: impl Fn(&Property) -> Sort) -> Vec<Directed> {
        let directed = self
            .order_by
            .iter()
            .map(|order| Directed { value: sort(&order.property), descending: order.descending });
        directed.collect()
    }

    pub(super) fn items(&self) -> &[Item] {
        match &self.projection {
            Projection::All => &[],
            Projection::Items(items) => items,
        }
    }

    /// Whether this is the name of something selected.
    pub(super) fn names(&self, property: &Property) -> bool {
        self.items().iter().any(|item| property.0 == [item.name.as_str()])
    }

    pub(super) fn has_plain_items(&self) -> bool {
        self.items().iter().any(|item| matches!(item.value, ItemValue::Property(_)))
    }
}

/// Documents by what they are grouped by, with what aggregates need of them.
pub struct Groups<'s> {
    select: &'s Select,
    groups: BTreeMap<Vec<Sort>, Group>,
}

struct Group {
    /// What it is grouped by, as the first document has it.
    values: Vec<Option<Json>>,
    aggregates: Vec<State>,
}

impl Groups<'_> {
    pub fn add(&mut self, document: &Json) {
        self.add_alike(document, 1);
    }

    /// So many documents that are alike in everything that the query looks at.
    pub fn add_alike(&mut self, document: &Json, count: u64) {
        let by = &self.select.group_by;
        let key = by.iter().map(|property| Sort::of(&property.of(document))).collect();
        let group = self.groups.entry(key).or_insert_with(|| Group {
            values: by.iter().map(|property| at(document, property).cloned()).collect(),
            aggregates: states(self.select),
        });
        for state in &mut group.aggregates {
            state.add(document, count);
        }
    }

    /// Whether there are more than one query may have.
    pub fn are_too_many(&self) -> bool {
        self.groups.len() > caps::QUERY_GROUPS_MAX
    }

    /// A row for every group, in order, within TOP. Aggregates of nothing are a row too, unless it is GROUP BY that finds nothing.
    pub fn rows(mut self) -> Vec<Json> {
        if self.select.group_by.is_empty() && self.groups.is_empty() {
            let (values, aggregates) = (Vec::new(), states(self.select));
            self.groups.insert(Vec::new(), Group { values, aggregates });
        }
        let select = self.select;
        let mut rows: Vec<(Rank, Json)> =
            self.groups.into_values().map(|group| (group.rank(select), group.row(select))).collect();
        // Stable: groups of one rank stay in the order of what they are grouped by.
        rows.sort_by(|(left, _), (right, _)| left.cmp(right));
        let top = select.top.and_then(|top| usize::try_from(top).ok()).unwrap_or(usize::MAX);
        rows.into_iter().map(|(_, row)| row).take(top).collect()
    }
}

impl Group {
    fn row(&self, select: &Select) -> Json {
        let mut row = Object::new();
        let mut aggregates = self.aggregates.iter();
        for item in select.items() {
            let value = match &item.value {
                ItemValue::Property(property) => self.value(select, property),
                ItemValue::Aggregate(_) => aggregates.next().and_then(State::value),
            };
            show(&mut row, &item.name, value);
        }
        Json::Object(row)
    }

    fn value(&self, select: &Select, property: &Property) -> Option<Json> {
        let place = select.group_by.iter().position(|by| by == property)?;
        self.values[place].clone()
    }

    /// By what is grouped, else by what is selected under that name.
    fn rank(&self, select: &Select) -> Rank {
        let row = self.row(select);
        Rank(select.ranked(|property| {
            if select.group_by.contains(property) {
                return self
                    .value(select, property)
                    .map_or(Sort::Missing, |value| Sort::of(&Value::from(&value)));
            }
            Sort::of(&property.of(&row))
        }))
    }
}

/// An aggregate while documents are added.
struct State {
    aggregate: Aggregate,
    count: u64,
    sum: Option<Number>,
    /// The least or the greatest so far.
    bound: Option<(Sort, Json)>,
}

fn states(select: &Select) -> Vec<State> {
    let aggregates = select.items().iter().filter_map(|item| match &item.value {
        ItemValue::Aggregate(aggregate) => Some(aggregate.clone()),
        ItemValue::Property(_) => None,
    });
    aggregates.map(|aggregate| State { aggregate, count: 0, sum: None, bound: None }).collect()
}

impl State {
    /// Sums and averages are of numbers, the least and the greatest of booleans, numbers and texts; what is of another type or
    /// missing counts for nothing.
    fn add(&mut self, document: &Json, count: u64) {
        let Aggregate::Of(total, property) = &self.aggregate else {
            self.count += count;
            return;
        };
        let (value, json) = (property.of(document), at(document, property));
        match (total, &value, json) {
            (Total::Sum | Total::Average, Value::Number(number), _) => {
                self.count += count;
                let number = times(*number, count);
                self.sum = Some(self.sum.map_or(number, |sum| add(sum, number)));
            }
            (
                Total::Minimum | Total::Maximum,
                Value::Bool(_) | Value::Number(_) | Value::Text(_),
                Some(json),
            ) => {
                let sort = Sort::of(&value);
                let better = if *total == Total::Minimum { Ordering::Less } else { Ordering::Greater };
                if self.bound.as_ref().is_none_or(|(bound, _)| sort.cmp(bound) == better) {
                    self.bound = Some((sort, json.clone()));
                }
            }
            _ => {}
        }
    }

    fn value(&self) -> Option<Json> {
        match &self.aggregate {
            Aggregate::Count => Some(self.count.into()),
            Aggregate::Of(Total::Sum, _) => self.sum.map(to_json),
            Aggregate::Of(Total::Average, _) => {
                let count = Number::Integer(i64::try_from(self.count).unwrap_or(i64::MAX));
                let quotient = |sum| {
                    functions::calculate(Arithmetic::Divide, &Value::Number(sum), &Value::Number(count))
                };
                match quotient(self.sum?) {
                    Value::Number(average) => Some(to_json(average)),
                    _ => None,
                }
            }
            Aggregate::Of(Total::Minimum | Total::Maximum, _) => {
                self.bound.as_ref().map(|(_, json)| json.clone())
            }
        }
    }
}

fn times(number: Number, count: u64) -> Number {
    let count = Value::Number(Number::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
    match functions::calculate(Arithmetic::Multiply, &Value::Number(number), &count) {
        Value::Number(product) => product,
        _ => Number::Real(f64::MAX.copysign(functions::as_real(number))),
    }
}

/// A sum that no double holds stays the greatest that one does.
fn add(left: Number, right: Number) -> Number {
    match functions::calculate(Arithmetic::Add, &Value::Number(left), &Value::Number(right)) {
        Value::Number(sum) => sum,
        _ => Number::Real(f64::MAX.copysign(functions::as_real(left))),
    }
}

fn to_json(number: Number) -> Json {
    match number {
        Number::Integer(integer) => integer.into(),
        Number::Real(real) => real.into(),
    }
}

/// Two items of one name: the last one wins, as in any JSON object.
fn show(row: &mut Object, name: &str, value: Option<Json>) {
    if let Some(value) = value {
        row.insert(name.to_owned(), value);
    }
}

fn at<'d>(document: &'d Json, property: &Property) -> Option<&'d Json> {
    property.0.iter().try_fold(document, |here, name| here.as_object()?.get(name))
}

impl Sort {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Undefined => Self::Missing,
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(Number::Integer(value)) => Self::Integer(*value),
            Value::Number(Number::Real(value)) => Self::Real(value.to_bits()),
            Value::Text(text) => Self::Text(text.clone().into_owned()),
            Value::Array(items) => Self::Other(Json::from(items.to_vec()).to_string()),
            Value::Object(members) => Self::Other(Json::Object((*members).clone()).to_string()),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Null => 1,
            Self::Bool(_) => 2,
            Self::Integer(_) | Self::Real(_) => 3,
            Self::Text(_) => 4,
            Self::Other(_) => 5,
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Integer(value) => Some(Number::Integer(*value)),
            Self::Real(bits) => Some(Number::Real(f64::from_bits(*bits))),
            _ => None,
        }
    }
}

impl Ord for Sort {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) | (Self::Other(left), Self::Other(right)) => {
                left.cmp(right)
            }
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => left.compare(right).unwrap_or(Ordering::Equal),
                _ => self.kind().cmp(&other.kind()),
            },
        }
    }
}

impl PartialOrd for Sort {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sort {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sort {}

impl Ord for Directed {
    fn cmp(&self, other: &Self) -> Ordering {
        let ordering = self.value.cmp(&other.value);
        if self.descending { ordering.reverse() } else { ordering }
    }
}

impl PartialOrd for Directed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
