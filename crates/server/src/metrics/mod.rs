//! What `/metrics` shows, each number with where it is read. A family that Azure's monitoring has too names Azure's in its help.

mod disk;
mod instances;
mod process;
mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Clock, Refusals, Throttle};
use rest::admin::{Family, Kind};
use store::Store;

use crate::connections::Counters;
use crate::health::Health;
use crate::house::House;

pub(crate) use disk::{Places, free_bytes};
pub(crate) use services::Services;

/// What is read.
pub(crate) struct Sources<'a> {
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) clock: &'a Clock,
    pub(crate) health: &'a Health,
    pub(crate) house: &'a House,
    pub(crate) services: &'a Services,
    pub(crate) places: &'a Places,
}

pub(crate) fn all(sources: &Sources<'_>) -> Vec<Family> {
    let Sources { counters, clock, health, house, services, places } = sources;
    let mut all = vec![build(), uptime(clock), clock_steps(clock)];
    all.extend(process::families(clock));
    all.extend(connections(counters));
    all.extend(traffic(counters, services));
    all.extend(refusals(&house.refusals));
    all.push(throttles(&house.throttle));
    all.extend(services::families(services));
    all.extend([commits(&health.store), syncs_of_records(&health.store), syncs_of_log(health)]);
    all.extend(queries(&health.store));
    all.extend([devices(house), events(house)]);
    all.extend(failures(health));
    all.push(standby(&health.store));
    all.extend(waiting_events(house));
    all.push(lines_lost());
    all.extend(log_damage(house));
    all.extend(disk::families(places));
    all.extend(instances::families(house));
    all
}

fn build() -> Family {
    const HELP: &str = "What runs; always 1.";
    Family::new(Kind::Gauge, "twinhub_build_info", HELP, |samples| {
        let os = std::env::consts::OS;
        let arch = std::env::consts::ARCH;
        samples.add(&[("version", env!("CARGO_PKG_VERSION")), ("os", os), ("arch", arch)], 1.0);
    })
}

fn uptime(clock: &Clock) -> Family {
    let (started_at, clock) = (clock.elapsed(), clock.clone());
    Family::one(Kind::Gauge, "twinhub_uptime_seconds", "Seconds since the start.", move || {
        clock.elapsed().since(started_at).as_secs_f64()
    })
}

fn clock_steps(clock: &Clock) -> Family {
    const HELP: &str = "How often the wall clock was set, by more than a minute, since the start.";
    let clock = clock.clone();
    counter("twinhub_wall_clock_steps_total", HELP, move || clock.steps().total)
}

