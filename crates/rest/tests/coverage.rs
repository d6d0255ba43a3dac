//! Holds `docs/compatibility.md` against the published operation lists and against the doors' own routes: every operation of Azure has
//! a row, a row that says `works` has a route, and every route has a row.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rest::router::{Door, RouteInfo};

const HUB: &str = "IoT Hub";
const PROVISIONING: &str = "Device Provisioning";
const DIGITAL_TWINS: &str = "Digital Twins";
const RESOURCE_MANAGER: &str = "Resource Manager";
const GRAPH: &str = "Microsoft Graph";
const STORAGE: &str = "Blob Storage";

/// The newest list of each plane, and its service as the document's headings name it.
const LISTS: &[(&str, &str)] = &[
    (HUB, "iothub/service-2021-04-12.json"),
    (HUB, "iothub/service-digitaltwin-2020-09-30.json"),
    (RESOURCE_MANAGER, "iothub/arm-2023-06-30.derived.json"),
    (PROVISIONING, "dps/device-2021-10-01.json"),
    (PROVISIONING, "dps/service-2021-10-01.json"),
    (RESOURCE_MANAGER, "dps/arm-2026-11-01.json"),
    (DIGITAL_TWINS, "digital-twins/digitaltwins-dataplane-2023-10-31.json"),
    (RESOURCE_MANAGER, "digital-twins-arm/digitaltwins.json"),
];

/// A service, a method, and a path whose parameters are `{}` and whose words are in lower case. Two services have `/digitaltwins/{id}`.
type Operation = (String, String, String);

fn operation(service: &str, method: &str, path: &str) -> Operation {
    let segment =
        |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_ascii_lowercase() };
    // What a blob endpoint is asked for stands in the query too.
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(segment).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    (service.to_owned(), method.to_ascii_uppercase(), format!("/{}{query}", segments.join("/")))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Rows `| METHOD /path | … | state |` of the document, below headings `### Service: what of it`.
fn rows() -> BTreeMap<Operation, String> {
    let text = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let (mut rows, mut service) = (BTreeMap::new(), "");
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            service = heading.split(':').next().unwrap_or_default();
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some((method, path)) = cells[0].trim_matches('`').split_once(' ') else { continue };
        if !matches!(method, "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "HEAD") || !path.starts_with('/') {
            continue;
        }
        let state = cells.last().copied().unwrap_or_default().to_owned();
        let twice = rows.insert(operation(service, method, path), state);
        assert!(twice.is_none(), "two rows for {method} {path} of {service}");
    }
    rows
}

/// The operations that the doors have, or else those that they say they lack.
fn routes(are_built: bool) -> BTreeSet<Operation> {
    fn of<D: Door>() -> Vec<RouteInfo> {
        D::routes().describe().collect()
    }
    let all = [
        (HUB, of::<rest::hub::HubDoor>()),
        (DIGITAL_TWINS, of::<rest::digital_twins::DigitalTwins>()),
        (PROVISIONING, of::<rest::provisioning::ProvisioningDoor>()),
        (RESOURCE_MANAGER, of::<rest::resource_manager::Management>()),
        (GRAPH, of::<rest::graph::Graph>()),
        (STORAGE, rest::blob::routes()),
    ];
    let routes =
        all.into_iter().flat_map(|(service, routes)| routes.into_iter().map(move |route| (service, route)));
    let routes = routes.filter(|(_, route)| route.is_built == are_built);
    routes.map(|(service, route)| operation(service, route.method, route.template)).collect()
}

fn published(lists: &Path) -> BTreeSet<Operation> {
    let mut operations = BTreeSet::new();
    for (service, list) in LISTS {
        let text = std::fs::read_to_string(lists.join(list)).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (path, methods) in list["paths"].as_object().unwrap() {
            let path = path.split('?').next().unwrap_or(path);
            for method in methods.as_object().unwrap().keys() {
                if matches!(method.as_str(), "get" | "put" | "post" | "patch" | "delete" | "head") {
                    operations.insert(operation(service, method, path));
                }
            }
        }
    }
    operations
}

#[test]
fn every_published_operation_has_a_row() {
    let Some(lists) = test_data::shared("spec/openapi") else { return };
    let rows = rows();
    let missing: Vec<_> = published(&lists).into_iter().filter(|o| !rows.contains_key(o)).collect();
    assert!(missing.is_empty(), "rows missing in docs/compatibility.md:\n{}", table(&missing));
}

#[test]
fn every_row_says_what_the_doors_do() {
    let (rows, routes, lacking) = (rows(), routes(true), routes(false));
    for (operation, state) in &rows {
        assert!(matches!(state.as_str(), "works" | "later" | "not planned"), "{operation:?} is '{state}'");
    }
    let claimed: Vec<_> =
        rows.iter().filter(|(_, state)| *state == "works").map(|(o, _)| o.clone()).collect();
    let absent: Vec<_> = claimed.into_iter().filter(|o| !routes.contains(o)).collect();
    assert!(absent.is_empty(), "rows that say `works` without a route:\n{}", table(&absent));
    let later = rows.iter().filter(|(_, state)| *state == "later").map(|(operation, _)| operation.clone());
    let silent: Vec<_> = later.filter(|operation| !lacking.contains(operation)).collect();
    assert!(silent.is_empty(), "rows that say `later`, and no door says so:\n{}", table(&silent));
    let unlisted: Vec<_> = routes.into_iter().filter(|o| !rows.contains_key(o)).collect();
    assert!(unlisted.is_empty(), "routes without a row in docs/compatibility.md:\n{}", table(&unlisted));
}

fn table(operations: &[Operation]) -> String {
    operations
        .iter()
        .map(|(service, method, path)| format!("{service}: | `{method} {path}` | | |\n"))
        .collect()
}
