//! The query language of IoT Hub over twins and jobs (`iothub-service.md` §5), and conditions alone, as jobs and configurations have
//! them. `hub` parses, asks the store for what `Select::prefilter` tells it, and lets what comes be judged here, over documents as
//! `GET /twins` shows them.

mod display;
mod plan;
mod rows;
mod syntax;
#[cfg(test)]
mod tests;

use serde_json::Value as Json;

use crate::error::SyntaxError;
use crate::evaluate::{self, Scope};
use crate::tree::{Comparison, Expression, Literal};
use crate::value::Value;

pub use self::plan::Prefilter;
pub use self::rows::{Groups, Rank};

/// What a query is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Devices,
    Modules,
    Jobs,
}

/// A path into a document, by the names that it has there: `[["tags", "site"]]` of `devices.tags.site`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Property(Vec<String>);

/// A parsed query. What it prints is the same query again.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// Asked for its plan and not for rows.
    is_explained: bool,
    top: Option<u64>,
    projection: Projection,
    source: Source,
    condition: Option<Expression<Property>>,
    group_by: Vec<Property>,
    order_by: Vec<Order>,
}

#[derive(Clone, Debug, PartialEq)]
enum Projection {
    All,
    Items(Vec<Item>),
}

/// A member of every row.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: ItemValue,
    name: String,
}

#[derive(Clone, Debug, PartialEq)]
enum ItemValue {
    Property(Property),
    Aggregate(Aggregate),
}

#[derive(Clone, Debug, PartialEq)]
enum Aggregate {
    Count,
    Of(Total, Property),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Total {
    Sum,
    Average,
    Minimum,
    Maximum,
}

#[derive(Clone, Debug, PartialEq)]
struct Order {
    property: Property,
    descending: bool,
}

/// Which twins something is for: `*`, a condition over devices, or `FROM devices.modules WHERE …`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    source: Source,
    expression: Option<Expression<Property>>,
}

impl Condition {
    /// An empty text is none of these.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        syntax::condition(text)
    }

    /// Devices or modules, never jobs.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether it is true of a twin as `GET /twins` shows it. False and undefined are the same here. Whether the twin
    /// is one of `source`, the caller has looked.
    pub fn matches(&self, twin: &Json) -> bool {
        self.expression.as_ref().is_none_or(|condition| selects(condition, twin))
    }

    /// Every path that it looks at, once, in order: a change of anything else changes no answer.
    pub fn properties(&self) -> Vec<Property> {
        let mut properties = Vec::new();
        if let Some(condition) = &self.expression {
            condition.leaves(&mut |property| properties.push(property.clone()));
        }
        properties.sort();
        properties.dedup();
        properties
    }

    /// The ids of the devices that it names, where it does nothing else: they are read by their keys then, and not looked for.
    pub fn device_ids(&self) -> Option<Vec<&str>> {
        let is_id = |operand: &Expression<Property>| matches!(operand, Expression::Path(property) if property.path() == ["deviceId"]);
        let ids = match self.expression.as_ref()? {
            Expression::OneOf { operand, items } if is_id(operand) => items.as_slice(),
            Expression::Compare { operator: Comparison::Equal, left, right } if is_id(left) => match &**right
            {
                Expression::Literal(id) => std::slice::from_ref(id),
                _ => return None,
            },
            _ => return None,
        };
        let texts = ids.iter().map(|id| match id {
            Literal::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The query for everything that it is true of.
    pub fn select(self) -> Select {
        Select {
            is_explained: false,
            top: None,
            projection: Projection::All,
            source: self.source,
            condition: self.expression,
            group_by: Vec::new(),
            order_by: Vec::new(),
        }
    }
}

impl Select {
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        syntax::select(text)
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// The one job whose devices are asked for, where it is named: those of others need not be looked at.
    pub fn job_id(&self) -> Option<&str> {
        match self.condition.as_ref()? {
            Expression::All(terms) => terms.iter().find_map(named_job),
            term => named_job(term),
        }
    }

    /// `EXPLAIN SELECT …`, which is ours.
    pub fn is_explained(&self) -> bool {
        self.is_explained
    }

    /// The query for how many rows this one has, or itself where it does nothing but count. `None`: its rows must be looked at.
    pub fn counting(&self) -> Option<Self> {
        let count = Item { value: ItemValue::Aggregate(Aggregate::Count), name: "count".to_owned() };
        if self.is_grouped() {
            let is_count =
                self.group_by.is_empty() && matches!(self.items(), [item] if item.value == count.value);
            return is_count.then(|| self.clone());
        }
        let projection = Projection::Items(vec![count]);
        self.top.is_none().then(|| Self { projection, order_by: Vec::new(), ..self.clone() })
    }

    /// Whether its rows are documents as they are.
    pub fn is_of_documents(&self) -> bool {
        self.projection == Projection::All
    }

    /// Every path that it looks at or shows, once, in order; none if it shows whole documents.
    pub fn properties(&self) -> Option<Vec<Property>> {
        let Projection::Items(items) = &self.projection else { return None };
        let mut properties: Vec<Property> = self.group_by.clone();
        properties.extend(self.order_by.iter().map(|order| order.property.clone()));
        properties.extend(items.iter().filter_map(|item| match &item.value {
            ItemValue::Property(property) | ItemValue::Aggregate(Aggregate::Of(_, property)) => {
                Some(property.clone())
            }
            ItemValue::Aggregate(Aggregate::Count) => None,
        }));
        if let Some(condition) = &self.condition {
            condition.leaves(&mut |property| properties.push(property.clone()));
        }
        properties.sort();
        properties.dedup();
        Some(properties)
    }
}

impl Property {
    /// At least one name.
    pub fn path(&self) -> &[String] {
        &self.0
    }

    pub fn root(&self) -> &str {
        &self.0[0]
    }

    fn of<'d>(&self, document: &'d Json) -> Value<'d> {
        Value::at(document, &self.0)
    }
}

/// The id in `jobId = 'id'`.
fn named_job(term: &Expression<Property>) -> Option<&str> {
    let Expression::Compare { operator: Comparison::Equal, left, right } = term else { return None };
    match (&**left, &**right) {
        (Expression::Path(property), Expression::Literal(Literal::Text(id)))
            if property.path() == ["jobId"] =>
        {
            Some(id)
        }
        _ => None,
    }
}

fn selects(condition: &Expression<Property>, document: &Json) -> bool {
    evaluate::truth(condition, &Document(document)) == Some(true)
}

struct Document<'d>(&'d Json);

impl Scope<Property> for Document<'_> {
    fn look_up<'s>(&'s self, property: &'s Property) -> Value<'s> {
        property.of(self.0)
    }
}
