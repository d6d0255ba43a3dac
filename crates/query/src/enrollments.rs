//! The query of DPS enrollments and registrations. Real clients send anything here, even a description of their own
//! request object, and expect everything back: no text is refused. A WHERE is honoured when it parses.

use base::caps;
use serde_json::Value as Json;

use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::evaluate::{self, Scope};
use crate::parser::{self, Dialect};
use crate::tree::{Expression, Function, Path};
use crate::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub struct Selection(Option<Expression<Path>>);

impl Selection {
    pub fn parse(text: &str) -> Self {
        Self(condition(text).unwrap_or_default())
    }

    pub fn selects_all(&self) -> bool {
        self.0.is_none()
    }

    /// `item` is the enrollment as the wire shows it.
    pub fn matches(&self, item: &Json) -> bool {
        self.0.as_ref().is_none_or(|condition| evaluate::truth(condition, &Item(item)) == Some(true))
    }
}

fn condition(text: &str) -> Result<Option<Expression<Path>>, SyntaxError> {
    let cursor = &mut Cursor::new(text, caps::QUERY_CHARACTERS_MAX)?;
    cursor.expect_keyword("SELECT", false)?;
    cursor.expect(crate::token::Kind::Star, "'*'")?;
    cursor.expect_keyword("FROM", false)?;
    parser::path(cursor, &[])?;
    if !cursor.eat_keyword("WHERE") {
        return Ok(None);
    }
    let condition = parser::condition(&Language, cursor)?;
    cursor.expect_end()?;
    Ok(Some(condition))
}

struct Language;

impl Dialect for Language {
    type Leaf = Path;

    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Path, SyntaxError> {
        parser::path(cursor, &["AND", "OR", "NOT", "IN", "NIN"])
    }

    fn function(&self, _name: &str) -> Option<Function> {
        None
    }
}

struct Item<'i>(&'i Json);

impl Scope<Path> for Item<'_> {
    /// `enrollments.deviceId` is `deviceId`.
    fn look_up<'s>(&'s self, path: &'s Path) -> Value<'s> {
        let collections = ["enrollments", "enrollmentGroups", "registrations"];
        let prefixed = path.segments.len() > 1
            && collections.iter().any(|name| path.segments[0].eq_ignore_ascii_case(name));
        Value::at(self.0, if prefixed { &path.segments[1..] } else { &path.segments })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_really_send_selects_everything() {
        for text in [
            "",
            "SELECT *",
            "select * from enrollments",
            "SELECT * FROM enrollmentGroups",
            "{'additional_properties': {}, 'query': 'SELECT *'}",
            "SELECT * FROM enrollments WHERE",
            "SELECT * FROM enrollments WHERE a = 1 ORDER BY a",
        ] {
            assert!(Selection::parse(text).selects_all(), "{text}");
        }
    }

    #[test]
    fn a_condition_that_parses_is_honoured() {
        let enrollment = json!({"registrationId": "r1", "provisioningStatus": "enabled"});
        let matches = |text: &str| Selection::parse(text).matches(&enrollment);
        assert!(matches("SELECT * FROM enrollments WHERE registrationId = 'r1'"));
        assert!(matches(
            "SELECT * FROM enrollments where enrollments.registrationId = \"r1\" and provisioningStatus != 'disabled'"
        ));
        assert!(!matches("SELECT * FROM enrollments WHERE registrationId = 'r2'"));
        assert!(!matches("SELECT * FROM enrollments WHERE deviceId = 'r1'"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            Selection::parse(&text).matches(&json!({}));
            Selection::parse(&format!("SELECT * FROM enrollments WHERE {text}")).matches(&json!({}));
        }
    }
}
