//! `$filter` of generic resource lists: a small language of comparisons over names, types, groups, locations and tags.
//! Called by the list operations. It must never panic or recurse without bound on any text.

use base::caps;

use crate::error::Error;

/// What a filter looks at.
pub struct Subject<'a> {
    pub name: &'a str,
    pub resource_type: &'a str,
    pub resource_group: &'a str,
    pub location: &'a str,
    pub tags: &'a [(&'a str, &'a str)],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Everything,
    Is {
        field: Field,
        value: String,
        negated: bool,
    },
    Contains {
        field: Field,
        value: String,
    },
    StartsWith {
        field: Field,
        value: String,
    },
    /// `tagName eq 'a' and tagValue eq 'b'`: both of one tag.
    Tag {
        name: String,
        value: Option<String>,
    },
    And(Vec<Filter>),
    Or(Vec<Filter>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Name,
    ResourceType,
    ResourceGroup,
    Location,
    TagName,
    TagValue,
}

impl Filter {
    /// An empty filter admits everything: `az` sends one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refusal = || Error::InvalidFilter(text.chars().take(256).collect());
        if text.chars().count() > caps::QUERY_CHARACTERS_MAX {
            return Err(refusal());
        }
        let tokens = tokens(text).ok_or_else(refusal)?;
        if tokens.is_empty() {
            return Ok(Self::Everything);
        }
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
        let filter = parser.any().filter(|_| parser.at == tokens.len()).ok_or_else(refusal)?;
        Ok(filter)
    }

    pub fn admits(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::And(parts) => parts.iter().all(|part| part.admits(subject)),
            Self::Or(parts) => parts.iter().any(|part| part.admits(subject)),
            Self::Is { field, value, negated } => {
                subject.values(*field).iter().any(|have| have.eq_ignore_ascii_case(value)) != *negated
            }
            Self::Contains { field, value } => {
                let value = value.to_ascii_lowercase();
                subject.values(*field).iter().any(|have| have.to_ascii_lowercase().contains(&value))
            }
            Self::StartsWith { field, value } => {
                let value = value.to_ascii_lowercase();
                subject.values(*field).iter().any(|have| have.to_ascii_lowercase().starts_with(&value))
            }
            Self::Tag { name, value } => subject.tags.iter().any(|(tag, have)| {
                tag.eq_ignore_ascii_case(name) && value.as_ref().is_none_or(|value| have == value)
            }),
        }
    }
}

impl<'a> Subject<'a> {
    fn values(&self, field: Field) -> Vec<&'a str> {
        match field {
            Field::Name => vec![self.name],
            Field::ResourceType => vec![self.resource_type],
            Field::ResourceGroup => vec![self.resource_group],
            Field::Location => vec![self.location],
            Field::TagName => self.tags.iter().map(|(name, _)| *name).collect(),
            Field::TagValue => self.tags.iter().map(|(_, value)| *value).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
}

pub(crate) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            '(' | ')' | ',' => {
                chars.next();
                tokens.push(match c {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                });
            }
            '\'' => {
                chars.next();
                tokens.push(Token::Text(quoted(&mut chars)?));
            }
            c if c.is_whitespace() => {
                chars.next();
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            _ => return None,
        }
    }
    Some(tokens)
}

