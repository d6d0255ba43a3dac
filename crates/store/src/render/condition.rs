//! Conditions in SQL. NULL is undefined, so that SQL's own AND, OR and NOT are the languages'. Every comparison is guarded by the
//! types of both sides, as values of different types do not compare.

use base::caps;
use query::plan::{Column, Plan};
use query::tree::{Comparison, Expression, Function, Literal};

use super::dialect::{Dialect, Holds};
use super::operand::{Operand, Test, Type};
use super::{Parameter, Writer};

/// The first branch whose test holds decides; none leaves the condition undefined.
type Branches = Vec<Branch>;

pub(super) struct Branch {
    test: Test,
    pub(super) result: Test,
    /// Whether the result holds only where the test does.
    tells_test: bool,
}

impl Branch {
    fn new(test: Test, result: Test) -> Self {
        Self { test, result, tells_test: false }
    }

    fn of(test: Test, holds: Holds) -> Self {
        Self { test, result: Test::When(holds.sql), tells_test: holds.tells_types }
    }
}

impl Writer<'_> {
    /// A condition of which only the truth matters: false and undefined may be told apart or not. The guards then
    /// need no CASE, behind which no index is seen.
    pub(super) fn selects(&mut self, plan: &Plan, expression: &Expression<Column>) -> String {
        match expression {
            Expression::All(items) => {
                self.each(items, " AND ", &mut |writer, item| writer.selects(plan, item))
            }
            Expression::Any(items) => {
                self.each(items, " OR ", &mut |writer, item| writer.selects(plan, item))
            }
            Expression::Not(inner) => format!("NOT ({})", self.decides(plan, inner)),
            _ => any_holds(self.branches(plan, expression), self.dialect),
        }
    }

    /// The same with all three values.
    pub(super) fn decides(&mut self, plan: &Plan, expression: &Expression<Column>) -> String {
        match expression {
            Expression::All(items) => {
                self.each(items, " AND ", &mut |writer, item| writer.decides(plan, item))
            }
            Expression::Any(items) => {
                self.each(items, " OR ", &mut |writer, item| writer.decides(plan, item))
            }
            Expression::Not(inner) => format!("NOT ({})", self.decides(plan, inner)),
            _ => case(self.branches(plan, expression), self.dialect),
        }
    }

    fn each(
        &mut self,
        items: &[Expression<Column>],
        connective: &str,
        render: &mut dyn FnMut(&mut Self, &Expression<Column>) -> String,
    ) -> String {
        let items: Vec<String> = items.iter().map(|item| render(self, item)).collect();
        format!("({})", items.join(connective))
    }

    fn branches(&mut self, plan: &Plan, expression: &Expression<Column>) -> Branches {
        match expression {
            Expression::Compare { operator, left, right } => {
                let (left, right) = (self.operand(plan, left), self.operand(plan, right));
                self.compare(*operator, &left, &right)
            }
            Expression::OneOf { operand, items } => {
                let operand = self.operand(plan, operand);
                self.one_of(&operand, items)
            }
            Expression::Call { function, arguments } => self.call(plan, *function, arguments),
            Expression::Arithmetic { .. } => unreachable!("{NOT_PLAIN}"),
            // A value where a condition is wanted: only a boolean is true or false.
            _ => {
                let operand = self.operand(plan, expression);
                let holds = self.holds(&operand);
                vec![Branch::of(operand.is(Type::Bool), holds)]
            }
        }
    }

    fn one_of(&mut self, operand: &Operand, items: &[Literal]) -> Branches {
        if items.is_empty() {
            return vec![Branch::new(Test::Always, Test::Never)];
        }
        let has_null = items.contains(&Literal::Null);
        let mut branches = Vec::new();
        for of in [Type::Text, Type::Number, Type::Bool] {
            let items: Vec<&Literal> = items.iter().filter(|item| type_of(item) == of).collect();
            if !items.is_empty() {
                let holds = self.within(operand, &items);
                branches.push(Branch::of(operand.is(of), holds));
            }
        }
        branches.push(Branch::new(operand.is(Type::Null), has_null.into()));
        if has_null {
            branches.push(Branch::new(operand.is_defined(), Test::Never));
        }
        branches
    }

    /// The items of `SQLite`'s IN.
    pub(super) fn list(&mut self, items: &[&Literal]) -> String {
        if items.len() <= caps::QUERY_TEXTS_LISTED_MAX {
            return items.iter().map(|item| self.literal(item)).collect::<Vec<_>>().join(", ");
        }
        let texts: Vec<&str> = items
            .iter()
            .filter_map(|item| match item {
                Literal::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        if texts.len() < items.len() {
            return items.iter().map(|item| self.literal(item)).collect::<Vec<_>>().join(", ");
        }
        let array = self.bind(Parameter::Text(serde_json::Value::from(texts).to_string()));
        format!("SELECT value FROM json_each({array})")
    }

    fn call(&mut self, plan: &Plan, function: Function, arguments: &[Expression<Column>]) -> Branches {
        match arguments {
            [only] => {
                let operand = self.operand(plan, only);
                vec![Branch::new(Test::Always, is_of_type(function, &operand))]
            }
            [first, second] => {
                let (left, right) = (self.operand(plan, first), self.operand(plan, second));
                let wrong_type = Branch::new(left.is_defined().and(right.is_defined()), Test::Never);
                let holds = if function == Function::ArrayContains {
                    self.array_contains(first, &left, &right)
                } else {
                    let both = left.is(Type::Text).and(right.is(Type::Text));
                    let result = self.text_test(function, arguments, &left, &right);
                    Branch::new(both, Test::When(result))
                };
                vec![holds, wrong_type]
            }
            _ => Vec::new(),
        }
    }

    fn array_contains(&mut self, array: &Expression<Column>, operand: &Operand, wanted: &Operand) -> Branch {
        let Expression::Path(column) = array else { return Branch::new(Test::Never, Test::Never) };
        let has_element = self.has_element(column, operand, wanted);
        Branch::new(operand.is(Type::Array).and(wanted.is_defined()), has_element)
    }

    /// Case-sensitive and byte by byte: LIKE is neither, and the engine's text functions stop at a NUL.
    fn text_test(
        &mut self,
        function: Function,
        arguments: &[Expression<Column>],
        text: &Operand,
        part: &Operand,
    ) -> String {
        let is_indexed = text.is(Type::Text) == Test::Always;
        let (text, part) = (self.as_text(text), self.as_text(part));
        match (function, arguments) {
            // Over a column of its own a prefix is a range, which an index answers. Ids are ASCII, far below the end.
            (Function::StartsWith, [Expression::Path(_), Expression::Literal(Literal::Text(prefix))])
                if is_indexed =>
            {
                let end = self.text(&format!("{prefix}{}", char::MAX));
                format!("({text} >= {part} AND {text} < {end})")
            }
            (Function::StartsWith, _) => self.dialect.starts_with(&text, &part),
            (Function::EndsWith, _) => self.dialect.ends_with(&text, &part),
            _ => self.dialect.contains(&text, &part),
        }
    }

    pub(super) fn compare(&mut self, operator: Comparison, left: &Operand, right: &Operand) -> Branches {
        let mut branches = Vec::new();
        for of in [Type::Text, Type::Number, Type::Bool] {
            let test = left.is(of).and(right.is(of));
            if test != Test::Never {
                branches.push(Branch::of(test, self.compared(of, operator, left, right)));
            }
        }
        let is_equal = match operator {
            Comparison::Equal => true,
            Comparison::NotEqual => false,
            // Null has no order.
            _ => return branches,
        };
        branches.push(Branch::new(left.is(Type::Null).and(right.is(Type::Null)), is_equal.into()));
        branches.push(Branch::new(left.is(Type::Null).and(right.is_not_null()), (!is_equal).into()));
        branches.push(Branch::new(left.is_not_null().and(right.is(Type::Null)), (!is_equal).into()));
        branches
    }
}

fn is_of_type(function: Function, operand: &Operand) -> Test {
    let test = match function {
        Function::IsDefined => operand.is_defined(),
        Function::IsNull => operand.is(Type::Null),
        Function::IsBool => operand.is(Type::Bool),
        Function::IsNumber => operand.is(Type::Number),
        Function::IsString => operand.is(Type::Text),
        Function::IsObject => operand.is(Type::Object),
        Function::IsArray => operand.is(Type::Array),
        Function::IsPrimitive => operand.is_one_of(&[Type::Null, Type::Bool, Type::Number, Type::Text]),
        _ => Test::Never,
    };
    test.decided()
}

/// Who makes a plan leaves out what is not (`Expression::is_plain`).
pub(super) const NOT_PLAIN: &str = "the condition of a plan is plain";

pub(super) fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Undefined | Literal::Array(_) => unreachable!("{NOT_PLAIN}"),
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Number(_) => Type::Number,
        Literal::Text(_) => Type::Text,
    }
}

