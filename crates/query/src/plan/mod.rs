//! What a query asks for, names resolved: the seam between the languages and the engines. Front ends make plans,
//! `store` renders them as SQL, `reference` says what they mean. Values stay apart from paths: nothing here is text
//! to be spliced into SQL.

mod display;
mod project;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tree::Expression;

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What a row binds, each after those it hangs on; the first is `Link::Root` and the only one that is.
    pub bindings: Vec<Binding>,
    pub condition: Option<Expression<Column>>,
    pub output: Output,
    /// At most this many rows, all pages together.
    pub top: Option<u64>,
}

/// One document of every row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub alias: Option<String>,
    pub table: Table,
    pub link: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    DigitalTwins,
    Relationships,
    /// Twins of devices, or of modules, of a hub: their records are their documents.
    DeviceTwins,
    ModuleTwins,
}

/// What goes with a twin of a hub, in a record of its own under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    Identity,
    Activity,
    /// How many messages wait for it.
    MessageQueue,
}

/// How a binding hangs on an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Root,
    /// A relationship of this name whose source is the twin.
    OutgoingFrom {
        twin: usize,
        name: String,
    },
    /// The twin that the relationship points to.
    TargetOf {
        relationship: usize,
    },
}

/// A value inside a bound document; an empty path is the document itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub binding: usize,
    pub path: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The only bound document, as it is.
    Document,
    /// An object; a member whose column is undefined is left out.
    Columns(Vec<OutputColumn>),
    /// One row with the number of rows.
    Count { name: String },
    /// For each combination of values of these columns a list of them, each in a list of its own that is empty where it is undefined,
    /// and of how many rows have it. Values that are equal may come apart, as 1 and 1.0 do. In no order, and in one page.
    Groups(Vec<Column>),
    /// A list of the only bound document and of what goes with it, each as it is stored, or null where there is none. For domain
    /// crates, which make of it what their callers see.
    Records(Vec<Beside>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    pub name: String,
    pub column: Column,
}

/// Where a page ended: the keys of its last row, and how many rows all pages had so far, for TOP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub keys: Vec<String>,
    pub rows: u64,
}

/// A member of a document that identifies a row: rows are ordered by these, so that pages neither skip nor repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPart {
    pub binding: usize,
    pub member: &'static str,
}

impl Column {
    pub fn model_of(binding: usize) -> Self {
        Self { binding, path: vec!["$metadata".to_owned(), "$model".to_owned()] }
    }
}

impl Plan {
    /// What orders the rows. A joined relationship needs only its id, for its source is a key before it, and a
    /// joined twin needs nothing, for its relationship names it.
    pub fn order(&self) -> Vec<KeyPart> {
        let mut order = Vec::new();
        if let Output::Groups(_) = self.output {
            return order;
        }
        for (binding, Binding { table, link, .. }) in self.bindings.iter().enumerate() {
            match (link, table) {
                (Link::Root, Table::DigitalTwins) => order.push(KeyPart { binding, member: "$dtId" }),
                (Link::Root, Table::Relationships) => {
                    order.push(KeyPart { binding, member: "$sourceId" });
                    order.push(KeyPart { binding, member: "$relationshipId" });
                }
                (Link::Root, Table::DeviceTwins) => order.push(KeyPart { binding, member: "deviceId" }),
                (Link::Root, Table::ModuleTwins) => {
                    order.push(KeyPart { binding, member: "deviceId" });
                    order.push(KeyPart { binding, member: "moduleId" });
                }
                (Link::OutgoingFrom { .. }, _) => {
                    order.push(KeyPart { binding, member: "$relationshipId" });
                }
                (Link::TargetOf { .. }, _) => {}
            }
        }
        order
    }

    /// Whether the position can be one of this plan's: a token that a client brings back may be anyone's.
    pub fn accepts(&self, position: &Position) -> bool {
        position.keys.len() == self.order().len()
    }

    /// The bindings whose documents the output needs, ascending: what an engine must fetch for every row.
    pub fn documents(&self) -> Vec<usize> {
        match &self.output {
            Output::Document | Output::Records(_) => vec![0],
            Output::Count { .. } | Output::Groups(_) => Vec::new(),
            Output::Columns(columns) => {
                let mut needed: Vec<usize> = columns.iter().map(|output| output.column.binding).collect();
                needed.sort_unstable();
                needed.dedup();
                needed
            }
        }
    }

    /// What is read beside the only bound document, in the order of the answer.
    pub fn beside(&self) -> &[Beside] {
        match &self.output {
            Output::Records(beside) => beside,
            Output::Document | Output::Columns(_) | Output::Count { .. } | Output::Groups(_) => &[],
        }
    }

    /// How many rows the next page may hold: `page`, or what TOP leaves after `rows` rows.
    pub fn rows_left(&self, page: usize, rows: u64) -> usize {
        let left = self.top.map_or(u64::MAX, |top| top.saturating_sub(rows));
        usize::try_from(left).map_or(page, |left| left.min(page))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.binding)?;
        self.path.iter().try_for_each(|member| write!(f, ".{member}"))
    }
}
