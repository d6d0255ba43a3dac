//! What a simulation counts, from all its devices at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::caps;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::latencies::{self, Latencies};

/// A step whose time is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Register,
    Connect,
    Publish,
    Report,
}

const STEPS: [(&str, &str); 4] = [
    ("register", "register through provisioning (TLS, MQTT)"),
    ("connect", "connect and subscribe (TLS, MQTT)"),
    ("publish", "telemetry, durable acknowledgement"),
    ("report", "report properties, acknowledged"),
];

/// How things stand.
#[derive(Default)]
pub struct Tally {
    times: Mutex<Times>,
    errors: Mutex<BTreeMap<String, u64>>,
    pub(super) registered: Count,
    pub(super) connected: Count,
    /// Devices that have connected once, or have failed to.
    pub(super) settled: Count,
    /// Devices that will not try again.
    pub(super) given_up: Count,
    pub(super) came_up: Count,
    pub(super) reconnected: Count,
    pub(super) sent: Count,
    /// Messages that were due and not sent, because too many waited for their acknowledgement.
    pub(super) held_back: Count,
    pub(super) desired: Count,
    pub(super) methods: Count,
}

#[derive(Default)]
struct Times {
    steps: [Latencies; STEPS.len()],
    /// Acknowledgements since the last look.
    lately: Latencies,
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How things stand, for a line.
pub struct Progress {
    pub registered: u64,
    pub connected: u64,
    pub sent: u64,
    /// Acknowledgements since the last look, and how long they took.
    pub acknowledged: u64,
    pub median: Duration,
    pub p99: Duration,
    pub errors: u64,
}

impl Tally {
    pub(super) fn took(&self, step: Step, time: Duration) {
        let mut times = self.times.lock();
        times.steps[step as usize].add(time);
        if let Step::Publish = step {
            times.lately.add(time);
        }
    }

    /// Counts a failure by its reason. Reasons hold no names of devices, so there are few of them.
    pub(super) fn failed(&self, what: &str, why: &impl std::fmt::Display) {
        let mut errors = self.errors.lock();
        let reason = format!("{what}: {why}");
        let is_new = !errors.contains_key(&reason);
        let reason = if is_new && errors.len() >= caps::SIMULATED_REASONS_MAX {
            "other reasons".into()
        } else {
            reason
        };
        *errors.entry(reason).or_default() += 1;
    }

    pub fn progress(&self) -> Progress {
        let mut times = self.times.lock();
        let lately = &times.lately;
        let progress = Progress {
            registered: self.registered.get(),
            connected: self.connected.get(),
            sent: self.sent.get(),
            acknowledged: lately.count(),
            median: lately.at(0.5),
            p99: lately.at(0.99),
            errors: self.errors.lock().values().sum(),
        };
        times.lately.clear();
        progress
    }

    /// For people.
    pub fn text(&self, seconds: f64) -> String {
        let times = self.times.lock();
        let acknowledged = times.steps[Step::Publish as usize].count();
        let mut out = format!(
            "{} devices came up, {} messages sent, {acknowledged} acknowledged, {} desired changes, {} methods answered, in {seconds:.1} s\n\n",
            self.came_up.get(),
            self.sent.get(),
            self.desired.get(),
            self.methods.get(),
        );
        let rows: Vec<_> = STEPS.iter().map(|(_, name)| *name).zip(&times.steps).collect();
        out.push_str(&latencies::table(&rows));
        let mut add = |line: String| writeln!(out, "{line}").expect("a string takes every text");
        let (held_back, reconnected) = (self.held_back.get(), self.reconnected.get());
        if held_back > 0 {
            add(format!("\n{held_back} messages were held back: the server was slower than --rate asks for"));
        }
        if reconnected > 0 {
            add(format!("\n{reconnected} connections were made again"));
        }
        for (index, (reason, count)) in self.errors.lock().iter().enumerate() {
            add(if index == 0 {
                format!("\nerrors:\n  {count:>6}  {reason}")
            } else {
                format!("  {count:>6}  {reason}")
            });
        }
        out
    }

    /// For programs.
    pub fn json(&self, seconds: f64) -> Value {
        let times = self.times.lock();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let step = |times: &Latencies| {
            json!({
                "count": times.count(), "medianMs": milliseconds(times.at(0.5)), "p99Ms": milliseconds(times.at(0.99)),
                "maxMs": milliseconds(times.max()),
            })
        };
        let steps: serde_json::Map<_, _> = STEPS
            .iter()
            .zip(&times.steps)
            .map(|((name, _), times)| ((*name).to_owned(), step(times)))
            .collect();
        json!({
            "seconds": seconds, "devices": self.came_up.get(), "sent": self.sent.get(), "heldBack": self.held_back.get(),
            "reconnected": self.reconnected.get(), "desired": self.desired.get(), "methods": self.methods.get(),
            "latencies": steps, "errors": *self.errors.lock(),
        })
    }
}
