//! `/metrics` in Prometheus' text form. The server registers what it counts; here it is only written.

use std::fmt::Write as _;

use super::Admin;
use crate::wire::{Request, Response};

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One number, read when it is asked for. Metrics of one name follow each other and differ in their labels.
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// `protocol="https"`, or empty.
    pub labels: &'static str,
    pub read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Metric {
    pub fn new(
        kind: Kind,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { name, help, kind, labels, read: Box::new(read) }
    }
}

pub(super) async fn get(door: Admin, (): (), _: Request) -> Response {
    Response::bytes(200, "text/plain; version=0.0.4; charset=utf-8", write(&door.0.metrics))
}

fn write(metrics: &[Metric]) -> String {
    let mut out = String::new();
    let mut last = "";
    for metric in metrics {
        if metric.name != last {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} {kind}", metric.name, metric.help);
            last = metric.name;
        }
        let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels) };
        let _ = writeln!(out, "{}{labels} {}", metric.name, (metric.read)());
    }
    out
}