fn connections(counters: &Arc<Counters>) -> [Family; 4] {
    type Row = (&'static str, fn(&Counters) -> &AtomicU64);
    const OPEN: [Row; 2] = [("https", |c| &c.https_open), ("mqtt", |c| &c.mqtt_open)];
    const TOTAL: [Row; 2] = [("https", |c| &c.https_total), ("mqtt", |c| &c.mqtt_total)];
    const FAILED: &str = "TLS handshakes that failed or took too long.";
    const REFUSED: &str = "Connections closed at once because there were too many.";
    let by_protocol = |kind, name, help, rows: [Row; 2]| {
        let counters = counters.clone();
        Family::new(kind, name, help, move |samples| {
            for (protocol, pick) in rows {
                samples.count(&[("protocol", protocol)], pick(&counters).load(Ordering::Relaxed));
            }
        })
    };
    let (failed, refused) = (counters.clone(), counters.clone());
    [
        by_protocol(Kind::Gauge, "twinhub_connections", "Open connections.", OPEN),
        by_protocol(Kind::Counter, "twinhub_connections_total", "Connections since the start.", TOTAL),
        counter("twinhub_tls_handshakes_failed_total", FAILED, move || {
            failed.handshakes_failed.load(Ordering::Relaxed)
        }),
        counter("twinhub_connections_refused_total", REFUSED, move || {
            refused.refused.load(Ordering::Relaxed)
        }),
    ]
}

fn traffic(counters: &Arc<Counters>, services: &Services) -> [Family; 2] {
    const MESSAGES: &str = "Messages: MQTT's PUBLISH packets, and requests with their answers over HTTPS. in is what clients send.";
    const BYTES: &str = "Bytes on the wire, TLS included. in is what clients send.";
    let (mqtt, services, all) = (counters.mqtt.clone(), services.clone(), counters.clone());
    [
        Family::new(Kind::Counter, "twinhub_messages_total", MESSAGES, move |samples| {
            let requests = services.answers_total();
            for (protocol, inward, outward) in
                [("https", requests, requests), ("mqtt", mqtt.messages_in.get(), mqtt.messages_out.get())]
            {
                samples.count(&[("protocol", protocol), ("direction", "in")], inward);
                samples.count(&[("protocol", protocol), ("direction", "out")], outward);
            }
        }),
        Family::new(Kind::Counter, "twinhub_bytes_total", BYTES, move |samples| {
            for (protocol, traffic) in [("https", &all.https), ("mqtt", &all.mqtt)] {
                samples.count(&[("protocol", protocol), ("direction", "in")], traffic.bytes_in.get());
                samples.count(&[("protocol", protocol), ("direction", "out")], traffic.bytes_out.get());
            }
        }),
    ]
}

/// With a row for a door even where nobody was refused, so that a rise from nothing is seen as one.
fn refusals(refusals: &Refusals) -> [Family; 1] {
    const HELP: &str =
        "Devices and callers that were kept out or cut off, by door and reason; the log names them.";
    let refusals = refusals.clone();
    [Family::new(Kind::Counter, "twinhub_refused_total", HELP, move |samples| {
        for (door, reason, count) in refusals.totals() {
            samples.count(&[("door", door), ("reason", reason)], count);
        }
    })]
}

fn throttles(throttle: &Throttle) -> Family {
    const HELP: &str = "Operations that were told to come later, by what they are counted as. Of a hub's telemetry Azure's d2c.telemetry.ingress.sendThrottle.";
    let throttle = throttle.clone();
    Family::new(Kind::Counter, "twinhub_throttled_total", HELP, move |samples| {
        for (meter, count) in throttle.refused() {
            samples.count(&[("meter", meter.name())], count);
        }
    })
}

fn commits(store: &Store) -> Family {
    let store = store.clone();
    counter("twinhub_commits_total", "Durable changes since the start.", move || store.commits_total())
}

fn syncs_of_records(store: &Store) -> Family {
    const HELP: &str = "How long it took changes of records that were committed together to become durable.";
    let store = store.clone();
    Family::new(Kind::Histogram, "twinhub_records_sync_seconds", HELP, move |samples| {
        samples.distribution(&[], &store.syncs());
    })
}

fn syncs_of_log(health: &Health) -> Family {
    const HELP: &str = "How long it took events that were appended together to become durable.";
    let streams = health.streams.clone();
    Family::new(Kind::Histogram, "twinhub_log_sync_seconds", HELP, move |samples| {
        samples.distribution(&[], &streams.syncs());
    })
}

fn queries(store: &Store) -> [Family; 2] {
    let (running, waiting) = (store.clone(), store.clone());
    [
        gauge("twinhub_queries_running", "Queries that run.", move || running.queries().0 as u64),
        gauge("twinhub_queries_waiting", "Queries that wait for their turn.", move || {
            waiting.queries().1 as u64
        }),
    ]
}

fn standby(store: &Store) -> Family {
    const NAME: &str = "twinhub_database_synchronous_standby";
    const HELP: &str =
        "Whether what is acknowledged is on a second machine too, of a server whose store is a database.";
    let store = store.clone();
    Family::new(Kind::Gauge, NAME, HELP, move |samples| {
        if let Some(has_standby) = store.has_standby() {
            samples.count(&[], has_standby.into());
        }
    })
}

fn failures(health: &Health) -> [Family; 2] {
    const HELP: &str = "Writes that the disk refused, since the start.";
    let (store, streams, tasks) = (health.store.clone(), health.streams.clone(), health.tasks.clone());
    [
        Family::new(Kind::Counter, "twinhub_write_failures_total", HELP, move |samples| {
            samples.count(&[("of", "records")], store.failures_total());
            samples.count(&[("of", "events")], streams.failures_total());
        }),
        counter("twinhub_task_panics_total", "Tasks that panicked, since the start.", move || {
            tasks.panics_total()
        }),
    ]
}

fn devices(house: &House) -> Family {
    let hubs = house.hubs.clone();
    gauge("twinhub_devices_connected", "Devices with a session.", move || {
        hubs.all().iter().map(hub::Hub::devices_here).sum()
    })
}

fn events(house: &House) -> Family {
    const HELP: &str = "Durable events of the streams that exist: device messages and changes.";
    let events = house.events.clone();
    counter("twinhub_events_total", HELP, move || events.appended_total())
}

fn waiting_events(house: &House) -> [Family; 4] {
    const BYTES: &str = "Events that wait to be relayed or delivered, as measured every few seconds.";
    const PARKED: &str = "Of those, events that are parked because their endpoint takes none.";
    const ENDPOINTS: &str = "Endpoints for which events are parked.";
    const THROTTLED: &str = "Instances that are throttled because too many of their events wait.";
    let backlog = || house.events.backlog().clone();
    let (waiting, parked, endpoints, throttled) = (backlog(), backlog(), backlog(), backlog());
    [
        gauge("twinhub_events_waiting_bytes", BYTES, move || waiting.bytes()),
        gauge("twinhub_events_parked_bytes", PARKED, move || parked.parked_bytes()),
        gauge("twinhub_endpoints_waiting", ENDPOINTS, move || endpoints.endpoints_waiting() as u64),
        gauge("twinhub_instances_throttled", THROTTLED, move || throttled.throttled() as u64),
    ]
}

fn lines_lost() -> Family {
    const HELP: &str = "Lines of the log that were lost because stderr was not read fast enough.";
    counter("twinhub_log_lines_lost_total", HELP, crate::logging::lines_lost)
}

fn log_damage(house: &House) -> [Family; 2] {
    const SEGMENTS: &str =
        "Segments of the log that are known to be damaged; `twinhub log check` tells more.";
    const LOST: &str = "Events that their damage took, at most.";
    let (segments, lost) = (house.events.clone(), house.events.clone());
    [
        gauge("twinhub_log_damaged_segments", SEGMENTS, move || segments.log_damage().segments),
        gauge("twinhub_log_lost_events", LOST, move || lost.log_damage().records_lost),
    ]
}

fn counter(name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) -> Family {
    Family::one(Kind::Counter, name, help, move || as_number(read()))
}

fn gauge(name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) -> Family {
    Family::one(Kind::Gauge, name, help, move || as_number(read()))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are doubles")]
fn as_number(count: u64) -> f64 {
    count as f64
}
