//! Latencies without a list of every one: a histogram of microseconds, exact to a thousandth.

use std::fmt::Write as _;
use std::time::Duration;

use base::caps;
use hdrhistogram::Histogram;

#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(caps::LATENCY_MICROSECONDS_MAX, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `share` of all are not above; zero of none.
    pub fn at(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut all = Self::default();
        times.into_iter().for_each(|time| all.add(time));
        all
    }
}

/// A row for each kind of step that was taken.
pub(crate) fn table(rows: &[(&str, &Latencies)]) -> String {
    let mut out = format!("  {:<44} {:>8} {:>10} {:>10} {:>10}\n", "", "count", "median", "99 %", "longest");
    for (name, times) in rows {
        let [median, p99, max] = [times.at(0.5), times.at(0.99), times.max()].map(readable);
        writeln!(out, "  {name:<44} {:>8} {median:>10} {p99:>10} {max:>10}", times.count())
            .expect("a string takes every text");
    }
    out
}

pub fn readable(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.2} ms")
    } else if millis < 1000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.1} s", millis / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_to_a_thousandth_and_the_longest_is_kept() {
        let times: Latencies = (1..=1000).map(Duration::from_millis).collect();
        let near = |is: Duration, wanted: u64| {
            let (is, wanted) = (is.as_secs_f64() * 1000.0, f64::from(u32::try_from(wanted).unwrap()));
            assert!((is - wanted).abs() <= wanted / 500.0, "{is} is not near {wanted}");
        };
        near(times.at(0.5), 500);
        near(times.at(0.99), 990);
        near(times.max(), 1000);
        assert_eq!((times.count(), Latencies::default().at(0.5)), (1000, Duration::ZERO));
        let hours: Latencies = [Duration::from_hours(5)].into_iter().collect();
        assert!(hours.max() > Duration::from_mins(17), "what is too long counts as very long");
    }
}
