//! JSON as the parser sees it: every member in order, repeated names kept, and places when read from text.
//! Depth and number of values are bounded here, so that everything after may recurse.

use std::{borrow::Cow, rc::Rc};

use base::caps;
use serde_json::Number;

use crate::{Issue, Position, issue::Issues};

#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) position: Position,
    /// Of its text, without the blanks between its parts.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Members(Vec<Member<'a>>),
}

#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Node<'a>,
}

impl<'a> Node<'a> {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn members(&self) -> Option<&[Member<'a>]> {
        match &self.kind {
            Kind::Members(members) => Some(members),
            _ => None,
        }
    }

    /// The first member of that name.
    pub(crate) fn member(&self, name: &str) -> Option<&Node<'a>> {
        self.members()?.iter().find(|member| member.name == name).map(|member| &member.value)
    }

    pub(crate) fn from_text(text: &'a str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner { text, at: 0, line: 1, line_start: 0, blanks: 0, values: 0 };
        let node = scanner.value(caps::JSON_DEPTH_MAX)?;
        scanner.blanks();
        if scanner.at < text.len() {
            Err(scanner.error("nothing is expected after the document"))
        } else {
            Ok(node)
        }
    }
}

/// The rule of an issue of text that cannot be read as JSON at all.
pub const INVALID_JSON: &str = "invalidJson";

#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    pub(crate) message: &'static str,
}

impl From<SyntaxError> for Issue {
    fn from(error: SyntaxError) -> Self {
        let SyntaxError { position, message } = error;
        Self {
            model: None,
            path: String::new(),
            position: Some(position),
            rule: INVALID_JSON,
            message: message.to_owned(),
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    /// Bytes of them so far.
    blanks: usize,
    values: usize,
}

impl<'a> Scanner<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        self.blanks();
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.error("the document is nested too deep"));
        };
        self.values += 1;
        if self.values > caps::MODELS_VALUES_MAX {
            return Err(self.error("there are too many values"));
        }
        let (position, start) = (self.position(), self.at - self.blanks);
        let kind = match self.peek() {
            Some(b'{') => self.members(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ if self.word("null") => Kind::Null,
            _ if self.word("true") => Kind::Bool(true),
            _ if self.word("false") => Kind::Bool(false),
            _ => return Err(self.error("a JSON value is expected")),
        };
        Ok(Node { kind, position, bytes: self.at - self.blanks - start })
    }

    fn members(&mut self, depth: usize) -> Result<Kind<'a>, SyntaxError> {
        let mut members = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b'}') {
            return Ok(Kind::Members(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("a member name is expected"));
            }
            let name = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return Err(self.error("a colon is expected"));
            }
            let value = self.value(depth)?;
            members.push(Member { name, value });
            self.blanks();
            if self.take(b'}') {
                members.shrink_to_fit();
                return Ok(Kind::Members(members));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or a closing brace is expected"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Kind<'a>, SyntaxError> {
        let mut items = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b']') {
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.blanks();
            if self.take(b']') {
                items.shrink_to_fit();
                return Ok(Kind::List(items));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or a closing bracket is expected"));
            }
        }
    }

    /// Finds the end here and leaves escapes and control characters to `serde_json`.
    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let start = self.at;
        let mut end = start + 1;
        let mut plain = true;
        loop {
            match self.text.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    end += 2;
                }
                Some(byte) => {
                    plain &= *byte >= 0x20;
                    end += 1;
                }
                None => return Err(self.error("the string has no end")),
            }
        }
        self.at = end + 1;
        if plain {
            return Ok(Cow::Borrowed(&self.text[start + 1..end]));
        }
        if let Ok(text) = serde_json::from_str(&self.text[start..=end]) {
            Ok(Cow::Owned(text))
        } else {
            self.at = start;
            Err(self.error("the string has a bad escape or a bare control character"))
        }
    }

    fn number(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length = rest.bytes().take_while(is_part).count();
        match serde_json::from_str(&rest[..length]) {
            Ok(number) => {
                self.at += length;
                Ok(Kind::Number(number))
            }
            Err(_) => Err(self.error("the number is malformed or too large")),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn blanks(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.at += 1;
            self.blanks += 1;
            if byte == b'\n' {
                self.line += 1;
                self.line_start = self.at;
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn position(&self) -> Position {
        // A document of one long line would make this quadratic: columns beyond a bound count bytes instead.
        let before = &self.text[self.line_start..self.at];
        let column = if before.len() < 4096 { before.chars().count() } else { before.len() };
        Position {
            line: self.line,
            column: u32::try_from(column).map_or(u32::MAX, |column| column.saturating_add(1)),
        }
    }

    fn error(&self, message: &'static str) -> SyntaxError {
        SyntaxError { position: self.position(), message }
    }
}

/// Where the parser is: the way from the root. Written out only when there is something to say.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a>(Rc<Step<'a>>);

#[derive(Debug)]
struct Step<'a> {
    parent: Option<Place<'a>>,
    segment: Segment<'a>,
    position: Position,
}

#[derive(Debug)]
enum Segment<'a> {
    Root,
    Index(usize),
    Name(&'a str),
}

impl<'a> Place<'a> {
    pub(crate) fn root(node: &Node) -> Self {
        Self(Rc::new(Step { parent: None, segment: Segment::Root, position: node.position }))
    }

    pub(crate) fn index(&self, index: usize, node: &Node) -> Self {
        self.step(Segment::Index(index), node.position)
    }

    pub(crate) fn name(&self, name: &'a str, node: &Node) -> Self {
        self.step(Segment::Name(name), node.position)
    }

    fn step(&self, segment: Segment<'a>, position: Position) -> Self {
        Self(Rc::new(Step { parent: Some(self.clone()), segment, position }))
    }

    pub(crate) fn position(&self) -> Position {
        self.0.position
    }

    /// As a JSON pointer.
    pub(crate) fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut place = Some(self);
        while let Some(Self(step)) = place {
            steps.push(step);
            place = step.parent.as_ref();
        }
        let mut path = String::new();
        for step in steps.iter().rev() {
            match &step.segment {
                Segment::Root => {}
                Segment::Index(index) => path = path + "/" + &index.to_string(),
                Segment::Name(name) => path = path + "/" + &name.replace('~', "~0").replace('/', "~1"),
            }
        }
        path
    }
}

/// The values of a member: an array's items, or the value itself.
pub(crate) fn values<'n, 'a>(node: &'n Node<'a>, place: &Place<'n>) -> Vec<(&'n Node<'a>, Place<'n>)> {
    match &node.kind {
        Kind::List(items) => {
            items.iter().enumerate().map(|(index, item)| (item, place.index(index, item))).collect()
        }
        _ => vec![(node, place.clone())],
    }
}

/// Names given twice, which a `serde_json` value cannot hold.
pub(crate) fn repeated_names<'n>(node: &'n Node, place: &Place<'n>, issues: &mut Issues) {
    let mut seen = std::collections::HashSet::new();
    for member in node.members().unwrap_or_default() {
        if !seen.insert(&*member.name) {
            let place = place.name(&member.name, &member.value);
            issues.add(&place, "duplicatePropertyName", format!("'{}' is given twice", member.name));
        }
    }
}
