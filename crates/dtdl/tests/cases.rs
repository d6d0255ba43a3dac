//! The official parser's own cases, where a copy is at hand: valid or invalid must agree, and so must instances.
//! What does not agree yet is named in `not_yet.txt`, with today's answer asserted by being named there.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use dtdl::{Dtmi, Issue, Model, Options, Schema, UndefinedExtensions, parse_text};
use serde_json::Value;
use test_data::shared_json;

/// Contexts beyond the core that this parser knows.
const KNOWN_CONTEXTS: [&str; 13] = [
    "dtmi:dtdl:extension:quantitativeTypes;1",
    "dtmi:dtdl:extension:annotation;1",
    "dtmi:dtdl:extension:annotation;2",
    "dtmi:dtdl:extension:overriding;1",
    "dtmi:dtdl:extension:overriding;2",
    "dtmi:dtdl:extension:historization;1",
    "dtmi:dtdl:extension:historization;2",
    "dtmi:dtdl:extension:requirement;1",
    "dtmi:dtdl:extension:requirement;2",
    "dtmi:dtdl:extension:mqtt;1",
    "dtmi:dtdl:extension:mqtt;2",
    "dtmi:dtdl:extension:mqtt;3",
    "dtmi:iotcentral:context;2",
];

/// Documents as one: each is an interface or an array of them.
fn parse_models(values: &[Value], known: &dtdl::Known, options: &Options) -> Answer {
    let flat =
        values.iter().flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    parse_text(&Value::from(flat.cloned().collect::<Vec<_>>()).to_string(), known, options)
}

