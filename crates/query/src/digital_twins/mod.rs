//! The query language of Azure Digital Twins. `digital_twins` calls `parse`, then `Select::plan`; the plan goes to
//! `store`. MATCH is refused with its own words; it will become further links between a plan's bindings.

mod bind;
mod syntax;
#[cfg(test)]
mod tests;

use crate::error::SyntaxError;
use crate::plan::{Plan, Table};
use crate::token::Span;
use crate::tree::{Expression, Path};

/// A query that Azure answers with 400 `SqlQueryError`; the text is the whole message of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SQL query parse failed: {0} See samples in https://aka.ms/adtv2query for the correct syntax.")]
pub struct SqlQueryError(#[from] pub SyntaxError);

/// A parsed query: what was written, names not yet resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    text: String,
    top: Option<u64>,
    projection: Projection,
    from: From,
    joins: Vec<Join>,
    condition: Option<Expression<Leaf>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Projection {
    /// `SELECT *`, and `SELECT TOP(n)` without more; where it stands, for the error that JOIN makes of it.
    All(Span),
    Count {
        name: String,
    },
    Items(Vec<Item>),
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    path: Path,
    name: String,
}

#[derive(Clone, Debug, PartialEq)]
struct From {
    table: Table,
    alias: Option<String>,
}

/// `JOIN twin RELATED source.relationship [relationship_alias]`
#[derive(Clone, Debug, PartialEq)]
struct Join {
    twin: String,
    source: String,
    relationship: String,
    relationship_alias: Option<String>,
    span: Span,
}

#[derive(Clone, Debug, PartialEq)]
enum Leaf {
    Path(Path),
    IsOfModel(ModelTest),
}

/// `IS_OF_MODEL([alias,] 'dtmi' [, exact])`
#[derive(Clone, Debug, PartialEq)]
struct ModelTest {
    alias: Option<String>,
    model: String,
    exact: bool,
    span: Span,
}

pub fn parse(text: &str) -> Result<Select, SqlQueryError> {
    Ok(syntax::select(text)?)
}

/// `parse` and `Select::plan` in one.
pub fn compile(text: &str, models: impl FnMut(&str, bool) -> Vec<String>) -> Result<Plan, SqlQueryError> {
    parse(text)?.plan(models)
}

impl Select {
    /// The models that `IS_OF_MODEL` asks for, each with whether only exactly it will do; for callers that must
    /// read them before they can answer `plan`.
    pub fn model_tests(&self) -> Vec<(&str, bool)> {
        let mut tests = Vec::new();
        if let Some(condition) = &self.condition {
            condition.leaves(&mut |leaf| {
                if let Leaf::IsOfModel(test) = leaf {
                    tests.push((test.model.as_str(), test.exact));
                }
            });
        }
        tests
    }

    /// Resolves names. `models` lists the ids of every model that satisfies a test: the model itself and, unless
    /// exact, all that extend it. None for an unknown model.
    pub fn plan(&self, models: impl FnMut(&str, bool) -> Vec<String>) -> Result<Plan, SqlQueryError> {
        Ok(bind::plan(self, models)?)
    }
}
