//! The one lexer. Keywords are plain words here: each language decides which words it reserves.

use logos::Logos;

/// A range of bytes of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Logos)]
#[logos(skip r"[ \t\r\n\f\u{a0}\u{feff}]+")]
pub(crate) enum Kind {
    #[regex(r"[A-Za-z_$][A-Za-z0-9_$]*")]
    Word,
    /// `[[word]]`: a name that would otherwise be reserved or not a name at all.
    #[regex(r"\[\[[^\[\]]+\]\]")]
    Bracketed,
    #[regex(r"'(?:[^'\\]|\\(?s:.)|'')*'")]
    #[regex(r#""(?:[^"\\]|\\(?s:.)|"")*""#)]
    Text,
    #[regex(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")]
    #[regex(r"0[xX][0-9A-Fa-f]+")]
    Number,
    #[token("(")]
    LeftParenthesis,
    #[token(")")]
    RightParenthesis,
    #[token("[")]
    LeftBracket,
    #[token("]")]
    RightBracket,
    #[token(",")]
    Comma,
    #[token(".")]
    Dot,
    #[token("*")]
    Star,
    #[token("-")]
    Minus,
    #[token("+")]
    Plus,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("=")]
    Equal,
    #[token("!=")]
    #[token("<>")]
    NotEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessOrEqual,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterOrEqual,
    /// What belongs to no language here, or not yet: one token each, so that the parser can name it.
    #[token(":")]
    #[token("|")]
    #[token("{")]
    #[token("}")]
    #[token(";")]
    Other,
    Unrecognized,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// Splits the text. Never fails: what is no token becomes `Unrecognized`, and the last token is always `End`.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Kind::lexer(text)
        .spanned()
        .map(|(kind, range)| Token {
            kind: kind.unwrap_or(Kind::Unrecognized),
            span: Span { start: range.start, end: range.end },
        })
        .collect();
    tokens.push(Token { kind: Kind::End, span: Span { start: text.len(), end: text.len() } });
    tokens
}

/// The value of a quoted literal: JSON's escapes, `\'`, and a doubled quote. An unknown escape stands for itself,
/// backslash included, so that a Windows path survives.
pub(crate) fn unquote(quoted: &str) -> String {
    let quote = quoted.chars().next().unwrap_or('\'');
    let inner = &quoted[1..quoted.len() - 1];
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character == quote {
            rest.next(); // The second of a doubled quote.
            text.push(quote);
        } else if character == '\\' {
            unescape(&mut rest, &mut text);
        } else {
            text.push(character);
        }
    }
    text
}

fn unescape(rest: &mut std::str::Chars<'_>, text: &mut String) {
    match rest.next() {
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('t') => text.push('\t'),
        Some('b') => text.push('\u{8}'),
        Some('f') => text.push('\u{c}'),
        Some('u') => unescape_unicode(rest, text),
        Some(character @ ('\'' | '"' | '\\' | '/')) => text.push(character),
        Some(other) => text.extend(['\\', other]),
        None => text.push('\\'),
    }
}

fn unescape_unicode(rest: &mut std::str::Chars<'_>, text: &mut String) {
    let Some(unit) = take_hexadecimal(rest) else { return text.push_str("\\u") };
    if let Some(character) = char::from_u32(unit) {
        return text.push(character);
    }
    let mut ahead = rest.clone();
    if ahead.next() == Some('\\') && ahead.next() == Some('u') {
        let low = take_hexadecimal(&mut ahead).filter(|low| (0xDC00..0xE000).contains(low));
        if let Some(low) = low.filter(|_| unit < 0xDC00) {
            *rest = ahead;
            let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            return text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    text.push(char::REPLACEMENT_CHARACTER);
}

fn take_hexadecimal(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut ahead = rest.clone();
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + ahead.next()?.to_digit(16)?;
    }
    *rest = ahead;
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn words_brackets_numbers_and_operators_are_told_apart() {
        use Kind::*;
        assert_eq!(kinds("T.$dtId <> [[Group]]"), [Word, Dot, Word, NotEqual, Bracketed, End]);
        assert_eq!(kinds("3..5 1.5e-3"), [Number, Dot, Dot, Number, Number, End]);
        assert_eq!(kinds("['a', \"b\"]"), [LeftBracket, Text, Comma, Text, RightBracket, End]);
        assert_eq!(kinds("a # b"), [Word, Unrecognized, Word, End]);
    }

    #[test]
    fn escapes_stand_for_their_characters() {
        assert_eq!(unquote(r"'it\'s'"), "it's");
        assert_eq!(unquote("'it''s'"), "it's");
        assert_eq!(unquote(r#""a\"b\\c""#), "a\"b\\c");
        assert_eq!(unquote(r"'\u0041\uD83D\uDE00\uD83Dx\u12'"), "A😀\u{fffd}x\\u12");
        assert_eq!(unquote(r"'C:\data'"), r"C:\data");
    }
}