fn not_yet() -> BTreeSet<&'static str> {
    let lines = include_str!("not_yet.txt").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn applies(name: &str, case: &Value) -> bool {
    let empty = |member: &str| case.get(member).and_then(Value::as_array).is_none_or(Vec::is_empty);
    let contexts = case.get("requiredContexts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    (name.ends_with("V2") || name.ends_with("V3"))
        && empty("quirks")
        && empty("acceptableLimits")
        && case.get("partialResolution").is_none()
        && contexts.iter().all(|context| KNOWN_CONTEXTS.contains(&context.as_str().unwrap_or_default()))
}

fn options(case: &Value) -> Options {
    let mut options = Options::language();
    for option in case["options"].as_array().unwrap() {
        options.undefined_extensions = match option.as_str().unwrap() {
            "AllowUndefinedExtensions" => UndefinedExtensions::Allow,
            "DisallowUndefinedExtensions" => UndefinedExtensions::Refuse,
            other => panic!("{other}"),
        };
    }
    options
}

/// Parses a case, after what its resolver would answer.
fn parse(case: &Value) -> Answer {
    let options = options(case);
    let known: RefCell<HashMap<Dtmi, Arc<Model>>> = RefCell::default();
    let resolver = |id: &Dtmi| known.borrow().get(id).cloned();
    for step in case.get("resolution").and_then(Value::as_array).into_iter().flatten() {
        let Some(response) = step["response"].as_array() else { continue };
        let models = parse_models(response, &resolver, &options)?;
        known.borrow_mut().extend(models.into_iter().map(|model| (model.id.clone(), Arc::new(model))));
    }
    parse_models(case["input"].as_array().unwrap(), &resolver, &options)
}

fn sub_cases(case: &Value) -> Vec<&Value> {
    case.as_array().map_or_else(|| vec![case], |cases| cases.iter().collect())
}

#[test]
fn models_are_valid_or_invalid_as_in_the_official_cases() {
    let not_yet = not_yet();
    let mut ran = 0;
    let mut same_rules = (0, 0);
    let mut wrong: Vec<String> = Vec::new();
    let mut differing: BTreeSet<String> = BTreeSet::new();
    for file in ["generated", "specification", "doc-examples"] {
        let Some(cases) = shared_json(&format!("data/dtdl-cases/{file}.json")) else { return };
        for (name, case) in cases.as_object().unwrap() {
            for case in sub_cases(case).into_iter().filter(|case| applies(name, case)) {
                ran += 1;
                let answer = parse(case);
                if answer.is_ok() != case["valid"].as_bool().unwrap() {
                    differing.insert(name.clone());
                    wrong.push(format!("{name}: {} {answer:?}", case["input"]));
                }
                if let (Err(issues), Some(expected)) = (&answer, case["expect"]["parsingErrors"].as_array()) {
                    let rules = |id: &Value| {
                        id["ValidationID"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
                    };
                    let expected: BTreeSet<String> = expected.iter().map(rules).collect();
                    same_rules.1 += 1;
                    same_rules.0 += i32::from(issues.iter().any(|issue| expected.contains(issue.rule)));
                    if std::env::var("RULES").is_ok()
                        && !issues.iter().any(|issue| expected.contains(issue.rule))
                    {
                        println!("{name}: {expected:?} but {issues:?}");
                    }
                }
            }
        }
    }
    println!(
        "{ran} cases ran; {} names differ; of {} with rules, {} share one",
        differing.len(),
        same_rules.1,
        same_rules.0
    );
    wrong.retain(|line| !not_yet.contains(line.split(':').next().unwrap()));
    for line in wrong.iter().take(60) {
        println!("{}", line.chars().take(900).collect::<String>());
    }
    assert!(wrong.is_empty(), "{} cases differ", wrong.len());
    let repaired: Vec<_> =
        not_yet.iter().filter(|name| !name.contains(' ') && !differing.contains(**name)).collect();
    assert!(repaired.is_empty(), "no longer wrong, take out of not_yet.txt: {repaired:?}");
}

fn schema_of(subject: &str, models: &[Model]) -> Option<Arc<Schema>> {
    let standard = |term: &str| {
        Some(match term {
            "boolean" => Schema::Boolean,
            "date" => Schema::Date,
            "dateTime" => Schema::DateTime,
            "double" => Schema::Double,
            "duration" => Schema::Duration,
            "float" => Schema::Float,
            "integer" => Schema::Integer,
            "long" => Schema::Long,
            "string" => Schema::String,
            "time" => Schema::Time,
            _ => return None,
        })
    };
    if let Some(rest) = subject.strip_prefix("dtmi:dtdl:instance:Schema:") {
        return standard(rest.split(';').next()?).map(Arc::new);
    }
    let id: Dtmi = subject.parse().ok()?;
    models.iter().find_map(|model| model.schemas.get(&id).cloned())
}

#[test]
fn values_conform_as_in_the_official_cases() {
    let not_yet = not_yet();
    let Some(cases) = shared_json("data/dtdl-cases/generated.json") else { return };
    let mut ran = 0;
    let mut wrong = Vec::new();
    for (name, case) in cases.as_object().unwrap() {
        if !applies(name, case) {
            continue;
        }
        for instance in case.get("instances").and_then(Value::as_array).into_iter().flatten() {
            let Some(conforms) = instance.get("conforms").and_then(Value::as_bool) else { continue };
            let (subject, text) =
                (instance["subject"].as_str().unwrap(), instance["submit"].as_str().unwrap());
            let schema =
                schema_of(subject, &parse(case).unwrap()).unwrap_or_else(|| panic!("{name}: {subject}"));
            let answer = serde_json::from_str::<Value>(text)
                .is_ok_and(|value| schema.validate(&value, &Options::language()).is_ok());
            ran += 1;
            let line = format!("{name} {text}");
            if (answer != conforms) != not_yet.contains(line.as_str()) {
                wrong.push(format!("{line}: should be {conforms}"));
            }
        }
    }
    println!("{ran} instances ran");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn identifiers_are_valid_or_invalid_as_in_the_official_cases() {
    let Some(cases) = shared_json("data/dtdl-cases/dtmis.json") else { return };
    for (name, case) in cases.as_object().unwrap() {
        let (text, expected) = (case["idText"].as_str().unwrap(), &case["expect"]);
        // The official type also holds fragments and reserved segments, which no document may define; ours does not.
        let is_plain =
            expected["IsReserved"] != true && expected["Fragment"].as_str().unwrap_or_default().is_empty();
        let dtmi = text.parse::<Dtmi>();
        assert_eq!(dtmi.is_ok(), case["valid"] == true && is_plain, "{name}");
        if let Ok(dtmi) = dtmi {
            assert_eq!(dtmi.versionless(), expected["Versionless"], "{name}");
            assert_eq!(dtmi.labels().collect::<Vec<_>>(), *expected["Labels"].as_array().unwrap(), "{name}");
            let (major, minor) = dtmi.version().unwrap();
            assert_eq!(
                (major.into(), minor.into()),
                (expected["MajorVersion"].as_u64().unwrap(), expected["MinorVersion"].as_u64().unwrap())
            );
        }
    }
}

type Answer = Result<Vec<Model>, Vec<Issue>>;

fn load(file: &str) -> Option<(usize, Answer)> {
    let ontology = shared_json(&format!("data/ontologies/{file}"))?;
    let values = ontology.as_array().unwrap();
    Some((values.len(), parse_models(values, &|_| None, &Options::azure_digital_twins())))
}

#[test]
fn published_ontologies_load_as_the_service_takes_them() {
    for file in ["opendigitaltwins-building.json", "realestatecore-rec-dtdlv2.json"] {
        let Some((count, answer)) = load(file) else { return };
        match answer {
            Ok(models) => assert_eq!(models.len(), count),
            Err(issues) => {
                let shown: Vec<String> = issues.iter().take(20).map(ToString::to_string).collect();
                panic!("{file}: {} issues, {shown:#?}", issues.len());
            }
        }
    }
}

/// Parses interfaces one by one, each as soon as all that it builds on is there.
fn one_by_one(together: &[Model], values: &[Value], options: &Options) -> Vec<Option<Model>> {
    let mut known: HashMap<Dtmi, Arc<Model>> = HashMap::new();
    let mut waiting: Vec<usize> = (0..values.len()).collect();
    let mut answers: Vec<Option<Model>> = vec![None; values.len()];
    while !waiting.is_empty() {
        let is_ready = |position: &usize| {
            let model = &together[*position];
            model.extends.iter().chain(model.components()).all(|id| known.contains_key(id))
        };
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(is_ready);
        if ready.is_empty() {
            break;
        }
        for position in ready {
            let text = values[position].to_string();
            let answer = parse_text(&text, &|id| known.get(id).cloned(), options);
            let model = answer.unwrap_or_else(|issues| panic!("{text}: {issues:#?}")).remove(0);
            known.insert(model.id.clone(), Arc::new(model.clone()));
            answers[position] = Some(model);
        }
        waiting = rest;
    }
    answers
}

/// A set that was taken in one call is read again model by model, from the text that was stored.
#[test]
fn what_is_valid_together_is_valid_and_the_same_one_by_one() {
    let mut ran = 0;
    let mut sets: Vec<(String, Vec<Value>, Options)> = Vec::new();
    for file in ["generated", "specification", "doc-examples"] {
        let Some(cases) = shared_json(&format!("data/dtdl-cases/{file}.json")) else { return };
        for (name, case) in cases.as_object().unwrap() {
            for case in sub_cases(case).into_iter().filter(|case| applies(name, case)) {
                let Some(values) = case["input"].as_array() else { continue };
                sets.push((name.clone(), values.clone(), options(case)));
            }
        }
    }
    for file in ["opendigitaltwins-building.json", "realestatecore-rec-dtdlv2.json"] {
        let Some(ontology) = shared_json(&format!("data/ontologies/{file}")) else { return };
        sets.push((file.to_owned(), ontology.as_array().unwrap().clone(), Options::azure_digital_twins()));
    }
    for (name, values, options) in sets {
        let Ok(together) = parse_models(&values, &|_| None, &options) else { continue };
        if !values.iter().all(Value::is_object) || together.len() != values.len() {
            continue;
        }
        let answers = one_by_one(&together, &values, &options);
        assert_eq!(answers, together.into_iter().map(Some).collect::<Vec<_>>(), "{name}");
        ran += 1;
    }
    println!("{ran} sets ran");
    assert!(ran > 100);
}
