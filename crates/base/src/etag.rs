//! Conditional headers as values: what the caller expects of the stored entity.

/// `If-Match`. Clients write the same tag as `x`, `"x"`, `W/"x"` and even `"*"`; all are understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    #[default]
    Absent,
    /// `*`: the entity must exist, in whatever version.
    Any,
    /// The tag without quotes and weakness mark.
    Tag(String),
}

impl IfMatch {
    pub fn parse(header: Option<&str>) -> Self {
        match header.map(str::trim) {
            None | Some("") => Self::Absent,
            Some(text) => match bare(text) {
                "*" => Self::Any,
                tag => Self::Tag(tag.to_owned()),
            },
        }
    }

    /// Whether an entity with this etag (quotes and `W/` do not matter) satisfies the header.
    pub fn allows(&self, etag: &str) -> bool {
        match self {
            Self::Absent | Self::Any => true,
            Self::Tag(tag) => tag == bare(etag),
        }
    }

    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

/// `If-None-Match`. Only `*` ("must not exist") is known to the services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfNoneMatch {
    #[default]
    Absent,
    Any,
    /// Some other value; the services refuse it.
    Unsupported(String),
}

impl IfNoneMatch {
    pub fn parse(header: Option<&str>) -> Self {
        match header.map(str::trim) {
            None => Self::Absent,
            Some("*" | "\"*\"") => Self::Any,
            Some(other) => Self::Unsupported(other.to_owned()),
        }
    }
}

/// Strips a weakness mark and any number of quotes, plain or backslash-escaped.
fn bare(text: &str) -> &str {
    text.trim_start_matches("W/").trim_matches(['"', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_tag_is_the_same_tag() {
        for text in ["abc=", "\"abc=\"", "W/\"abc=\"", "\"\\\"abc=\\\"\""] {
            assert_eq!(IfMatch::parse(Some(text)), IfMatch::Tag("abc=".into()), "{text}");
            assert!(IfMatch::parse(Some(text)).allows("W/\"abc=\""));
            assert!(!IfMatch::parse(Some(text)).allows("other"));
        }
        assert_eq!(IfMatch::parse(Some("\"*\"")), IfMatch::Any);
        assert_eq!(IfMatch::parse(None), IfMatch::Absent);
    }
}
