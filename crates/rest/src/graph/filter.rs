//! `$filter` of service principals: the clauses by which `az` and Terraform look one up.

use super::error::GraphError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    Id(String),
    /// The name that an application logs in with: its id, as long as it has no other.
    Name(String),
    DisplayName(String),
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, GraphError> {
        let text = text.trim();
        let refusal = || GraphError::UnsupportedQuery(text.chars().take(128).collect());
        if text.is_empty() {
            return Ok(Self::All);
        }
        if let Some(value) = any_name(text) {
            return Ok(Self::Name(value));
        }
        let (name, rest) = text.split_once(' ').ok_or_else(refusal)?;
        let value =
            rest.trim().strip_prefix("eq ").and_then(|rest| quoted(rest.trim())).ok_or_else(refusal)?;
        match name {
            "id" => Ok(Self::Id(value)),
            "appId" => Ok(Self::Name(value)),
            "displayName" => Ok(Self::DisplayName(value)),
            _ => Err(refusal()),
        }
    }
}

/// The value of `servicePrincipalNames/any(c:c eq '…')`.
fn any_name(text: &str) -> Option<String> {
    let inner = text.strip_prefix("servicePrincipalNames/any(")?.strip_suffix(')')?;
    let (variable, condition) = inner.split_once(':')?;
    let value = condition.trim().strip_prefix(variable.trim())?.trim().strip_prefix("eq ")?;
    quoted(value.trim())
}

/// A text in quotes; a doubled quote stands for one.
fn quoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let single = inner.replace("''", "");
    (!single.contains('\'')).then(|| inner.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clauses_that_clients_send_are_read() {
        for (text, filter) in [
            ("", Filter::All),
            ("servicePrincipalNames/any(c:c eq '7')", Filter::Name("7".into())),
            ("servicePrincipalNames/any(x: x eq '7')", Filter::Name("7".into())),
            ("appId eq '7'", Filter::Name("7".into())),
            ("id eq '7'", Filter::Id("7".into())),
            ("displayName eq 'o''neil'", Filter::DisplayName("o'neil".into())),
        ] {
            assert_eq!(Filter::parse(text).unwrap(), filter, "{text}");
        }
        for bad in
            ["x", "appId", "appId eq 7", "appId ne '7'", "appId eq '7' or id eq '8'", "id eq '", "id eq '''"]
        {
            assert!(matches!(Filter::parse(bad), Err(GraphError::UnsupportedQuery(_))), "{bad}");
        }
    }
}
