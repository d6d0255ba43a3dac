//! What `/metrics` shows, each number with where it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Clock;
use events::EventStream;
use rest::admin::{Kind, Metric};
use store::Store;

use crate::connections::Counters;
use crate::house::House;

pub(crate) fn all(counters: &Arc<Counters>, clock: &Clock, store: &Store, house: &House) -> Vec<Metric> {
    let store = store.clone();
    let (hubs, events) = (house.hubs.clone(), house.events.clone());
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
        Metric::new(
            Kind::Counter,
            "twinhub_commits_total",
            "",
            "Durable changes since the start.",
            move || as_number(store.commits_total()),
        ),
        Metric::new(Kind::Gauge, "twinhub_devices_connected", "", "Devices with a session.", move || {
            as_number(hubs.all().iter().map(|hub| hub.sessions().connected_devices()).sum())
        }),
        Metric::new(
            Kind::Counter,
            "twinhub_events_total",
            "",
            "Durable events of the streams that exist: device messages and changes.",
            move || {
                let of_stream = |stream: &EventStream| -> u64 {
                    (0..stream.partition_count())
                        .map(|partition| stream.partition(partition).next_sequence)
                        .sum()
                };
                as_number(events.all_streams().iter().map(of_stream).sum())
            },
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are doubles")]
fn as_number(count: u64) -> f64 {
    count as f64
}
