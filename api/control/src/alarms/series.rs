//! What a metric was in each of the last periods; pure.
//!
//! Periods begin at whole multiples of their length since the Unix epoch, as CloudWatch's do; the first one counts from
//! where it was looked at. A period in which a counter did not move has no value.

use std::collections::VecDeque;

use coracle_types::Timestamp;
use coracle_types::alarm::Statistic;

use super::{Histogram, Reading};

/// A metric's last periods.
#[derive(Debug)]
pub(super) struct Series {
    period_ms: i64,
    keeps: usize,
    /// The number of the period that is under way.
    current: i64,
    open: Values,
    /// The last reading; None before the first, and after the metric was not there.
    last: Option<Reading>,
    /// The oldest first.
    over: VecDeque<Values>,
}

/// The values of one period.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    /// How many there are up to each bound, where their sizes are known no better.
    buckets: Vec<(f64, u64)>,
}

impl Series {
    pub(super) fn new(period_s: u32, keeps: u32, now: Timestamp) -> Self {
        let period_ms = i64::from(period_s.max(1)) * 1000;
        Self {
            period_ms,
            keeps: usize::try_from(keeps).unwrap_or(usize::MAX).max(1),
            current: now.as_millis().div_euclid(period_ms),
            open: Values::default(),
            last: None,
            over: VecDeque::new(),
        }
    }

    /// Takes in what the metric reads at `now`. Says whether a period is over with that.
    pub(super) fn read(&mut self, reading: Option<Reading>, now: Timestamp) -> bool {
        let period = now.as_millis().div_euclid(self.period_ms);
        let ended = period > self.current;
        if ended {
            self.over.push_back(std::mem::take(&mut self.open));
            // Periods in which nobody looked.
            let missed = usize::try_from(period - self.current - 1).unwrap_or(usize::MAX).min(self.keeps);
            self.over.extend(std::iter::repeat_n(Values::default(), missed));
            while self.over.len() > self.keeps {
                self.over.pop_front();
            }
            self.current = period;
        }
        match &reading {
            Some(Reading::Gauge(value)) => self.open.add(*value, 1.0),
            Some(now) => {
                if let Some(last) = &self.last {
                    self.open.grow(last, now);
                }
            }
            None => {}
        }
        self.last = reading;
        ended
    }

    /// The last periods that are over, the oldest first; None for one without a value.
    pub(super) fn points(&self, statistic: Statistic) -> Vec<Option<f64>> {
        self.over.iter().map(|values| values.statistic(statistic)).collect()
    }
}

impl Values {
    /// Adds a value, so many times.
    fn add(&mut self, value: f64, times: f64) {
        (self.min, self.max) = match self.count > 0.0 {
            true => (self.min.min(value), self.max.max(value)),
            false => (value, value),
        };
        self.count += times;
        self.sum += value * times;
    }

