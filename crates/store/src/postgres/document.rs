//! Texts and documents on their way in and out: what the engine's types would refuse or change is escaped here, and nowhere else.

use std::borrow::Cow;

use super::escape;
use super::tables::is_binary;
use crate::table::Table;

/// A key's part, or an extra column.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    escape::text(text)
}

/// A JSON text that is kept as text needs no escape: it spells control characters out.
pub(super) fn into_column<'d>(table: &Table, document: &'d str) -> Cow<'d, str> {
    if is_binary(table) { escape::json(document).into() } else { document.into() }
}

pub(super) fn from_column(table: &Table, document: String) -> String {
    if is_binary(table) { escape::json_back(&document) } else { document }
}

pub(super) fn text_back(text: String) -> String {
    escape::text_back(text)
}
