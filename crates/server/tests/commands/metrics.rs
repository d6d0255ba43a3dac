//! `/metrics` of a running server, read by a parser of our own that takes nothing which Prometheus would refuse; and the dashboard and
//! the alert rules of the documentation, which may name only what the server prints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use server::client::{Https, Login, MqttClient, Trust};

use super::logs::refused_device;
use crate::fixture::{Server, client, environment};

/// One line: name, labels, number.
type Sample = (String, BTreeMap<String, String>, f64);

#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    samples: Vec<Sample>,
}

struct Metrics(BTreeMap<String, Family>);

impl Metrics {
    async fn read(https: &Https, server: &Server) -> Self {
        let answer = https.ask("GET", &server.url("/metrics"), &[], "").await.unwrap();
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(std::str::from_utf8(&answer.body).unwrap())
    }

    /// Each family is its HELP, its TYPE and then all of its samples, as the format asks for.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut families, mut current) = (BTreeMap::<String, Family>::new(), String::new());
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(is_name(name), "{line}");
                name.clone_into(&mut current);
                let family = Family { help: help.to_owned(), ..Family::default() };
                assert!(families.insert(current.clone(), family).is_none(), "twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current, "a TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                kind.clone_into(&mut families.get_mut(name).unwrap().kind);
            } else {
                let sample = sample(line);
                let family = families.get_mut(&current).unwrap();
                let is_histogram = family.kind == "histogram";
                let suffix = sample.0.strip_prefix(&current).unwrap_or_else(|| panic!("{line} in {current}"));
                let known = if is_histogram { &["_bucket", "_sum", "_count"][..] } else { &[""][..] };
                assert!(known.contains(&suffix), "{line}");
                assert!(seen.insert((sample.0.clone(), sample.1.clone())), "twice: {line}");
                family.samples.push(sample);
            }
        }
        Self(families)
    }

    /// The sum of what has these labels; nothing counts as nothing.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |of: &BTreeMap<String, String>| labels.iter().all(|(n, v)| of.get(*n).is_some_and(|o| o == v));
        let samples = self.0.values().flat_map(|family| &family.samples);
        samples.filter(|(of, with, _)| of == name && has(with)).map(|(_, _, value)| value).sum()
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().all(is_part) && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

fn sample(line: &str) -> Sample {
    let (before, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    assert!(value.is_finite(), "{line}");
    let Some((name, rest)) = before.split_once('{') else {
        assert!(is_name(before), "{line}");
        return (before.to_owned(), BTreeMap::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label), "{line}");
        let (mut text, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().unwrap_or_else(|| panic!("no end: {line}")) {
                (at, '"') => break at,
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => text.push('\n'),
                    c @ ('\\' | '"') => text.push(c),
                    _ => panic!("no escape: {line}"),
                },
                (_, c) => text.push(c),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

#[tokio::test]
async fn every_family_is_explained_and_every_histogram_adds_up() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let https = client(data.path());
    https.ask("GET", &server.url("/healthz"), &[], "").await.unwrap();
    let metrics = Metrics::read(&https, &server).await;
    assert!(metrics.0.len() >= 30, "{} families", metrics.0.len());
    for (name, family) in &metrics.0 {
        assert!(family.help.len() > 10 && family.help.ends_with('.'), "{name}: {}", family.help);
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        assert!(name.starts_with("twinhub_") || name.starts_with("process_"), "{name}");
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
    let has_records_here = metrics.sum("twinhub_records_bytes", &[]) > 0.0;
    assert_ne!(has_records_here, test_postgres::is_asked_for(), "a database's bytes are not ours to count");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.sum("twinhub_build_info", &version).to_string(), "1");
    let azure = ["totalDeviceCount", "d2c.telemetry.ingress.success", "c2d.methods.success", "TwinCount"];
    for name in azure {
        assert!(metrics.0.values().any(|family| family.help.contains(name)), "{name}");
    }
}

/// Buckets rise with their bounds, and the last one is the count.
fn check_histogram(name: &str, family: &Family) {
    let mut by_labels = BTreeMap::<_, Vec<(f64, f64)>>::new();
    for (sample, labels, value) in &family.samples {
        if *sample == format!("{name}_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            by_labels.entry(labels).or_default().push((bound, *value));
        }
    }
    assert!(!by_labels.is_empty(), "{name}");
    for (labels, buckets) in by_labels {
        assert!(
            buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1),
            "{name} {labels:?}"
        );
        let of = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            family.samples.iter().find(|(sample, with, _)| *sample == wanted && *with == labels).unwrap().2
        };
        let last = buckets.last().unwrap();
        assert_eq!((last.0, last.1.to_string()), (f64::INFINITY, of("_count").to_string()), "{name}");
        assert!(of("_sum") >= 0.0);
    }
}

