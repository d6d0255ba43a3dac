//! `Select` to `Plan`: aliases become bindings, paths become columns, model tests become sets of model ids.

use super::{Join, Leaf, ModelTest, Projection, Select};
use crate::error::SyntaxError;
use crate::plan::{Binding, Column, Link, Output, OutputColumn, Plan, Table};
use crate::token::Span;
use crate::tree::{Comparison, Expression, Literal, Path};

pub(super) fn plan(
    select: &Select,
    mut models: impl FnMut(&str, bool) -> Vec<String>,
) -> Result<Plan, SyntaxError> {
    let mut names = Names { text: &select.text, bindings: Vec::new() };
    names.bind(select.from.alias.as_deref(), select.from.table, Link::Root, Span::default())?;
    for join in &select.joins {
        names.join(join)?;
    }
    let condition = select.condition.as_ref().map(|condition| {
        condition.try_map(&mut |leaf| match leaf {
            Leaf::Path(path) => names.column(path).map(Expression::Path),
            Leaf::IsOfModel(test) => {
                names.of_model(test, models(&test.model, test.exact).into_iter().map(Literal::Text).collect())
            }
        })
    });
    let condition = condition.transpose()?;
    let output = names.output(&select.projection)?;
    names.check_joins(select, condition.as_ref())?;
    Ok(Plan { bindings: names.bindings, condition, output, top: select.top })
}

struct Names<'t> {
    text: &'t str,
    bindings: Vec<Binding>,
}

impl Names<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.text, span, message)
    }

    fn find(&self, alias: &str) -> Option<usize> {
        self.bindings.iter().position(|binding| binding.alias.as_deref() == Some(alias))
    }

    fn bind(
        &mut self,
        alias: Option<&str>,
        table: Table,
        link: Link,
        span: Span,
    ) -> Result<usize, SyntaxError> {
        if let Some(alias) = alias.filter(|alias| self.find(alias).is_some()) {
            return Err(self.error(span, format!("the alias '{alias}' is used more than once")));
        }
        self.bindings.push(Binding { alias: alias.map(str::to_owned), table, link });
        Ok(self.bindings.len() - 1)
    }

    fn join(&mut self, join: &Join) -> Result<(), SyntaxError> {
        let source = self.find(&join.source).filter(|at| self.bindings[*at].table == Table::DigitalTwins);
        let Some(twin) = source else {
            let message = format!("'{}' is not the alias of a collection of digital twins", join.source);
            return Err(self.error(join.span, message));
        };
        let link = Link::OutgoingFrom { twin, name: join.relationship.clone() };
        let relationship =
            self.bind(join.relationship_alias.as_deref(), Table::Relationships, link, join.span)?;
        let link = Link::TargetOf { relationship };
        self.bind(Some(&join.twin), Table::DigitalTwins, link, join.span)?;
        Ok(())
    }

    /// With one collection its alias may be left out; with several it may not.
    fn column(&self, path: &Path) -> Result<Column, SyntaxError> {
        if let Some(binding) = self.find(&path.segments[0]) {
            return Ok(Column { binding, path: path.segments[1..].to_vec() });
        }
        if self.bindings.len() == 1 {
            return Ok(Column { binding: 0, path: path.segments.clone() });
        }
        let first = &path.segments[0];
        let message = format!("'{first}' is not the alias of a collection, which a query with JOIN requires");
        Err(self.error(path.span, message))
    }

    fn of_model(&self, test: &ModelTest, models: Vec<Literal>) -> Result<Expression<Column>, SyntaxError> {
        let binding = match &test.alias {
            Some(alias) => self.find(alias),
            None if self.bindings.len() == 1 => Some(0),
            None => {
                return Err(self.error(test.span, "IS_OF_MODEL requires an alias in a query with JOIN"));
            }
        };
        let twin = binding.filter(|at| self.bindings[*at].table == Table::DigitalTwins);
        let Some(binding) = twin else {
            return Err(
                self.error(test.span, "IS_OF_MODEL requires the alias of a collection of digital twins")
            );
        };
        let operand = Box::new(Expression::Path(Column::model_of(binding)));
        Ok(Expression::OneOf { operand, items: models })
    }

    fn output(&self, projection: &Projection) -> Result<Output, SyntaxError> {
        match projection {
            Projection::All(span) if self.bindings.len() > 1 => Err(self
                .error(*span, "'*' is not supported in a query with JOIN; name the collections to project")),
            Projection::All(_) => Ok(Output::Document),
            Projection::Count { name } => Ok(Output::Count { name: name.clone() }),
            Projection::Items(items) => {
                let columns = items.iter().map(|item| {
                    Ok(OutputColumn { name: item.name.clone(), column: self.column(&item.path)? })
                });
                Ok(Output::Columns(columns.collect::<Result<_, SyntaxError>>()?))
            }
        }
    }

    /// A join must start somewhere: `$dtId` of one of its twins is fixed by `=` or IN.
    fn check_joins(
        &self,
        select: &Select,
        condition: Option<&Expression<Column>>,
    ) -> Result<(), SyntaxError> {
        let Some(join) = select.joins.first() else { return Ok(()) };
        if condition.is_some_and(|condition| self.fixes_a_twin(condition)) {
            return Ok(());
        }
        let message =
            "a query with JOIN requires a WHERE clause that restricts $dtId of one of its twins with = or IN";
        Err(self.error(join.span, message))
    }

    fn fixes_a_twin(&self, condition: &Expression<Column>) -> bool {
        match condition {
            Expression::All(items) => items.iter().any(|item| self.fixes_a_twin(item)),
            Expression::Any(items) => items.iter().all(|item| self.fixes_a_twin(item)),
            Expression::OneOf { operand, .. } => self.is_twin_id(operand),
            Expression::Compare { operator: Comparison::Equal, left, right } => match (&**left, &**right) {
                (id, Expression::Literal(_)) | (Expression::Literal(_), id) => self.is_twin_id(id),
                _ => false,
            },
            _ => false,
        }
    }

    fn is_twin_id(&self, expression: &Expression<Column>) -> bool {
        matches!(expression, Expression::Path(column)
            if self.bindings[column.binding].table == Table::DigitalTwins && column.path == ["$dtId"])
    }
}
