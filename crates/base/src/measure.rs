//! What is counted while the server works, for whoever looks later: counters and histograms that many threads write at once without
//! waiting for each other. Nothing here allocates or locks once it is made, so it may stand on the hottest path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something went well, and how often it did not.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub success: Count,
    pub failure: Count,
}

impl Outcomes {
    /// Counts a result and hands it on.
    pub fn note<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        let count = if result.is_ok() { &self.success } else { &self.failure };
        count.add(1);
        result
    }
}

/// What one protocol carried.
#[derive(Debug, Default)]
pub struct Traffic {
    pub messages_in: Count,
    pub messages_out: Count,
    pub bytes_in: Count,
    pub bytes_out: Count,
}

/// Bounds of the histogram of requests, in microseconds: from what a read takes to a direct method that waits for its device.
pub const REQUEST_MICROS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Bounds of the histograms of syncs, in microseconds: from memory to a disk that is dying.
pub const SYNC_MICROS: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// How long things took, in buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Ascending, in microseconds.
    bounds: &'static [u64],
    /// One more than bounds: the last holds what took longer than any.
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Each bound in seconds, and how many took at most so long.
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
    pub seconds: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, micros: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Does something and notes how long it took.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let done = work();
        self.observe(watch.elapsed());
        done
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds are told as doubles")]
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let mut sums = self.counts.iter().map(|one| {
            count += one.load(Ordering::Relaxed);
            count
        });
        let seconds = |micros: u64| micros as f64 / 1e6;
        let buckets = self.bounds.iter().map(|bound| seconds(*bound)).zip(&mut sums).collect();
        let all = sums.next().unwrap_or_default();
        Distribution { buckets, count: all, seconds: seconds(self.micros.load(Ordering::Relaxed)) }
    }
}

/// How long something takes in truth, however tests move the time that the server goes by.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "it measures the machine, and decides nothing")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_at_most_so_long() {
        let histogram = Histogram::new(&[10, 100, 1_000]);
        for micros in [0, 10, 11, 100, 1_000, 1_001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.buckets, [(1e-5, 2), (1e-4, 4), (1e-3, 5)]);
        assert_eq!(read.count, 7);
        assert!((read.seconds - 5.002_122).abs() < 1e-9, "{read:?}");
        assert_eq!(histogram.time(|| 7), 7);
        assert_eq!(histogram.read().count, 8);
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [REQUEST_MICROS, SYNC_MICROS] {
            assert!(bounds.windows(2).all(|two| two[0] < two[1]));
        }
    }

    #[test]
    fn outcomes_are_counted_and_handed_on() {
        let outcomes = Outcomes::default();
        assert_eq!(outcomes.note(Ok::<_, ()>(1)), Ok(1));
        assert_eq!(outcomes.note(Err::<(), _>(2)), Err(2));
        assert_eq!((outcomes.success.get(), outcomes.failure.get()), (1, 1));
    }
}
