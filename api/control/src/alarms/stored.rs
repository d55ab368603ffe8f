//! The last periods of a metric whose values programs send.

use coracle_metrics::{MetricData, MetricId};
use coracle_types::{Region, Timestamp, WatchedMetric};

/// For how long after its end a period without values is waited for: programs send what they have counted every now and
/// then, and not at once.
const LATE_MS: i64 = 5000;

/// What was seen of it last.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By what it is told whether there can be anything new; None before the first look.
    seen: Option<Seen>,
    /// The number of the period after those in `points`.
    current: i64,
    points: Vec<Option<f64>>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    /// The number of the period under way.
    period: i64,
    /// Whether values of the one before are still waited for.
    waits: bool,
    /// Of what had come of the metric.
    version: u64,
}

impl Stored {
    /// The last periods that are over at `now`, the oldest first, if a period is over or one of them has another value
    /// than at the last look. Periods of which nothing can be known, because values were not taken then, are left out.
    pub(super) fn look(
        &mut self,
        data: &MetricData,
        region: &Region,
        metric: &WatchedMetric,
        now: Timestamp,
    ) -> Option<&[Option<f64>]> {
        let id = MetricId {
            region: region.clone(),
            namespace: metric.namespace.clone(),
            name: metric.metric.clone(),
            dimensions: metric.dimensions.clone(),
        };
        let period_ms = i64::from(metric.period_s.max(1)) * 1000;
        let begin = |number: i64| Timestamp(number.saturating_mul(period_ms));
        let period = now.as_millis().div_euclid(period_ms);
        let waits = now.as_millis() < begin(period).as_millis() + LATE_MS;
        let seen = Seen { period, waits, version: data.version(&id) };
        if self.seen.as_ref() == Some(&seen) {
            return None;
        }
        let is_first = self.seen.replace(seen).is_none();
        let looks = i64::from(metric.evaluation_periods);
        let found = data.periods(&id, metric.period_s, begin(period - looks - 1), begin(period), now);
        let current = if waits && !found.contains_key(&begin(period - 1)) { period - 1 } else { period };
        let known = data.since().as_millis().div_euclid(period_ms) + 1;
        let earliest = found.keys().next().map_or(i64::MAX, |at| at.as_millis().div_euclid(period_ms));
        let first = (current - looks).max(known.min(earliest));
        let value = |number| found.get(&begin(number)).and_then(|values| values.statistic(metric.statistic));
        let points: Vec<Option<f64>> = (first..current).map(value).collect();
        if points.is_empty() || !is_first && self.current == current && self.points == points {
            return None;
        }
        (self.current, self.points) = (current, points);
        Some(&self.points)
    }
}
