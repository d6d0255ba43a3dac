//! What is wrong with a text, and where. Every front end reports through this one type.

use crate::token::Span;

/// A refused text. The phrases follow ANTLR's, which generates the parsers that Azure uses.
/// `line` counts from 1, `position` counts characters of that line from 0, as ANTLR does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SQL Parser Error, Line={line}, Position={position}, Message={message}")]
pub struct SyntaxError {
    pub line: usize,
    pub position: usize,
    pub message: String,
}

impl SyntaxError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        let before = &text[..span.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            position: before[line_start..].chars().count(),
            message: message.into(),
        }
    }
}
