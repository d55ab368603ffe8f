//! The arithmetic of measurements: distributions that keep their tails, medians, and the spread of turns.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Times of single events, exact to three digits from a nanosecond to an hour, whatever their number.
///
/// Record each time from the moment the event was *due*, not from the moment somebody got round to it; then a stall
/// counts for all it held up, and there is no coordinated omission.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

/// The longest that can be told apart: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Self(histogram.expect("bounds and digits are within what the library takes"))
    }
}

impl Times {
    /// Counts one event. What took longer than an hour counts as an hour.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
    }

    /// Counts the events of another one too.
    pub fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of the events did not exceed, in seconds; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        nanos(self.0.value_at_quantile(share))
    }

    /// The median, in seconds.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What a report keeps of them.
    #[must_use]
    pub fn summary(&self) -> Percentiles {
        Percentiles {
            n: self.count(),
            min: if self.0.is_empty() { 0.0 } else { nanos(self.0.min()) },
            p50: self.median(),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: nanos(self.0.max()),
        }
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut all = Self::default();
        times.into_iter().for_each(|time| all.record(time));
        all
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are exact, a float has fifteen")]
fn nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A distribution of times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Events.
    pub n: u64,
    /// The shortest.
    pub min: f64,
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1000 took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The middle one of some figures; between two, the mean of them. `None` of none, or if one is not a number.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    if figures.is_empty() || figures.iter().any(|figure| figure.is_nan()) {
        return None;
    }
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    })
}

/// The least and the greatest of some figures.
#[must_use]
pub fn spread(figures: &[f64]) -> Option<(f64, f64)> {
    let least = figures.iter().copied().min_by(f64::total_cmp)?;
    let greatest = figures.iter().copied().max_by(f64::total_cmp)?;
    Some((least, greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left / right - 1.0).abs() < 0.002
    }

    #[test]
    fn percentiles_are_those_of_the_events() {
        let times: Times = (1..=1000).map(Duration::from_micros).collect();
        let summary = times.summary();
        assert_eq!(summary.n, 1000);
        for (is, should) in [
            (summary.min, 1e-6),
            (summary.p50, 500e-6),
            (summary.p90, 900e-6),
            (summary.p99, 990e-6),
            (summary.p999, 999e-6),
            (summary.max, 1000e-6),
        ] {
            assert!(close(is, should), "{is} is not {should}");
        }
    }

    #[test]
    fn three_digits_hold_from_nanoseconds_to_minutes() {
        for time in [Duration::from_nanos(123), Duration::from_micros(45_678), Duration::from_secs(1234)] {
            let times: Times = [time].into_iter().collect();
            assert!(close(times.median(), time.as_secs_f64()), "{time:?}: {}", times.median());
        }
    }

    #[test]
    fn too_long_counts_as_longest_instead_of_being_lost() {
        let times: Times = [Duration::from_secs(100_000)].into_iter().collect();
        assert_eq!(times.count(), 1);
        assert!(close(times.median(), 3600.0));
    }

    #[test]
    fn added_distributions_are_one() {
        let mut fast: Times = [Duration::from_millis(1); 90].into_iter().collect();
        let slow: Times = [Duration::from_millis(100); 10].into_iter().collect();
        fast.add(&slow);
        assert_eq!(fast.count(), 100);
        assert!(close(fast.quantile(0.9), 1e-3));
        assert!(close(fast.quantile(0.91), 100e-3));
    }

    #[test]
    fn a_stall_counts_for_all_that_were_due() {
        // Due every millisecond, served at once but for a stall of 100 ms: measured from when each was due.
        let begun = Duration::ZERO;
        let due = |event: u32| begun + Duration::from_millis(1) * event;
        let served = |event: u32| if event < 100 { begun + Duration::from_millis(100) } else { due(event) };
        let times: Times = (0..200).map(|event| served(event).saturating_sub(due(event))).collect();
        assert!(times.quantile(0.75) > 0.045, "half of the events waited: {}", times.quantile(0.75));
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Times::default().summary().n, 0);
        assert_eq!(Times::default().summary().min, 0.0);
        assert_eq!(median(&[]), None);
        assert_eq!(spread(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
    }
}
