//! A walk over the tokens of one text, and the errors met on the way, in ANTLR's words.
//! Used by every front end; holds the counts that bound a text's depth and its terms.

use crate::error::SyntaxError;
use crate::token::{self, Kind, Span, Token};

pub(crate) struct Cursor<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    /// Open parentheses, functions and negations around the current token.
    pub(crate) depth: usize,
    /// AND and OR met so far.
    pub(crate) connectives: usize,
}

impl<'t> Cursor<'t> {
    /// Refuses a text of more than `characters_max` before looking at it.
    pub(crate) fn new(text: &'t str, characters_max: usize) -> Result<Self, SyntaxError> {
        if text.chars().count() > characters_max {
            let message = format!("the text is longer than {characters_max} characters");
            return Err(SyntaxError::new(text, Span::default(), message));
        }
        Ok(Self { text, tokens: token::tokens(text), at: 0, depth: 0, connectives: 0 })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.tokens[self.at].kind
    }

    pub(crate) fn next_kind(&self) -> Kind {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    pub(crate) fn span(&self) -> Span {
        self.tokens[self.at].span
    }

    pub(crate) fn slice(&self) -> &'t str {
        let Span { start, end } = self.span();
        &self.text[start..end]
    }

    pub(crate) fn next_span(&self) -> Span {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)].span
    }

    pub(crate) fn next_slice(&self) -> &'t str {
        let Span { start, end } = self.next_span();
        &self.text[start..end]
    }

    pub(crate) fn advance(&mut self) {
        // `End` is never passed, so that every look at the current token finds one.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub(crate) fn is_keyword(&self, keyword: &str) -> bool {
        self.is_keyword_at(self.at, keyword)
    }

    pub(crate) fn is_one_of(&self, keywords: &[&str]) -> bool {
        let word = self.slice();
        self.kind() == Kind::Word && keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
    }

    fn is_keyword_at(&self, at: usize, keyword: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Word
                && self.text[token.span.start..token.span.end].eq_ignore_ascii_case(keyword)
        })
    }

    pub(crate) fn eat(&mut self, kind: Kind) -> bool {
        let found = self.kind() == kind;
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn expect(&mut self, kind: Kind, name: &str) -> Result<(), SyntaxError> {
        if self.eat(kind) { Ok(()) } else { Err(self.unexpected(name)) }
    }

    /// As ANTLR recovers, so it complains: a token too many if the keyword comes next, a keyword missing if what
    /// stands here could follow it, a mismatch otherwise.
    pub(crate) fn expect_keyword(&mut self, keyword: &str, could_follow: bool) -> Result<(), SyntaxError> {
        if self.eat_keyword(keyword) {
            return Ok(());
        }
        if self.kind() == Kind::Unrecognized {
            return Err(self.unexpected(keyword));
        }
        let here = self.shown();
        Err(self.error(if self.is_keyword_at(self.at + 1, keyword) {
            format!("extraneous input '{here}' expecting {keyword}")
        } else if could_follow {
            format!("missing {keyword} at '{here}'")
        } else {
            format!("mismatched input '{here}' expecting {keyword}")
        }))
    }

    pub(crate) fn expect_end(&self) -> Result<(), SyntaxError> {
        if self.kind() == Kind::End { Ok(()) } else { Err(self.unexpected("<EOF>")) }
    }

    pub(crate) fn unexpected(&self, expected: &str) -> SyntaxError {
        let here = self.shown();
        self.error(match self.kind() {
            Kind::Unrecognized => format!("token recognition error at: '{here}'"),
            _ => format!("mismatched input '{here}' expecting {expected}"),
        })
    }

    pub(crate) fn no_alternative(&self) -> SyntaxError {
        let here = self.shown();
        self.error(match self.kind() {
            Kind::Unrecognized => format!("token recognition error at: '{here}'"),
            _ => format!("no viable alternative at input '{here}'"),
        })
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> SyntaxError {
        self.error_at(self.span(), message)
    }

    pub(crate) fn error_at(&self, span: Span, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.text, span, message)
    }

    fn shown(&self) -> &'t str {
        match self.kind() {
            Kind::End => "<EOF>",
            _ => self.slice(),
        }
    }
}
