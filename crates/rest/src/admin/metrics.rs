//! `/metrics` in Prometheus' text form, version 0.0.4. The server registers families; here they are read and written.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;

use base::measure::Distribution;

use super::Admin;
use crate::wire::{Request, Response};

/// How the numbers of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How long things took.
    Histogram,
}

type Read = Box<dyn Fn(Samples) -> Pin<Box<dyn Future<Output = Samples> + Send>> + Send + Sync>;

/// Numbers of one name, read when they are asked for. They differ in their labels.
pub struct Family {
    pub kind: Kind,
    pub name: &'static str,
    pub help: &'static str,
    read: Read,
}

/// What one family holds at a moment.
pub struct Samples {
    name: &'static str,
    text: String,
}

impl Family {
    /// Read at once.
    pub fn new(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) -> Self {
        let read = move |mut samples| {
            read(&mut samples);
            let ready: Pin<Box<dyn Future<Output = Samples> + Send>> = Box::pin(std::future::ready(samples));
            ready
        };
        Self { kind, name, help, read: Box::new(read) }
    }

    /// Read by waiting for a store or a disk.
    pub fn waiting<F>(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Samples) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Samples> + Send + 'static,
    {
        Self { kind, name, help, read: Box::new(move |samples| Box::pin(read(samples))) }
    }

    /// One number without labels.
    pub fn one(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self::new(kind, name, help, move |samples| samples.add(&[], read()))
    }
}

impl Samples {
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are doubles")]
    pub fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.add(labels, value as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are doubles")]
    pub fn distribution(&mut self, labels: &[(&str, &str)], read: &Distribution) {
        for (bound, count) in &read.buckets {
            self.line("_bucket", labels, Some(&bound.to_string()), *count as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), read.count as f64);
        self.line("_sum", labels, None, read.seconds);
        self.line("_count", labels, None, read.count as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: f64) {
        let bound = bound.map(|bound| ("le", bound));
        let labels = labels.iter().copied().chain(bound);
        let labels: Vec<_> = labels.map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

/// A label's value as the format wants it. Names of hubs need none of this; texts of ours may.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) async fn get(door: Admin, (): (), _: Request) -> Response {
    Response::bytes(200, "text/plain; version=0.0.4; charset=utf-8", write(&door.0.metrics).await)
}

async fn write(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(out, "# HELP {0} {help}\n# TYPE {0} {kind}", family.name);
        let samples = Samples { name: family.name, text: String::new() };
        out.push_str(&(family.read)(samples).await.text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn families_are_written_with_their_help_and_labels_are_escaped() {
        let families = [
            Family::one(Kind::Gauge, "a", "What\\it\nis.", || 1.5),
            Family::new(Kind::Counter, "b_total", "B.", |samples| {
                samples.count(&[("x", "a\"b\\c\nd"), ("y", "z")], 7);
            }),
            Family::waiting(Kind::Histogram, "c_seconds", "C.", |mut samples| async move {
                let read = Distribution { buckets: vec![(0.005, 1), (1.0, 2)], count: 3, seconds: 9.25 };
                samples.distribution(&[("of", "log")], &read);
                samples
            }),
        ];
        let expected = r#"# HELP a What\\it\nis.
# TYPE a gauge
a 1.5
# HELP b_total B.
# TYPE b_total counter
b_total{x="a\"b\\c\nd",y="z"} 7
# HELP c_seconds C.
# TYPE c_seconds histogram
c_seconds_bucket{of="log",le="0.005"} 1
c_seconds_bucket{of="log",le="1"} 2
c_seconds_bucket{of="log",le="+Inf"} 3
c_seconds_sum{of="log"} 9.25
c_seconds_count{of="log"} 3
"#;
        assert_eq!(write(&families).await, expected);
    }
}
