//! What a benchmark found, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::Failure;
use crate::measure::Measured;
use crate::statistics::Series;

/// Two sides measured in turn, or one side alone.
pub(crate) struct Comparison {
    pub(crate) title: String,
    pub(crate) subject: &'static str,
    pub(crate) anchor: Option<&'static str>,
    pub(crate) metrics: Vec<Metric>,
}

pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) subject: Series,
    pub(crate) anchor: Option<Series>,
}

/// Which way is better; nothing is better about a number that only explains the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    Neither,
}

impl Metric {
    pub(crate) fn ratio(&self) -> Option<Series> {
        Some(self.subject.ratio_to(self.anchor.as_ref()?))
    }
}

/// The numbers that every throughput benchmark reports, `operation` being the name of what is counted.
pub(crate) fn throughput_metrics(
    names: [&'static str; 2],
    subject: &[Measured],
    anchor: &[Measured],
) -> Vec<Metric> {
    let metric = |name, unit, better, of: &dyn Fn(&Measured) -> f64| Metric {
        name,
        unit,
        better,
        subject: subject.iter().map(of).collect(),
        anchor: Some(anchor.iter().map(of).collect()),
    };
    let [per_second, per_cpu_second] = names;
    vec![
        metric(per_second, "/s", Better::Higher, &Measured::per_second),
        metric(per_cpu_second, "/CPU s", Better::Higher, &Measured::per_server_cpu_second),
        metric("latency p50", "ms", Better::Lower, &|m| m.latencies.percentile_ms(0.5)),
        metric("latency p99", "ms", Better::Lower, &|m| m.latencies.percentile_ms(0.99)),
        metric("server's cores busy", "", Better::Neither, &Measured::server_cores),
        metric("generator's cores busy", "", Better::Neither, &Measured::generator_cores),
        metric("written by the disk", "B each", Better::Neither, &Measured::disk_bytes_per_operation),
    ]
}

/// The table for the terminal.
pub(crate) fn table(comparison: &Comparison) -> String {
    let mut rows = vec![[String::new(), comparison.subject.into(), String::new(), String::new()]];
    if let Some(anchor) = comparison.anchor {
        rows[0][2] = anchor.into();
        rows[0][3] = "ratio".into();
    }
    for metric in &comparison.metrics {
        let name = if metric.unit.is_empty() {
            metric.name.to_owned()
        } else {
            format!("{} ({})", metric.name, metric.unit)
        };
        let anchor = metric.anchor.as_ref().map(spread).unwrap_or_default();
        let ratio = metric.ratio().filter(|_| metric.better != Better::Neither);
        rows.push([name, spread(&metric.subject), anchor, ratio.as_ref().map(spread).unwrap_or_default()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = format!("\n{}\n", comparison.title);
    for row in rows {
        let [name, subject, anchor, ratio] = row;
        let line = format!(
            "  {name:0$}  {subject:>1$}  {anchor:>2$}  {ratio:>3$}",
            widths[0], widths[1], widths[2], widths[3]
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// `median [min–max]`.
fn spread(series: &Series) -> String {
    let median = number(series.median());
    if series.0.len() < 2 {
        return median;
    }
    format!("{median} [{}–{}]", number(series.min()), number(series.max()))
}

/// Three to four digits that count; thousands in groups.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "–".to_owned()
    } else if size >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                grouped.push(' ');
            }
            grouped.push(digit);
        }
        grouped
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// One file a benchmark, overwritten by the next run.
pub(crate) fn write(
    results: &Path,
    name: &str,
    settings: &Value,
    machine: &Value,
    comparisons: &[Comparison],
) -> Result<(), Failure> {
    let started = base::Clock::system().now().iso_seconds();
    let comparisons: Vec<_> = comparisons.iter().map(as_json).collect();
    let document = json!({
        "benchmark": name,
        "written": started,
        "settings": settings,
        "machine": machine,
        "comparisons": comparisons,
    });
    let path = results.join(format!("{name}.json"));
    Ok(std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&document)?))?)
}

fn as_json(comparison: &Comparison) -> Value {
    let metric = |metric: &Metric| {
        json!({
            "name": metric.name,
            "unit": metric.unit,
            "better": match metric.better {
                Better::Higher => Some("higher"),
                Better::Lower => Some("lower"),
                Better::Neither => None,
            },
            "subject": series(&metric.subject),
            "anchor": metric.anchor.as_ref().map(series),
            "ratio": metric.ratio().as_ref().map(series),
        })
    };
    json!({
        "title": comparison.title,
        "subject": comparison.subject,
        "anchor": comparison.anchor,
        "metrics": comparison.metrics.iter().map(metric).collect::<Vec<_>>(),
    })
}

fn series(series: &Series) -> Value {
    json!({"median": series.median(), "min": series.min(), "max": series.max(), "rounds": series.0})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        let shown = [0.1234, 9.876, 12.345, 123.4, 1234.5, 1_234_567.0, f64::NAN].map(number);
        assert_eq!(shown, ["0.12", "9.88", "12.3", "123", "1 234", "1 234 567", "–"]);
    }

    #[test]
    fn a_table_shows_the_ratio_of_what_can_be_better_and_of_nothing_else() {
        let metric = |name, better| Metric {
            name,
            unit: "/s",
            better,
            subject: Series(vec![10.0, 20.0, 30.0]),
            anchor: Some(Series(vec![5.0, 5.0, 5.0])),
        };
        let comparison = Comparison {
            title: "acks".into(),
            subject: "twinhub",
            anchor: Some("mosquitto"),
            metrics: vec![metric("acks", Better::Higher), metric("cores", Better::Neither)],
        };
        let text = table(&comparison);
        assert!(text.contains("20.0 [10.0–30.0]  5.00 [5.00–5.00]  4.00 [2.00–6.00]"), "{text}");
        assert_eq!(text.matches("4.00").count(), 1, "{text}");
    }
}
