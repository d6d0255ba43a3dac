//! `$filter` of role assignments and role definitions: the few published terms, joined by `and`.
//! Called by the list operations. It must never panic on any text.

use access::directory::RoleAssignment;
use access::roles::RoleDefinition;
use base::{Scope, caps};

use crate::error::Error;
use crate::filter::{Token, tokens};

/// Which assignments a list shows. The default shows all: at the scope, above it and below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentFilter {
    /// `atScope()`: nothing below.
    is_at_scope: bool,
    /// `principalId eq '…'` and `assignedTo('…')`: the same, as long as there are no groups.
    principal_id: Option<String>,
}

/// Which definitions a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefinitionFilter {
    role_name: Option<String>,
    role_type: Option<String>,
}

/// Every role here is Azure's own.
const BUILT_IN: &str = "BuiltInRole";

enum Term {
    /// `name()` or `name('value')`.
    Call(String, Option<String>),
    /// `name eq 'value'`.
    Is(String, String),
}

impl AssignmentFilter {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for term in terms(text)? {
            match term {
                Term::Call(name, None) if name == "atscope" => filter.is_at_scope = true,
                Term::Call(name, Some(id)) if name == "assignedto" => filter.principal_id = Some(id),
                Term::Is(name, id) if name == "principalid" => filter.principal_id = Some(id),
                Term::Call(..) | Term::Is(..) => return Err(refusal(text)),
            }
        }
        Ok(filter)
    }

    pub(super) fn admits(&self, assignment: &RoleAssignment, at: &Scope) -> bool {
        (!self.is_at_scope || assignment.scope.contains(at))
            && self.principal_id.as_ref().is_none_or(|id| id.eq_ignore_ascii_case(&assignment.principal_id))
    }
}

impl DefinitionFilter {
    /// Where a definition may be assigned is everywhere, so `atScope()` and `atScopeAndBelow()` leave none out.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for term in terms(text)? {
            match term {
                Term::Call(name, None) if matches!(&*name, "atscope" | "atscopeandbelow") => {}
                Term::Is(name, value) if name == "rolename" => filter.role_name = Some(value),
                Term::Is(name, value) if name == "type" => filter.role_type = Some(value),
                Term::Call(..) | Term::Is(..) => return Err(refusal(text)),
            }
        }
        Ok(filter)
    }

    pub(super) fn admits(&self, role: &RoleDefinition) -> bool {
        self.role_name.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(role.role_name))
            && self.role_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(BUILT_IN))
    }
}

fn terms(text: &str) -> Result<Vec<Term>, Error> {
    if text.chars().count() > caps::QUERY_CHARACTERS_MAX {
        return Err(refusal(text));
    }
    let tokens = tokens(text).ok_or_else(|| refusal(text))?;
    let is_and = |token: &Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("and"));
    let parts = tokens.split(is_and).filter(|_| !tokens.is_empty());
    parts.map(|part| term(part).ok_or_else(|| refusal(text))).collect()
}

fn term(tokens: &[Token]) -> Option<Term> {
    match tokens {
        [Token::Word(name), Token::Open, Token::Close] => Some(Term::Call(name.to_ascii_lowercase(), None)),
        [Token::Word(name), Token::Open, Token::Text(value), Token::Close] => {
            Some(Term::Call(name.to_ascii_lowercase(), Some(value.clone())))
        }
        [Token::Word(name), Token::Word(is), Token::Text(value)] if is.eq_ignore_ascii_case("eq") => {
            Some(Term::Is(name.to_ascii_lowercase(), value.clone()))
        }
        _ => None,
    }
}

fn refusal(text: &str) -> Error {
    Error::InvalidFilter(text.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_filters_are_read() {
        let id = || Some("7".to_owned());
        for (text, is_at_scope, principal_id) in [
            ("", false, None),
            ("atScope()", true, None),
            ("principalId eq '7'", false, id()),
            ("assignedTo('7')", false, id()),
            ("atScope() and assignedTo('7')", true, id()),
            ("atscope()+and+principalid eq '7'".replace('+', " ").as_str(), true, id()),
        ] {
            let wanted = AssignmentFilter { is_at_scope, principal_id };
            assert_eq!(AssignmentFilter::parse(text).unwrap(), wanted, "{text}");
        }
        let named = DefinitionFilter::parse("atScopeAndBelow() and roleName eq 'Owner'").unwrap();
        assert_eq!(named.role_name.as_deref(), Some("Owner"));
        assert_eq!(
            DefinitionFilter::parse("type eq 'CustomRole'").unwrap().role_type.as_deref(),
            Some("CustomRole")
        );
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for bad in
            ["atScope", "atScope() and", "and", "principalId eq 7", "principalId ne '7'", "asTarget()", "'"]
        {
            assert!(AssignmentFilter::parse(bad).is_err(), "{bad}");
            assert!(DefinitionFilter::parse(bad).is_err(), "{bad}");
        }
        assert!(DefinitionFilter::parse("principalId eq '7'").is_err());
        assert!(AssignmentFilter::parse("roleName eq 'Owner'").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "([ (),'=a-z]|atScope\\(\\)|name eq 'x'| and ){0,40}|\\PC*") {
            let _ = (AssignmentFilter::parse(&text), DefinitionFilter::parse(&text));
        }
    }
}
