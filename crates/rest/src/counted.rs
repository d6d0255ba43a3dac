//! What is counted of the answers of one service: by operation and status, and how long they took. The router finds the counter
//! together with the route, so that a request costs two additions; `/metrics` reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::measure::{Distribution, Histogram};
use http::StatusCode;

/// The statuses that doors answer with. Whatever else there may be counts as one.
const STATUSES: [u16; 26] = [
    101, 200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 416, 422, 429,
    500, 501, 502, 503, 504,
];

/// The name under which requests for paths, methods and operations are counted that there are not.
pub const UNKNOWN: &str = "unknown";

/// Answers of one route, by their status.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    by_status: [AtomicU64; STATUSES.len()],
    others: AtomicU64,
}

impl Answers {
    pub(crate) fn note(&self, status: StatusCode) {
        let known = STATUSES.binary_search(&status.as_u16());
        let counter = known.map_or(&self.others, |at| &self.by_status[at]);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let known = STATUSES.iter().zip(&self.by_status);
        let known = known.map(|(status, count)| (text(*status), count.load(Ordering::Relaxed)));
        let others = std::iter::once_with(|| ("other", self.others.load(Ordering::Relaxed)));
        known.chain(others).filter(|(_, count)| *count > 0)
    }
}

/// Labels are constants, so that nothing is made up while counting.
fn text(status: u16) -> &'static str {
    const TEXTS: [&str; STATUSES.len()] = [
        "101", "200", "201", "202", "204", "206", "304", "400", "401", "403", "404", "405", "408", "409",
        "410", "412", "413", "415", "416", "422", "429", "500", "501", "502", "503", "504",
    ];
    STATUSES.binary_search(&status).map_or("other", |at| TEXTS[at])
}

/// The counters of one service. Clones share them.
#[derive(Clone)]
pub struct Counted {
    service: &'static str,
    operations: Vec<(&'static str, Arc<Answers>)>,
    latency: Arc<Histogram>,
}

impl Counted {
    pub(crate) fn new(
        service: &'static str,
        mut operations: Vec<(&'static str, Arc<Answers>)>,
        unknown: Arc<Answers>,
        latency: Arc<Histogram>,
    ) -> Self {
        operations.push((UNKNOWN, unknown));
        Self { service, operations, latency }
    }

    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Operation, status and how many. An operation with several paths is one.
    pub fn answers(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut all = BTreeMap::new();
        for (operation, answers) in &self.operations {
            for (status, count) in answers.read() {
                *all.entry((*operation, status)).or_default() += count;
            }
        }
        all
    }

    /// How long it took until an answer was made.
    pub fn latency(&self) -> Distribution {
        self.latency.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_label_and_what_is_unknown_counts_as_one() {
        assert!(STATUSES.is_sorted());
        for status in STATUSES {
            assert_eq!(text(status), status.to_string());
        }
        let answers = Answers::default();
        for status in [200, 200, 404, 418, 451] {
            answers.note(StatusCode::from_u16(status).unwrap());
        }
        assert_eq!(answers.read().collect::<Vec<_>>(), [("200", 2), ("404", 1), ("other", 2)]);
    }

    #[test]
    fn an_operation_with_two_paths_is_one() {
        let (one, other) = (Arc::<Answers>::default(), Arc::<Answers>::default());
        one.note(StatusCode::OK);
        other.note(StatusCode::OK);
        let operations = vec![("Get", one), ("Get", other)];
        let latency = Arc::new(Histogram::new(&[1]));
        let counted = Counted::new("s", operations, Arc::default(), latency);
        assert_eq!(counted.answers(), BTreeMap::from([(("Get", "200"), 2)]));
    }
}
