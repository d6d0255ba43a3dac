//! What is wrong with a model, and where. Made by the parser, shown by `models check` and by POST /models.
//! Words are ours; the rule names are the published ones of the language, so that a reader can look them up.

use std::fmt;

use base::caps;

use crate::{Dtmi, document::Place};

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The interface it is in, when its identifier could be read.
    pub model: Option<Dtmi>,
    /// JSON pointer from the root of what was parsed.
    pub path: String,
    /// Where it stands in the text; nothing when it is of the whole.
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

/// Those found so far. Beyond [`caps::MODEL_ISSUES_MAX`] they are only counted as present.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    found: Vec<Issue>,
    model: Option<Dtmi>,
}

impl Issues {
    /// The interface that issues are in from now on; answers the one before.
    pub(crate) fn enter(&mut self, model: Option<Dtmi>) -> Option<Dtmi> {
        std::mem::replace(&mut self.model, model)
    }

    pub(crate) fn add(&mut self, place: &Place, rule: &'static str, message: impl Into<String>) {
        if self.found.len() < caps::MODEL_ISSUES_MAX {
            self.found.push(Issue {
                model: self.model.clone(),
                path: place.path(),
                position: Some(place.position()),
                rule,
                message: message.into(),
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the document.
    pub(crate) fn into_sorted(mut self) -> Vec<Issue> {
        self.found.sort_by_key(|one| one.position);
        self.found
    }
}
