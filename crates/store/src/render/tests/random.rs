//! Random documents under random expressions: the SQL against the meaning.

use base::json::Object;
use proptest::prelude::*;
use query::plan::{Column, Output, OutputColumn, Plan};
use query::tree::{Expression, Literal, Number};
use serde_json::{Value as Json, json};

use super::{FUNCTIONS, Graph, OPERATORS, bindings, cases};

const NAMES: [&str; 6] = ["a", "b", "o", "list", "odd \"name\\", "0"];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "a", "A", "ab", "ba", "aba", "é", "😀", "'", "true", "1", "t1", "m1"]).prop_map(str::to_owned),
        1 => "[ab'\"\\\\\u{0}é]{0,3}",
        1 => "[a\u{0}-\u{4}\u{f8ff}]{0,3}",
    ]
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => (-2_i64..3).prop_map(Json::from),
        2 => prop::sample::select(vec![0.0, -0.0, 1.0, 1.5, -1.5, 0.1, 1e300, -2.5e-300, 9_007_199_254_740_992.0, 1_152_921_504_606_846_976.0]).prop_map(Json::from),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, 9_007_199_254_740_993, 1 << 60]).prop_map(Json::from),
        1 => Just(Json::from(u64::MAX)),
    ]
}

fn primitive() -> impl Strategy<Value = Json> {
    prop_oneof![Just(Json::Null), any::<bool>().prop_map(Json::from), number(), word().prop_map(Json::from)]
}

fn anything() -> impl Strategy<Value = Json> {
    let members = || prop::collection::hash_map(prop::sample::select(&NAMES), primitive(), 0..3);
    let object =
        members().prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Json>());
    let list = prop::collection::vec(
        prop_oneof![4 => primitive(), 1 => Just(json!([1])), 1 => Just(json!({"a": 1}))],
        0..3,
    );
    prop_oneof![4 => primitive(), 1 => object, 1 => list.prop_map(Json::from)]
}

fn properties() -> impl Strategy<Value = Object> {
    let property = (prop::sample::select(&NAMES), anything());
    prop::collection::vec(property, 0..5)
        .prop_map(|properties| properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn with(mut document: Json, properties: &Object) -> Json {
    document.as_object_mut().unwrap().extend(properties.clone());
    document
}

fn twins() -> impl Strategy<Value = Vec<Json>> {
    prop::collection::vec((properties(), 0..3), 1..4).prop_map(|twins| {
        let mut documents = Vec::new();
        for (at, (properties, model)) in twins.iter().enumerate() {
            let twin = json!({"$dtId": format!("t{at}"), "$metadata": {"$model": format!("m{model}")}});
            documents.push(with(twin, properties));
        }
        documents
    })
}

fn relationships() -> impl Strategy<Value = Vec<Json>> {
    prop::collection::vec((properties(), 0..3, 0..4, 0..2), 0..6).prop_map(|relationships| {
        let mut documents = Vec::new();
        for (at, (properties, source, target, name)) in relationships.iter().enumerate() {
            let relationship = json!({
                "$relationshipId": format!("r{at}"), "$sourceId": format!("t{source}"),
                "$targetId": format!("t{target}"), "$relationshipName": format!("n{name}"),
            });
            documents.push(with(relationship, properties));
        }
        documents
    })
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        number().prop_map(|number| Literal::Number(Number::from(number.as_number().unwrap()))),
        word().prop_map(Literal::Text),
    ]
}

fn column(bindings: usize) -> impl Strategy<Value = Column> {
    let paths: Vec<Vec<&str>> = vec![
        vec![],
        vec!["a"],
        vec!["a"],
        vec!["b"],
        vec!["b"],
        vec!["o"],
        vec!["o", "a"],
        vec!["b", "a"],
        vec!["list"],
        vec!["list", "0"],
        vec!["o", "0"],
        vec!["0"],
        vec!["a", "a", "a"],
        vec!["odd \"name\\"],
        vec!["$dtId"],
        vec!["$metadata", "$model"],
        vec!["$metadata"],
        vec!["$sourceId"],
        vec!["$targetId"],
        vec!["$relationshipName"],
        vec!["$relationshipId"],
    ];
    (0..bindings, prop::sample::select(paths))
        .prop_map(|(binding, path)| Column { binding, path: path.into_iter().map(str::to_owned).collect() })
}

fn expression(bindings: usize) -> impl Strategy<Value = Expression<Column>> {
    let leaf = prop_oneof![
        1 => literal().prop_map(Expression::Literal),
        3 => column(bindings).prop_map(Expression::Path),
    ];
    let comparison = prop::sample::select(OPERATORS.to_vec());
    let function = prop::sample::select(FUNCTIONS.to_vec());
    leaf.prop_recursive(4, 16, 3, move |inner| {
        prop_oneof![
            3 => (comparison.clone(), inner.clone(), inner.clone()).prop_map(|(operator, left, right)| {
                Expression::Compare { operator, left: Box::new(left), right: Box::new(right) }
            }),
            2 => (inner.clone(), prop::collection::vec(literal(), 0..4)).prop_map(|(operand, items)| {
                Expression::OneOf { operand: Box::new(operand), items }
            }),
            3 => (function.clone(), inner.clone(), inner.clone()).prop_map(|(function, first, second)| {
                let mut arguments = vec![first, second];
                arguments.truncate(*function.arity().end());
                Expression::Call { function, arguments }
            }),
            1 => inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            1 => prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            1 => prop::collection::vec(inner, 2..4).prop_map(Expression::Any),
        ]
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    (0_usize..3).prop_flat_map(|kind| {
        let bindings = bindings(kind);
        let count = bindings.len();
        let columns = prop::collection::vec(column(count), 1..4).prop_map(|columns| {
            let named = columns.into_iter().enumerate();
            Output::Columns(
                named.map(|(at, column)| OutputColumn { name: format!("c{at}"), column }).collect(),
            )
        });
        let output = prop_oneof![4 => columns, 1 => Just(Output::Count { name: "COUNT".to_owned() })];
        let condition = prop::option::weighted(0.95, expression(count));
        (condition, output, prop::option::weighted(0.2, 0_u64..4)).prop_map(
            move |(condition, output, top)| Plan { bindings: bindings.clone(), condition, output, top },
        )
    })
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn sql_means_what_the_evaluator_means(
        twins in twins(), mut relationships in relationships(), plan in plan(), page in 1_usize..4,
    ) {
        // Both ends of a relationship are always there.
        let is_there = |id: &Json| twins.iter().any(|twin| twin["$dtId"] == *id);
        relationships.retain(|one| is_there(&one["$sourceId"]) && is_there(&one["$targetId"]));
        let graph = Graph::new(twins, relationships);
        prop_assert_eq!(graph.query(&plan, page), graph.meaning(&plan), "{}", plan);
        if let Some(condition) = plan.condition {
            let negated = Plan { condition: Some(Expression::Not(Box::new(condition))), ..plan };
            prop_assert_eq!(graph.query(&negated, page), graph.meaning(&negated), "{}", negated);
        }
    }
}
