//! Numbers of several rounds: medians, spreads, and latencies without a list of every one. Pure.

use std::time::Duration;

/// One number a round, in the order of the rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// The middle value; NaN of no rounds, which prints as a dash.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Round by round, since neighbours in time saw the same machine.
    pub(crate) fn ratio_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Values below this have a bucket each.
const EXACT_BELOW: u64 = 64;
const EXACT_BITS: u32 = EXACT_BELOW.trailing_zeros();
/// Steps in which each power of two above is divided: a value is known to 3 %.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// About eighteen minutes in microseconds; longer ones count as that.
const MICROSECONDS_MAX: u64 = (1 << 30) - 1;

/// A histogram of latencies in microseconds, exact to 3 %.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<u32>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(MICROSECONDS_MAX) + 1], count: 0 }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(MICROSECONDS_MAX);
        self.buckets[bucket(microseconds)] += 1;
        self.count += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, added) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += added;
        }
        self.count += other.count;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency in milliseconds that `share` of all are not above; NaN of none.
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds are far below 2^52")]
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        let wanted = share * self.count as f64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if *count > 0 && seen as f64 >= wanted {
                return lowest_of(index) as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}

fn bucket(microseconds: u64) -> usize {
    let index = if microseconds < EXACT_BELOW {
        microseconds
    } else {
        let power = microseconds.ilog2();
        let step = (microseconds >> (power - STEP_BITS)) & (STEPS - 1);
        EXACT_BELOW + u64::from(power - EXACT_BITS) * STEPS + step
    };
    usize::try_from(index).expect("there are under a thousand buckets")
}

fn lowest_of(bucket: usize) -> u64 {
    let index = bucket as u64;
    if index < EXACT_BELOW {
        return index;
    }
    let (power, step) = ((index - EXACT_BELOW) / STEPS, (index - EXACT_BELOW) % STEPS);
    (STEPS + step) << (power + u64::from(EXACT_BITS - STEP_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_the_middle_two() {
        assert!((Series(vec![4.0, 1.0, 3.0, 2.0]).median() - 2.5).abs() < 1e-9);
        assert!((Series(vec![9.0, 1.0, 3.0]).median() - 3.0).abs() < 1e-9);
        assert!(Series::default().median().is_nan());
    }

    #[test]
    fn a_ratio_compares_rounds_that_were_neighbours() {
        let ratio = Series(vec![2.0, 9.0]).ratio_to(&Series(vec![1.0, 3.0]));
        assert_eq!(ratio, Series(vec![2.0, 3.0]));
        assert!((ratio.min() - 2.0).abs() < 1e-9 && (ratio.max() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn every_latency_falls_into_a_bucket_at_most_three_percent_below_it() {
        let mut last = 0;
        for microseconds in (0..200_000).chain([MICROSECONDS_MAX]) {
            let index = bucket(microseconds);
            let low = lowest_of(index);
            assert!(
                low <= microseconds && (microseconds - low) * 32 <= microseconds,
                "{microseconds}: {low}"
            );
            assert!(index >= last, "buckets are in order");
            last = index;
        }
    }

    #[test]
    fn percentiles_of_one_to_a_thousand_are_what_they_should_be() {
        let mut latencies = Latencies::default();
        for milliseconds in 1..=1000 {
            latencies.add(Duration::from_millis(milliseconds));
        }
        assert!((latencies.percentile_ms(0.5) / 500.0 - 1.0).abs() < 0.032);
        assert!((latencies.percentile_ms(0.99) / 990.0 - 1.0).abs() < 0.032);
        let mut twice = latencies.clone();
        twice.merge(&latencies);
        assert_eq!(twice.count(), 2000);
        assert!(Latencies::default().percentile_ms(0.5).is_nan());
    }
}
