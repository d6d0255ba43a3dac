//! A reader of the few XML documents that clients send, each of one shape: what has another is refused, so that no document can
//! make the reader do more work than its length.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Open,
    Empty,
}

/// The document has not the shape that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Past a byte order mark and the declaration.
    pub(crate) fn new(document: &'a str) -> Result<Self, Malformed> {
        let mut rest = document.strip_prefix('\u{feff}').unwrap_or(document);
        if let Some(declaration) = rest.strip_prefix("<?xml") {
            rest = declaration.split_once("?>").ok_or(Malformed)?.1;
        }
        Ok(Self { rest })
    }

    pub(crate) fn open(&mut self, name: &str) -> Result<Tag, Malformed> {
        let after = self.after("<", name).ok_or(Malformed)?;
        let (tag, rest) = match (after.strip_prefix('>'), after.strip_prefix("/>")) {
            (Some(rest), _) => (Tag::Open, rest),
            (_, Some(rest)) => (Tag::Empty, rest),
            (None, None) => return Err(Malformed),
        };
        self.rest = rest;
        Ok(tag)
    }

    pub(crate) fn close(&mut self, name: &str) -> bool {
        let rest = self.after("</", name).and_then(|after| after.strip_prefix('>'));
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    /// Up to the next tag, without the blanks around it, as it stands there.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let (text, rest) = self.rest.split_at(self.rest.find('<').ok_or(Malformed)?);
        self.rest = rest;
        Ok(text.trim())
    }

    /// The text of an element, or nothing where it is empty. `None` where there is no such element.
    pub(crate) fn element(&mut self, name: &str) -> Result<Option<&'a str>, Malformed> {
        match self.open(name) {
            Err(Malformed) => Ok(None),
            Ok(Tag::Empty) => Ok(Some("")),
            Ok(Tag::Open) => {
                let text = self.text()?;
                if self.close(name) { Ok(Some(text)) } else { Err(Malformed) }
            }
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.trim().is_empty()
    }

    /// What follows `mark` and `name`, past the blanks before and behind them.
    fn after(&self, mark: &str, name: &str) -> Option<&'a str> {
        let named = self.rest.trim_start().strip_prefix(mark)?.strip_prefix(name)?;
        Some(named.trim_start())
    }
}
