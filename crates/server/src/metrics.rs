//! What `/metrics` shows, each number with where it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Clock;
use rest::admin::{Kind, Metric};

use crate::connections::Counters;

pub(crate) fn all(counters: &Arc<Counters>, clock: &Clock) -> Vec<Metric> {
    let (started_at, clock) = (clock.now(), clock.clone());
    let number = |pick: fn(&Counters) -> &AtomicU64| {
        let counters = counters.clone();
        move || as_number(pick(&counters).load(Ordering::Relaxed))
    };
    vec![
        Metric::new(Kind::Gauge, "twinhub_uptime_seconds", "", "Seconds since the start.", move || {
            clock.now().since(started_at).as_secs_f64()
        }),
        Metric::new(
            Kind::Gauge,
            "twinhub_connections",
            "protocol=\"https\"",
            "Open connections.",
            number(|c| &c.https_open),
        ),
        Metric::new(
            Kind::Gauge,
            "twinhub_connections",
            "protocol=\"mqtt\"",
            "Open connections.",
            number(|c| &c.mqtt_open),
        ),
        Metric::new(
            Kind::Counter,
            "twinhub_connections_total",
            "protocol=\"https\"",
            "Connections since the start.",
            number(|c| &c.https_total),
        ),
        Metric::new(
            Kind::Counter,
            "twinhub_connections_total",
            "protocol=\"mqtt\"",
            "Connections since the start.",
            number(|c| &c.mqtt_total),
        ),
        Metric::new(
            Kind::Counter,
            "twinhub_tls_handshakes_failed_total",
            "",
            "TLS handshakes that failed or took too long.",
            number(|c| &c.handshakes_failed),
        ),
        Metric::new(
            Kind::Counter,
            "twinhub_connections_refused_total",
            "",
            "Connections closed at once because there were too many.",
            number(|c| &c.refused),
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are doubles")]
fn as_number(count: u64) -> f64 {
    count as f64
}
