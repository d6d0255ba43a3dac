//! Who may use whom: the layers of the house, tools and test crates beside it, and crates of others that only some may name.
//! Reads what cargo says of every dependency, whatever it is for: of the crate, of its tests, of its build, of one platform only.

use std::collections::BTreeMap;

use serde_json::Value;

/// Each crate's layer (ARCHITECTURE.md). A crate may use lower numbers only, never the same.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("amqp_protocol", 1),
    ("dtdl", 1),
    ("query", 1),
    ("store", 2),
    ("access", 3),
    ("events", 3),
    ("hub", 4),
    ("digital_twins", 4),
    ("event_hubs", 4),
    ("storage", 4),
    ("provisioning", 5),
    ("resource_manager", 6),
    ("entrance", 7),
    ("mqtt", 8),
    ("rest", 8),
    ("delivery", 8),
    ("server", 9),
];

/// Tools beside the house: they may use everything, nothing may use them.
const TOOLS: &[&str] = &["xtask", "bench", "simulation"];

/// What tests may use and nothing that is shipped, and the highest layer that it uses itself, if any: only crates above that may
/// use it then.
const FOR_TESTS: &[(&str, Option<u8>)] = &[
    ("test_certificates", None),
    ("test_data", None),
    ("test_postgres", None),
    ("test_store", Some(2)),
    ("test_house", Some(6)),
];

/// Parts of our crates that are built for tests alone.
const FEATURES_FOR_TESTS: &[(&str, &str)] = &[("store", "memory")];

/// Crates that only some of ours may name, and those whose tests may too: they stand on the other side of the wire.
const RESERVED: &[(&str, &[&str], &[&str])] = &[
    ("rusqlite", &["store"], &[]),
    ("tokio-postgres", &["store"], &[]),
    ("http", &["rest", "delivery", "server"], &[]),
    ("hyper", &["rest", "delivery", "server", "bench"], &[]),
    ("rcgen", &["access", "test_certificates"], &["rest", "server", "mqtt"]),
];

pub(super) fn check(metadata: &Value) -> Vec<String> {
    let layer_of: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if TOOLS.contains(&name) {
            continue;
        }
        let own = layer_of.get(name);
        let for_tests = FOR_TESTS.iter().find(|(known, _)| *known == name);
        if own.is_none() && for_tests.is_none() {
            faults.push(format!(
                "{name}: has no layer; give it one in xtask/src/tidy/layers.rs and ARCHITECTURE.md"
            ));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_for_tests = dependency["kind"] == "dev";
            let what = if is_for_tests { format!("{name}, in its tests,") } else { name.to_owned() };
            if TOOLS.contains(&used) {
                faults.push(format!("{what} uses the tool {used}"));
            }
            if let Some((_, uses)) = FOR_TESTS.iter().find(|(known, _)| *known == used) {
                if !is_for_tests && for_tests.is_none() {
                    faults.push(format!("{what} uses {used}, which is for tests"));
                } else if own.is_some_and(|own| uses.is_some_and(|uses| *own <= uses)) {
                    faults.push(format!("{what} uses {used}, which stands above it"));
                }
            }
            for feature in dependency["features"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if FEATURES_FOR_TESTS.contains(&(used, feature)) && !is_for_tests {
                    faults.push(format!("{what} turns on {feature} of {used}, which is for tests"));
                }
            }
            match (own, layer_of.get(used)) {
                (Some(own), Some(other)) if other >= own => {
                    faults.push(format!("{what} (layer {own}) uses {used} of the same or a higher layer"));
                }
                (None, Some(other))
                    if for_tests.is_none_or(|(_, uses)| uses.is_none_or(|uses| *other > uses)) =>
                {
                    faults.push(format!("{what} uses {used} of the house"));
                }
                _ => {}
            }
            let reserved = RESERVED.iter().find(|(reserved, ..)| *reserved == used);
            if reserved.is_some_and(|(_, users, testers)| {
                !(users.contains(&name) || is_for_tests && testers.contains(&name))
            }) {
                faults.push(format!("{what} names {used}, which is not its business"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is wrong with one dependency of one crate.
    fn faults(name: &str, dependency: &Value) -> usize {
        check(&json!({"packages": [{"name": name, "dependencies": [dependency]}]})).len()
    }

    #[test]
    fn every_kind_of_dependency_keeps_to_the_layers() {
        for (name, used, expected) in [
            ("hub", "store", 0),
            ("hub", "hub", 1),
            ("hub", "digital_twins", 1),
            ("store", "rest", 1),
            ("store", "xtask", 1),
            ("xtask", "server", 0),
            ("test_data", "base", 1),
            ("test_house", "rest", 1),
            ("test_postgres", "test_data", 0),
            ("test_store", "store", 0),
            ("test_store", "test_postgres", 0),
            ("test_store", "hub", 1),
            ("hub", "rusqlite", 1),
            ("stranger", "serde", 1),
        ] {
            for kind in [json!(null), json!("dev"), json!("build")] {
                for target in [json!(null), json!("cfg(unix)")] {
                    let dependency = json!({"name": used, "kind": kind, "target": target});
                    assert_eq!(faults(name, &dependency), expected, "{name} {dependency}");
                }
            }
        }
    }

    #[test]
    fn what_is_for_tests_is_for_tests_only() {
        for (name, used, in_tests, shipped) in [
            ("hub", "test_data", 0, 1),
            ("rest", "test_house", 0, 1),
            ("hub", "test_house", 1, 1),
            ("hub", "test_store", 0, 1),
            ("store", "test_store", 1, 1),
            ("rest", "rcgen", 0, 1),
            ("hub", "rcgen", 1, 1),
        ] {
            assert_eq!(faults(name, &json!({"name": used, "kind": "dev"})), in_tests, "{name} {used}");
            assert_eq!(faults(name, &json!({"name": used, "kind": null})), shipped, "{name} {used}");
        }
        for (name, kind, expected) in
            [("hub", json!(null), 1), ("hub", json!("dev"), 0), ("bench", json!(null), 0)]
        {
            let dependency = json!({"name": "store", "features": ["memory"], "kind": kind});
            assert_eq!(faults(name, &dependency), expected, "{name} {dependency}");
        }
    }
}
