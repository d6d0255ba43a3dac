//! Conditions in SQL. 1 is true, 0 is false and NULL is undefined, so that SQL's own AND, OR and NOT are the
//! languages'. Every comparison is guarded by the types of both sides, as values of different types do not compare.

use base::caps;
use query::plan::{Column, Plan};
use query::tree::{Comparison, Expression, Function, Literal};
use rusqlite::types::Value;

use super::Writer;
use super::operand::{Operand, Test, Type};

/// The first branch whose test holds decides; none leaves the condition undefined.
type Branches = Vec<(Test, String)>;

impl Writer {
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
            _ => any_holds(self.branches(plan, expression)),
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
            _ => case(self.branches(plan, expression)),
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
                compare(*operator, &left, &right)
            }
            Expression::OneOf { operand, items } => {
                let operand = self.operand(plan, operand);
                self.one_of(&operand, items)
            }
            Expression::Call { function, arguments } => self.call(plan, *function, arguments),
            // A value where a condition is wanted: only a boolean is true or false.
            _ => {
                let operand = self.operand(plan, expression);
                vec![(operand.is(Type::Bool), operand.value)]
            }
        }
    }

    fn one_of(&mut self, operand: &Operand, items: &[Literal]) -> Branches {
        if items.is_empty() {
            return vec![(Test::Always, "0".to_owned())];
        }
        let has_null = items.contains(&Literal::Null);
        let mut branches = Vec::new();
        for of in [Type::Text, Type::Number, Type::Bool] {
            let items: Vec<&Literal> = items.iter().filter(|item| type_of(item) == of).collect();
            if !items.is_empty() {
                branches.push((operand.is(of), format!("{} IN ({})", operand.value, self.list(&items))));
            }
        }
        branches.push((operand.is(Type::Null), u8::from(has_null).to_string()));
        if has_null {
            branches.push((operand.is_defined(), "0".to_owned()));
        }
        branches
    }

    fn list(&mut self, items: &[&Literal]) -> String {
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
        let array = self.bind(Value::Text(serde_json::Value::from(texts).to_string()));
        format!("SELECT value FROM json_each({array})")
    }

    fn call(&mut self, plan: &Plan, function: Function, arguments: &[Expression<Column>]) -> Branches {
        match arguments {
            [only] => {
                let operand = self.operand(plan, only);
                vec![(Test::Always, is_of_type(function, &operand))]
            }
            [first, second] => {
                let (left, right) = (self.operand(plan, first), self.operand(plan, second));
                let wrong_type = (left.is_defined().and(right.is_defined()), "0".to_owned());
                let holds = if function == Function::ArrayContains {
                    self.array_contains(first, &left, &right)
                } else {
                    let both = left.is(Type::Text).and(right.is(Type::Text));
                    (both, self.text_test(function, arguments, &left, &right))
                };
                vec![holds, wrong_type]
            }
            _ => Vec::new(),
        }
    }

    /// Compares elements one by one, as a path of the languages does not enter arrays.
    fn array_contains(
        &mut self,
        array: &Expression<Column>,
        operand: &Operand,
        wanted: &Operand,
    ) -> (Test, String) {
        let Expression::Path(column) = array else { return (Test::Never, String::new()) };
        self.elements += 1;
        let name = format!("e{}", self.elements);
        let mut branches = compare(Comparison::Equal, &Operand::element(&name), wanted);
        branches.retain(|(_, result)| result != "0");
        let exists = format!(
            "EXISTS (SELECT 1 FROM json_each({}) {name} WHERE {})",
            self.place(column),
            case(branches)
        );
        (operand.is(Type::Array).and(wanted.is_defined()), exists)
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
        let (text, part) = (&text.value, &part.value);
        match (function, arguments) {
            // Over a column of its own a prefix is a range, which an index answers. Ids are ASCII, far below the end.
            (Function::StartsWith, [Expression::Path(_), Expression::Literal(Literal::Text(prefix))])
                if is_indexed =>
            {
                let end = self.text(&format!("{prefix}{}", char::MAX));
                format!("({text} >= {part} AND {text} < {end})")
            }
            (Function::StartsWith, _) => format!("instr({text}, {part}) = 1"),
            // What contains the part is not empty, and of an empty blob the engine's substr is NULL.
            (Function::EndsWith, _) => format!(
                "({part} = '' OR (instr({text}, {part}) > 0 AND \
                 substr(CAST({text} AS BLOB), -length(CAST({part} AS BLOB))) = CAST({part} AS BLOB)))"
            ),
            _ => format!("instr({text}, {part}) > 0"),
        }
    }
}

fn compare(operator: Comparison, left: &Operand, right: &Operand) -> Branches {
    let symbol = operator.symbol();
    let mut branches: Branches = [Type::Text, Type::Number, Type::Bool]
        .into_iter()
        .map(|of| (left.is(of).and(right.is(of)), format!("{} {symbol} {}", left.value, right.value)))
        .collect();
    let (same, different) = match operator {
        Comparison::Equal => ("1", "0"),
        Comparison::NotEqual => ("0", "1"),
        // Null has no order.
        _ => return branches,
    };
    branches.push((left.is(Type::Null).and(right.is(Type::Null)), same.to_owned()));
    branches.push((left.is(Type::Null).and(right.is_not_null()), different.to_owned()));
    branches.push((left.is_not_null().and(right.is(Type::Null)), different.to_owned()));
    branches
}

fn is_of_type(function: Function, operand: &Operand) -> String {
    let test = match function {
        Function::IsDefined => operand.is_defined(),
        Function::IsNull => operand.is(Type::Null),
        Function::IsBool => operand.is(Type::Bool),
        Function::IsNumber => operand.is(Type::Number),
        Function::IsString => operand.is(Type::Text),
        Function::IsObject => operand.is(Type::Object),
        Function::IsPrimitive => operand.is_one_of(&[Type::Null, Type::Bool, Type::Number, Type::Text]),
        Function::StartsWith | Function::EndsWith | Function::Contains | Function::ArrayContains => {
            Test::Never
        }
    };
    test.decided()
}

fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Number(_) => Type::Number,
        Literal::Text(_) => Type::Text,
    }
}

/// The branches as a condition of which only the truth matters. Their tests exclude each other, but for one that always holds
/// and comes last, so each stands for itself: what would make the condition false or undefined may be left out.
fn any_holds(branches: Branches) -> String {
    let mut alternatives = Vec::new();
    for (test, result) in branches {
        match test {
            Test::Never => {}
            Test::When(_) if result == "0" => {}
            Test::When(test) if result == "1" => alternatives.push(format!("({test})")),
            Test::When(test) => alternatives.push(format!("({test} AND {result})")),
            Test::Always if alternatives.is_empty() => return format!("({result})"),
            Test::Always if result == "0" => break,
            Test::Always => {
                alternatives.push(format!("({result})"));
                break;
            }
        }
    }
    match alternatives.as_slice() {
        [] => "0".to_owned(),
        [only] => only.clone(),
        _ => format!("({})", alternatives.join(" OR ")),
    }
}

fn case(branches: Branches) -> String {
    let mut whens = String::new();
    let mut otherwise = None;
    for (test, result) in branches {
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
        (true, None) => "NULL".to_owned(),
        (true, Some(result)) => format!("({result})"),
        (false, None) => format!("CASE{whens} END"),
        (false, Some(result)) => format!("CASE{whens} ELSE {result} END"),
    }
}
