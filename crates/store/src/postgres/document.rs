//! Texts and documents on their way in and out: what the engine's types would refuse or change is escaped here, and nowhere else.

use std::borrow::Cow;

use crate::table::Table;

/// A key's part, or an extra column.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    text.into()
}

pub(super) fn into_column<'d>(_table: &Table, document: &'d str) -> Cow<'d, str> {
    document.into()
}

pub(super) fn from_column(_table: &Table, document: String) -> String {
    document
}