/// The rest of a quoted text; a doubled quote stands for one.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                text.push('\'');
            }
            '\'' => return Some(text),
            c => text.push(c),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Option<Filter> {
        let mut parts = vec![self.all()?];
        while self.keyword("or") {
            parts.push(self.all()?);
        }
        if parts.len() == 1 { parts.pop() } else { Some(Filter::Or(parts)) }
    }

    fn all(&mut self) -> Option<Filter> {
        let mut parts = vec![self.one()?];
        while self.keyword("and") {
            parts.push(self.one()?);
        }
        pair_tags(&mut parts);
        if parts.len() == 1 { parts.pop() } else { Some(Filter::And(parts)) }
    }

    fn one(&mut self) -> Option<Filter> {
        if self.eat(&Token::Open) {
            self.depth += 1;
            if self.depth > caps::EXPRESSION_DEPTH_MAX {
                return None;
            }
            let inner = self.any()?;
            self.depth -= 1;
            return self.eat(&Token::Close).then_some(inner);
        }
        let word = self.word()?;
        match word.to_ascii_lowercase().as_str() {
            "substringof" => {
                self.eat(&Token::Open).then_some(())?;
                let value = self.text()?;
                self.eat(&Token::Comma).then_some(())?;
                let field = field(&self.word()?)?;
                self.eat(&Token::Close).then_some(Filter::Contains { field, value })
            }
            "startswith" => {
                self.eat(&Token::Open).then_some(())?;
                // Azure writes tagname first, OData the field first; for tags both are one argument.
                let field = field(&self.word()?)?;
                self.eat(&Token::Comma).then_some(())?;
                let value = self.text()?;
                self.eat(&Token::Close).then_some(Filter::StartsWith { field, value })
            }
            name => {
                let field = field(name)?;
                let negated = match self.word()?.to_ascii_lowercase().as_str() {
                    "eq" => false,
                    "ne" => true,
                    _ => return None,
                };
                Some(Filter::Is { field, value: self.text()?, negated })
            }
        }
    }

    fn eat(&mut self, token: &Token) -> bool {
        let is_next = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let is_next =
            matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(word.clone())
    }

    fn text(&mut self) -> Option<String> {
        let Some(Token::Text(text)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(text.clone())
    }
}

fn field(name: &str) -> Option<Field> {
    Some(match name.to_ascii_lowercase().as_str() {
        "name" => Field::Name,
        "resourcetype" => Field::ResourceType,
        "resourcegroup" => Field::ResourceGroup,
        "location" => Field::Location,
        "tagname" => Field::TagName,
        "tagvalue" => Field::TagValue,
        _ => return None,
    })
}

/// Joins the two halves of `tagName eq 'a' and tagValue eq 'b'`, which speak of one tag.
fn pair_tags(parts: &mut Vec<Filter>) {
    let position = |parts: &[Filter], wanted: Field| {
        parts
            .iter()
            .position(|part| matches!(part, Filter::Is { field, negated: false, .. } if *field == wanted))
    };
    let Some(at) = position(parts, Field::TagName) else { return };
    let Filter::Is { value: name, .. } = parts.remove(at) else { return };
    let value = position(parts, Field::TagValue).map(|at| parts.remove(at)).and_then(|part| match part {
        Filter::Is { value, .. } => Some(value),
        _ => None,
    });
    parts.push(Filter::Tag { name, value });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admits(filter: &str) -> bool {
        let subject = Subject {
            name: "Twins-1",
            resource_type: "Microsoft.DigitalTwins/digitalTwinsInstances",
            resource_group: "Group",
            location: "eastus",
            tags: &[("env", "dev"), ("owner", "o'neil")],
        };
        Filter::parse(filter).unwrap().admits(&subject)
    }

    #[test]
    fn the_published_filters_choose_what_they_name() {
        for yes in [
            "",
            "resourceType eq 'microsoft.digitaltwins/digitaltwinsinstances'",
            "tagName eq 'env' and tagValue eq 'dev'",
            "tagname eq 'owner' and tagvalue eq 'o''neil'",
            "resourceGroup eq 'group' and name eq 'twins-1'",
            "substringof('win', name)",
            "startswith(tagname, 'en')",
            "(name eq 'a' or name eq 'TWINS-1') and location ne 'westus'",
        ] {
            assert!(admits(yes), "{yes}");
        }
        for no in
            ["tagName eq 'env' and tagValue eq 'o''neil'", "name eq 'other'", "substringof('hub', name)"]
        {
            assert!(!admits(no), "{no}");
        }
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        let deep = "(".repeat(10_000);
        for bad in
            ["name", "name eq", "name eq x", "name eq 'x", "colour eq 'red'", "name eq 'a' and", "()", &deep]
        {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "([ (),'=a-z]|name eq 'x'| and | or ){0,40}|\\PC*") {
            let _ = Filter::parse(&text);
        }
    }
}
