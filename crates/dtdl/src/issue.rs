//! What is wrong with a model, and where. Made by the parser, shown by `models check` and by POST /models.
//! Words are ours; the rule names are the parser's published ones so that a reader can look them up.

use std::fmt;

use crate::Dtmi;

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The interface it is in, when its identifier could be read.
    pub model: Option<Dtmi>,
    /// JSON pointer from the root of what was parsed (for several values: their position first).
    pub path: String,
    /// Known when parsed from text.
    pub position: Option<Position>,
    /// The rule broken, such as `nonUniquePropertyValue`.
    pub rule: &'static str,
    pub message: String,
}

/// Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if let Some(model) = &self.model {
            write!(f, "{model} ")?;
        }
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "{path}: {} [{}]", self.message, self.rule)
    }
}
