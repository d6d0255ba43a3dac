//! What is wrong with a text, and where. Every front end reports through this one type.

use crate::token::Span;

/// A refused text. The phrases follow ANTLR's, which generates the parsers that Azure uses.
/// `line` counts from 1, `position` counts characters of that line from 0, as ANTLR does; so do those of the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SQL Parser Error, Line={line}, Position={position}, Message={message}")]
pub struct SyntaxError {
    pub line: usize,
    pub position: usize,
    pub end_line: usize,
    pub end_position: usize,
    pub message: String,
}

impl SyntaxError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        let (line, position) = place(text, span.start);
        let (end_line, end_position) = place(text, span.end);
        Self { line, position, end_line, end_position, message: message.into() }
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count())
}
