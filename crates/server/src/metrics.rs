//! What `/metrics` shows, each number with where it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Clock;
use events::EventStream;
use rest::admin::{Kind, Metric};
use store::Store;

use crate::connections::Counters;
use crate::health::Health;
use crate::house::House;

pub(crate) fn all(counters: &Arc<Counters>, clock: &Clock, health: &Health, house: &House) -> Vec<Metric> {
    let mut all = vec![uptime(clock), clock_steps(clock)];
    all.extend(connections(counters));
    all.extend([commits(&health.store), devices(house), events(house)]);
    all.extend(failures(health));
    all.extend(waiting_events(house));
    all.push(lines_lost());
    all.extend(log_damage(house));
    all
}

fn uptime(clock: &Clock) -> Metric {
    let (started_at, clock) = (clock.elapsed(), clock.clone());
    Metric::new(Kind::Gauge, "twinhub_uptime_seconds", "", "Seconds since the start.", move || {
        clock.elapsed().since(started_at).as_secs_f64()
    })
}

fn clock_steps(clock: &Clock) -> Metric {
    const HELP: &str = "How often the wall clock was set, by more than a minute, since the start.";
    let clock = clock.clone();
    Metric::new(Kind::Counter, "twinhub_wall_clock_steps_total", "", HELP, move || {
        as_number(clock.steps().total)
    })
}

fn connections(counters: &Arc<Counters>) -> impl Iterator<Item = Metric> + use<> {
    type Row = (Kind, &'static str, &'static str, &'static str, fn(&Counters) -> &AtomicU64);
    const OPEN: &str = "Open connections.";
    const TOTAL: &str = "Connections since the start.";
    const FAILED: &str = "TLS handshakes that failed or took too long.";
    const REFUSED: &str = "Connections closed at once because there were too many.";
    let rows: [Row; 6] = [
        (Kind::Gauge, "twinhub_connections", "protocol=\"https\"", OPEN, |c| &c.https_open),
        (Kind::Gauge, "twinhub_connections", "protocol=\"mqtt\"", OPEN, |c| &c.mqtt_open),
        (Kind::Counter, "twinhub_connections_total", "protocol=\"https\"", TOTAL, |c| &c.https_total),
        (Kind::Counter, "twinhub_connections_total", "protocol=\"mqtt\"", TOTAL, |c| &c.mqtt_total),
        (Kind::Counter, "twinhub_tls_handshakes_failed_total", "", FAILED, |c| &c.handshakes_failed),
        (Kind::Counter, "twinhub_connections_refused_total", "", REFUSED, |c| &c.refused),
    ];
    let counters = counters.clone();
    rows.into_iter().map(move |(kind, name, labels, help, pick)| {
        let counters = counters.clone();
        Metric::new(kind, name, labels, help, move || as_number(pick(&counters).load(Ordering::Relaxed)))
    })
}

fn commits(store: &Store) -> Metric {
    let store = store.clone();
    Metric::new(Kind::Counter, "twinhub_commits_total", "", "Durable changes since the start.", move || {
        as_number(store.commits_total())
    })
}

fn failures(health: &Health) -> [Metric; 3] {
    const NAME: &str = "twinhub_write_failures_total";
    const HELP: &str = "Writes that the disk refused, since the start.";
    const PANICS: &str = "Tasks that panicked, since the start.";
    let (store, streams, tasks) = (health.store.clone(), health.streams.clone(), health.tasks.clone());
    [
        Metric::new(Kind::Counter, NAME, "of=\"records\"", HELP, move || as_number(store.failures_total())),
        Metric::new(Kind::Counter, NAME, "of=\"events\"", HELP, move || as_number(streams.failures_total())),
        Metric::new(Kind::Counter, "twinhub_task_panics_total", "", PANICS, move || {
            as_number(tasks.panics_total())
        }),
    ]
}

fn devices(house: &House) -> Metric {
    let hubs = house.hubs.clone();
    Metric::new(Kind::Gauge, "twinhub_devices_connected", "", "Devices with a session.", move || {
        as_number(hubs.all().iter().map(|hub| hub.sessions().connected_devices()).sum())
    })
}

fn events(house: &House) -> Metric {
    const HELP: &str = "Durable events of the streams that exist: device messages and changes.";
    let events = house.events.clone();
    let of_stream = |stream: &EventStream| -> u64 {
        (0..stream.partition_count()).map(|partition| stream.partition(partition).next_sequence).sum()
    };
    Metric::new(Kind::Counter, "twinhub_events_total", "", HELP, move || {
        as_number(events.all_streams().iter().map(of_stream).sum())
    })
}

fn waiting_events(house: &House) -> [Metric; 2] {
    const BYTES: &str = "Events that wait to be relayed or delivered, as measured every few seconds.";
    const THROTTLED: &str = "Instances that are throttled because too many of their events wait.";
    let (waiting, throttled) = (house.events.backlog().clone(), house.events.backlog().clone());
    [
        Metric::new(Kind::Gauge, "twinhub_events_waiting_bytes", "", BYTES, move || {
            as_number(waiting.bytes())
        }),
        Metric::new(Kind::Gauge, "twinhub_instances_throttled", "", THROTTLED, move || {
            as_number(throttled.throttled() as u64)
        }),
    ]
}

fn lines_lost() -> Metric {
    const HELP: &str = "Lines of the log that were lost because stderr was not read fast enough.";
    Metric::new(Kind::Counter, "twinhub_log_lines_lost_total", "", HELP, || {
        as_number(crate::logging::lines_lost())
    })
}

fn log_damage(house: &House) -> [Metric; 2] {
    const SEGMENTS: &str =
        "Segments of the log that are known to be damaged; `twinhub log check` tells more.";
    const LOST: &str = "Events that their damage took, at most.";
    let (segments, lost) = (house.events.clone(), house.events.clone());
    [
        Metric::new(Kind::Gauge, "twinhub_log_damaged_segments", "", SEGMENTS, move || {
            as_number(segments.log_damage().segments)
        }),
        Metric::new(Kind::Gauge, "twinhub_log_lost_events", "", LOST, move || {
            as_number(lost.log_damage().records_lost)
        }),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are doubles")]
fn as_number(count: u64) -> f64 {
    count as f64
}