/// The branches as a condition of which only the truth matters. Their tests exclude each other, but for one that always holds
/// and comes last, so each stands for itself: what would make the condition false or undefined may be left out.
fn any_holds(branches: Branches, dialect: Dialect<'_>) -> String {
    let mut alternatives = Vec::new();
    for Branch { test, result, tells_test } in branches {
        match (test, result) {
            (Test::Never, _) | (Test::When(_), Test::Never) => {}
            (Test::When(_), Test::When(result)) if tells_test => alternatives.push(format!("({result})")),
            (Test::When(test), Test::Always) => alternatives.push(format!("({test})")),
            (Test::When(test), Test::When(result)) => alternatives.push(format!("({test} AND {result})")),
            (Test::Always, result) if alternatives.is_empty() => {
                return format!("({})", result.spelled(dialect));
            }
            (Test::Always, Test::Never) => break,
            (Test::Always, result) => {
                alternatives.push(format!("({})", result.spelled(dialect)));
                break;
            }
        }
    }
    match alternatives.as_slice() {
        [] => dialect.truth(false).to_owned(),
        [only] => only.clone(),
        _ => format!("({})", alternatives.join(" OR ")),
    }
}

pub(super) fn case(branches: Branches, dialect: Dialect<'_>) -> String {
    let mut whens = String::new();
    let mut otherwise = None;
    for Branch { test, result, .. } in branches {
        let result = result.spelled(dialect);
        match test {
            Test::Never => {}
            Test::When(test) => whens.extend([" WHEN ", &test, " THEN ", &result]),
            Test::Always => {
                otherwise = Some(result);
                break;
            }
        }
    }
    match (whens.is_empty(), otherwise) {
        (true, None) => dialect.undefined().to_owned(),
        (true, Some(result)) => format!("({result})"),
        (false, None) => format!("CASE{whens} END"),
        (false, Some(result)) => format!("CASE{whens} ELSE {result} END"),
    }
}