    /// Adds what has come between two readings. They are sums over what is there, a group of targets or a balancer: one
    /// that is smaller than before has lost some of it, and nothing is known to have come.
    fn grow(&mut self, before: &Reading, now: &Reading) {
        match (before, now) {
            (Reading::Count(before), Reading::Count(now)) => {
                let more = now - before;
                if more > 0.0 {
                    self.add(1.0, more);
                }
            }
            (Reading::Histogram(before), Reading::Histogram(now)) => self.grow_by(before, now),
            // The metric is of another kind than before: somebody gave its name to something else.
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 in one period")]
    fn grow_by(&mut self, before: &Histogram, now: &Histogram) {
        let same = before.buckets.len() == now.buckets.len()
            && before.buckets.iter().zip(&now.buckets).all(|(before, now)| before.1 <= now.1);
        if !same {
            return;
        }
        let earlier = |place: usize| before.buckets.get(place).map_or(0, |bucket| bucket.1);
        self.buckets.resize(now.buckets.len(), (0.0, 0));
        let (mut lower, mut below) = (0.0, 0);
        for (place, &(bound, count)) in now.buckets.iter().enumerate() {
            let upto = count - earlier(place);
            self.buckets[place] = (bound, self.buckets[place].1 + upto);
            if upto > below {
                // Somewhere in the bucket; its bounds are all that is known.
                let upper = if bound.is_finite() { bound } else { lower };
                let (min, max) = if self.count > 0.0 { (self.min, self.max) } else { (lower, upper) };
                (self.min, self.max) = (min.min(lower), max.max(upper));
                self.count += (upto - below) as f64;
            }
            (lower, below) = (bound, upto);
        }
        self.sum += now.sum - before.sum;
    }

    fn statistic(&self, statistic: Statistic) -> Option<f64> {
        (self.count > 0.0).then(|| match statistic {
            Statistic::SampleCount => self.count,
            Statistic::Average => self.sum / self.count,
            Statistic::Sum => self.sum,
            Statistic::Minimum => self.min,
            Statistic::Maximum => self.max,
            Statistic::Percentile(percent) => self.percentile(percent),
        })
    }

    /// By the straight line through the bucket it is in, as Prometheus does it; between the extremes where there are
    /// no buckets.
    #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 in one period")]
    fn percentile(&self, percent: f64) -> f64 {
        let share = (percent / 100.0).clamp(0.0, 1.0);
        let rank = share * self.count;
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            let upto = count as f64;
            if upto >= rank && upto > below {
                if bound.is_infinite() {
                    return lower;
                }
                return lower + (bound - lower) * ((rank - below) / (upto - below)).clamp(0.0, 1.0);
            }
            (lower, below) = (bound, upto);
        }
        self.min + (self.max - self.min) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    #[test]
    fn counters_are_what_has_come_since() {
        let mut series = Series::new(10, 3, at(5));
        assert!(!series.read(Some(Reading::Count(100.0)), at(5)));
        assert!(!series.read(Some(Reading::Count(104.0)), at(8)));
        assert!(series.read(Some(Reading::Count(105.0)), at(11)), "a period is over");
        assert_eq!(series.points(Statistic::Sum), [Some(4.0)]);
        series.read(Some(Reading::Count(2.0)), at(15));
        series.read(Some(Reading::Count(2.0)), at(21));
        assert_eq!(series.points(Statistic::Sum), [Some(4.0), Some(1.0)], "what is gone tells nothing");
        assert_eq!(series.points(Statistic::Average)[1], Some(1.0));
        series.read(Some(Reading::Count(2.0)), at(65));
        assert_eq!(series.points(Statistic::Sum), [None, None, None], "nobody looked");
        series.read(None, at(71));
        series.read(Some(Reading::Count(50.0)), at(75));
        series.read(Some(Reading::Count(51.0)), at(81));
        assert_eq!(series.points(Statistic::Sum)[2], None, "it was not there before");
    }

    #[test]
    fn gauges_are_values() {
        let mut series = Series::new(10, 2, at(0));
        for (second, value) in [(1, 4.0), (3, 2.0), (5, 6.0), (11, 9.0)] {
            series.read(Some(Reading::Gauge(value)), at(second));
        }
        let all = [Statistic::SampleCount, Statistic::Average, Statistic::Minimum, Statistic::Maximum];
        assert_eq!(all.map(|one| series.points(one)[0]), [Some(3.0), Some(4.0), Some(2.0), Some(6.0)]);
    }

    #[test]
    fn histograms_have_percentiles() {
        let histogram = |sum, counts: [u64; 3]| {
            let bounds = [0.1, 1.0, f64::INFINITY];
            Some(Reading::Histogram(Histogram { sum, buckets: bounds.into_iter().zip(counts).collect() }))
        };
        let mut series = Series::new(10, 2, at(0));
        series.read(histogram(5.0, [5, 5, 5]), at(1));
        series.read(histogram(10.0, [5, 95, 105]), at(5));
        series.read(histogram(10.0, [5, 95, 105]), at(11));
        let value = |statistic| series.points(statistic)[0].unwrap();
        assert_eq!(value(Statistic::SampleCount), 100.0);
        assert_eq!(value(Statistic::Average), 0.05);
        assert!((value(Statistic::Percentile(50.0)) - 0.6).abs() < 1e-9);
        assert_eq!(value(Statistic::Percentile(99.0)), 1.0, "beyond the last bound nothing is known");
        assert_eq!((value(Statistic::Minimum), value(Statistic::Maximum)), (0.1, 1.0));
    }
}