/// A device that is made through the registry, and its connection.
async fn device(directory: &Path, server: &Server, https: &Https) -> MqttClient {
    let variables = environment(directory);
    let connection = &variables["IOTHUB_CONNECTION_STRING"];
    let key = connection.split(';').find_map(|part| part.strip_prefix("SharedAccessKey=")).unwrap();
    let host = variables["IOTHUB_HOSTNAME"].clone();
    let sign = |resource: &str, policy: Option<&str>, key: &str| {
        let key: base::Key = serde_json::from_value(key.into()).unwrap();
        base::sas::build(resource, &key, base::Timestamp::from_unix_seconds(4_102_444_800), policy)
    };
    let token = sign(&host, Some("iothubowner"), key);
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let url = server.url("/devices/d1?api-version=2021-04-12");
    let made = https.ask("PUT", &url, &headers, r#"{"deviceId": "d1"}"#).await.unwrap().json();
    let key = made["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let password = sign(&format!("{host}/devices/d1"), None, key);
    let trust = Trust::only(&std::fs::read_to_string(directory.join("ca.pem")).unwrap()).unwrap();
    let user_name = format!("{host}/d1/?api-version=2021-04-12");
    let login = Login { client_id: "d1", user_name: &user_name, password: &password, clean_session: true };
    MqttClient::connect(&trust, &server.address, 8883, &login).await.unwrap()
}

#[tokio::test]
async fn counts_move_by_what_was_done() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let https = client(data.path());
    let mut device = device(data.path(), &server, &https).await;
    let before = Metrics::read(&https, &server).await;
    for _ in 0..3 {
        device.publish("devices/d1/messages/events/", &b"{\"t\":1}"[..]).await.unwrap();
    }
    refused_device(data.path(), &server.address, "nobody").await;
    let refused =
        https.send("GET", &server.url("/devices/d1?api-version=2021-04-12"), &[], "").await.unwrap();
    assert_eq!(refused.status, 401);
    let nowhere = https.send("GET", &server.url("/_twinhub/nowhere"), &[], "").await.unwrap();
    assert_eq!(nowhere.status, 404);
    let after = Metrics::read(&https, &server).await;
    let rise = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let moved = [
        ("twinhub_hub_telemetry_total", vec![("hub", "hub")], 3),
        ("twinhub_hub_telemetry_attempts_total", vec![("hub", "hub")], 3),
        ("twinhub_hub_telemetry_bytes_total", vec![("hub", "hub")], 21),
        ("twinhub_messages_total", vec![("protocol", "mqtt"), ("direction", "in")], 3),
        ("twinhub_messages_total", vec![("protocol", "mqtt"), ("direction", "out")], 0),
        ("twinhub_refused_total", vec![("door", "mqtt"), ("reason", "it is not registered")], 1),
        ("twinhub_refused_total", vec![("door", "hub"), ("reason", "it presented no credentials")], 1),
        (
            "twinhub_requests_total",
            vec![("service", "hub"), ("operation", "Devices_GetIdentity"), ("status", "401")],
            1,
        ),
        (
            "twinhub_requests_total",
            vec![("service", "admin"), ("operation", "Metrics_Get"), ("status", "200")],
            1,
        ),
        (
            "twinhub_requests_total",
            vec![("service", "admin"), ("operation", "unknown"), ("status", "404")],
            1,
        ),
        ("twinhub_request_seconds_count", vec![("service", "hub")], 1),
        ("twinhub_connections_total", vec![("protocol", "mqtt")], 1),
    ];
    for (name, labels, by) in &moved {
        assert!(
            (rise(name, labels) - f64::from(*by)).abs() < 0.5,
            "{name} {labels:?}: {}",
            rise(name, labels)
        );
    }
    for (name, labels) in [
        ("twinhub_bytes_total", vec![("protocol", "mqtt"), ("direction", "in")]),
        ("twinhub_bytes_total", vec![("protocol", "https"), ("direction", "out")]),
        ("twinhub_log_sync_seconds_count", vec![]),
    ] {
        assert!(rise(name, &labels) > 0.0, "{name} {labels:?}");
    }
    assert_eq!(after.sum("twinhub_hub_devices", &[("hub", "hub")]).to_string(), "1");
    assert_eq!(after.sum("twinhub_hub_devices_connected", &[("hub", "hub")]).to_string(), "1");
    assert!(after.sum("twinhub_records_sync_seconds_count", &[]) > 0.0);
}

/// Whatever looks like the name of a metric of ours.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("twinhub_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Every `expr` of the dashboard.
fn expressions(value: &Value, found: &mut String) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "expr" || name == "query" => {
                        found.push_str(text);
                        found.push('\n');
                    }
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_what_there_is() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let https = client(data.path());
    let metrics = Metrics::read(&https, &server).await;
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../docs/monitoring/grafana.json")).unwrap();
    let mut queries = String::new();
    expressions(&dashboard, &mut queries);
    let alerts = include_str!("../../../../docs/monitoring/alerts.yml");
    let alerts: String = alerts.lines().filter(|line| line.trim_start().starts_with("expr:")).collect();
    let page = include_str!("../../../../docs/monitoring.md");
    for (place, text, at_least) in [("dashboard", &*queries, 15), ("alerts", &*alerts, 8), ("page", page, 10)]
    {
        let named = names(text);
        assert!(named.len() >= at_least, "{place} names {named:?}");
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_there = metrics.0.contains_key(&name)
                || family.is_some_and(|name| metrics.0.get(name).is_some_and(|f| f.kind == "histogram"));
            assert!(is_there, "{place}: there is no {name}");
        }
    }
}
