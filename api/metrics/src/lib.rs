//! Metrics of one's own: values that programs send with PutMetricData, for alarms and for whoever asks.
//!
//! Every value is added to three rows of periods: of 10 seconds, of a minute and of an hour. Each row is kept for a
//! while, so a metric takes so much memory and no more, however often values come; and a question is answered by the
//! finest row that reaches far enough back. Of the values in a period their number, sum and extremes are kept, not
//! each of them: there are no percentiles.
//!
//! ```text
//! 10 seconds  ▕▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏   the last three hours
//! a minute    ▕  ▏  ▏  ▏  ▏  ▏  ▏  …    the last day
//! an hour     ▕             ▏       …    the last week
//! ```
//!
//! All is in memory, and gone with the process. The room knows no clock, no wire and no alarms.

pub mod math;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_types::alarm::Statistic;
use coracle_types::{Region, Timestamp};
use parking_lot::Mutex;

/// How many metrics there can be. One that gets values every ten seconds takes about 100 KiB in the end.
pub const METRICS_MAX: usize = 1000;
/// How long a value is kept at least: as long as alarms can look back.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// How far ahead of now a value may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(2 * 3600);

/// A metric: the same name of something else is another metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId {
    /// Where it is.
    pub region: Region,
    /// Whose it is: `Shop`.
    pub namespace: String,
    /// `Errors`
    pub name: String,
    /// What it is of, by names.
    pub dimensions: BTreeMap<String, String>,
}

/// Values taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// How many there are; above 0.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Values {
    /// One value, so many times.
    #[must_use]
    pub fn of(value: f64, count: f64) -> Self {
        Self { count, sum: value * count, min: value, max: value }
    }

    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.sum += more.sum;
        self.min = self.min.min(more.min);
        self.max = self.max.max(more.max);
    }

    /// What a statistic makes of them; None for percentiles.
    #[must_use]
    pub fn statistic(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::SampleCount => Some(self.count),
            Statistic::Average => Some(self.sum / self.count),
            Statistic::Sum => Some(self.sum),
            Statistic::Minimum => Some(self.min),
            Statistic::Maximum => Some(self.max),
            Statistic::Percentile(_) => None,
        }
    }
}

/// What somebody sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Of which metric.
    pub metric: MetricId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub values: Values,
    /// In which unit: CloudWatch's names. The last one sent is the metric's.
    pub unit: Option<String>,
}

/// Why values are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There are as many metrics as there can be.
    #[error(
        "there are {METRICS_MAX} metrics already; one goes when no values have come for a week. Fewer different \
         dimensions make fewer metrics"
    )]
    Full,
    /// It is about a time for which nothing is kept.
    #[error("a value must be of the last week, or of the next two hours")]
    OutOfTime,
}

/// A row of periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    period_ms: i64,
    /// How many periods are kept.
    keeps: i64,
}

const ROWS: [Row; 3] = [
    Row { period_ms: 10_000, keeps: 1080 },
    Row { period_ms: 60_000, keeps: 1440 },
    Row { period_ms: 3_600_000, keeps: 168 },
];

/// The values of all metrics.
#[derive(Debug)]
pub struct MetricData {
    /// Since when values are taken. What was before is not known.
    since: Timestamp,
    metrics: Mutex<BTreeMap<MetricId, Metric>>,
}

#[derive(Debug, Default)]
struct Metric {
    unit: Option<String>,
    /// For each of [`ROWS`], the periods that have values, by their numbers since the Unix epoch.
    rows: [BTreeMap<i64, Values>; 3],
    /// The moment of the newest value.
    newest: Timestamp,
    /// How often values have come.
    version: u64,
}

impl MetricData {
    /// None yet, at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { since: now, metrics: Mutex::default() }
    }

    /// Since when values are taken.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Takes in all of these, or none.
    ///
    /// # Errors
    /// When there are too many metrics, or a value is of another time.
    pub fn put(&self, data: Vec<Datum>, now: Timestamp) -> Result<(), PutError> {
        let (oldest, latest) = (before(now, KEPT), now.after(AHEAD_MAX));
        if data.iter().any(|datum| datum.at < oldest || datum.at > latest) {
            return Err(PutError::OutOfTime);
        }
        let mut metrics = self.metrics.lock();
        let new = |metrics: &BTreeMap<MetricId, Metric>| {
            let mut new: Vec<&MetricId> = data.iter().map(|datum| &datum.metric).collect();
            new.sort_unstable();
            new.dedup();
            new.iter().filter(|id| !metrics.contains_key(id)).count()
        };
        if metrics.len() + new(&metrics) > METRICS_MAX {
            metrics.retain(|_, metric| metric.newest >= oldest);
            if metrics.len() + new(&metrics) > METRICS_MAX {
                return Err(PutError::Full);
            }
        }
        for datum in data {
            metrics.entry(datum.metric).or_default().add(datum.at, datum.values, datum.unit);
        }
        Ok(())
    }

    /// The metrics of a region that have values of the last week, in their order.
    #[must_use]
    pub fn list(&self, region: &Region, now: Timestamp) -> Vec<MetricId> {
        let oldest = before(now, KEPT);
        let metrics = self.metrics.lock();
        let those = metrics.iter().filter(|(id, metric)| id.region == *region && metric.newest >= oldest);
        those.map(|(id, _)| id.clone()).collect()
    }

    /// A metric's periods of `period_s` seconds, a multiple of 10, that begin within `from..until`, by when they
    /// begin. Those without values are left out. Periods begin at whole multiples of their length since the Unix epoch.
    #[must_use]
    pub fn periods(
        &self,
        metric: &MetricId,
        period_s: u32,
        from: Timestamp,
        until: Timestamp,
        now: Timestamp,
    ) -> BTreeMap<Timestamp, Values> {
        let period_ms = i64::from(period_s.max(1)) * 1000;
        let first = -(-from.as_millis()).div_euclid(period_ms);
        let metrics = self.metrics.lock();
        let mut found: BTreeMap<Timestamp, Values> = BTreeMap::new();
        let Some(metric) = metrics.get(metric) else { return found };
        let begin = first.saturating_mul(period_ms);
        let place = row_for(period_ms, begin, now);
        let row = ROWS[place];
        for (number, values) in metric.rows[place].range(begin.div_euclid(row.period_ms)..) {
            let start = (number * row.period_ms).div_euclid(period_ms) * period_ms;
            if start >= until.as_millis() {
                break;
            }
            match found.get_mut(&Timestamp(start)) {
                Some(together) => together.add(*values),
                None => {
                    found.insert(Timestamp(start), *values);
                }
            }
        }
        found
    }

    /// A metric's unit: the last one that was sent with its values.
    #[must_use]
    pub fn unit(&self, metric: &MetricId) -> Option<String> {
        self.metrics.lock().get(metric)?.unit.clone()
    }

    /// A number that is another one whenever values of a metric have come; 0 for one without values.
    #[must_use]
    pub fn version(&self, metric: &MetricId) -> u64 {
        self.metrics.lock().get(metric).map_or(0, |metric| metric.version)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.metrics.lock().clear();
    }
}

/// The place of the finest row that fits into periods of this length and reaches back to `begin`; else of the one that
/// fits and reaches farthest.
fn row_for(period_ms: i64, begin: i64, now: Timestamp) -> usize {
    let fits = |place: &usize| period_ms % ROWS[*place].period_ms == 0;
    let reaches = |place: &usize| {
        let row = ROWS[*place];
        begin.div_euclid(row.period_ms) > now.as_millis().div_euclid(row.period_ms) - row.keeps
    };
    let fitting = || (0..ROWS.len()).filter(fits);
    fitting().find(reaches).or_else(|| fitting().next_back()).unwrap_or_default()
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(now.as_millis().saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
}

impl Metric {
    fn add(&mut self, at: Timestamp, values: Values, unit: Option<String>) {
        self.newest = self.newest.max(at);
        self.version += 1;
        if unit.is_some() {
            self.unit = unit;
        }
        for (row, periods) in ROWS.iter().zip(&mut self.rows) {
            let number = at.as_millis().div_euclid(row.period_ms);
            let oldest = self.newest.as_millis().div_euclid(row.period_ms) - row.keeps;
            if number > oldest {
                periods.entry(number).and_modify(|together| together.add(values)).or_insert(values);
            }
            while periods.first_key_value().is_some_and(|(number, _)| *number <= oldest) {
                periods.pop_first();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole hour.
    const NOW: Timestamp = Timestamp(1_795_251_600_000);

    fn metric(name: &str) -> MetricId {
        MetricId {
            region: "us-east-1".parse().unwrap(),
            namespace: "Shop".to_owned(),
            name: name.to_owned(),
            dimensions: BTreeMap::new(),
        }
    }

    fn datum(name: &str, at: Timestamp, value: f64) -> Datum {
        Datum { metric: metric(name), at, values: Values::of(value, 1.0), unit: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(NOW.as_millis() + second * 1000)
    }

    #[test]
    fn values_are_taken_together_by_periods() {
        let data = MetricData::new(NOW);
        for (second, value) in [(-61, 1.0), (-60, 2.0), (-35, 6.0), (-1, 4.0), (0, 9.0)] {
            data.put(vec![datum("a", at(second), value)], NOW).unwrap();
        }
        let minutes = data.periods(&metric("a"), 60, at(-120), at(0), NOW);
        assert_eq!(minutes.keys().copied().collect::<Vec<_>>(), [at(-120), at(-60)]);
        let last = minutes[&at(-60)];
        assert_eq!(last, Values { count: 3.0, sum: 12.0, min: 2.0, max: 6.0 });
        let all = [Statistic::SampleCount, Statistic::Average, Statistic::Sum, Statistic::Minimum];
        assert_eq!(all.map(|one| last.statistic(one).unwrap()), [3.0, 4.0, 12.0, 2.0]);
        assert_eq!(last.statistic(Statistic::Percentile(99.0)), None);
        let fine = data.periods(&metric("a"), 10, at(-60), at(10), NOW);
        assert_eq!(fine.keys().copied().collect::<Vec<_>>(), [at(-60), at(-40), at(-10), at(0)]);
        let whole = data.periods(&metric("a"), 3600, at(-3599), at(1), NOW);
        assert_eq!(
            whole.keys().copied().collect::<Vec<_>>(),
            [at(0)],
            "an hour that began before is not within"
        );
        assert!(data.periods(&metric("b"), 60, at(-120), at(0), NOW).is_empty());
    }

    #[test]
    fn what_is_older_is_kept_coarser_and_in_the_end_not_at_all() {
        let data = MetricData::new(NOW);
        for hour in (-167..=0).rev() {
            data.put(vec![datum("a", at(hour * 3600 + 5), 1.0)], at(10))
                .unwrap_or_else(|error| panic!("{hour}: {error}"));
        }
        let count = |period_s, from| data.periods(&metric("a"), period_s, at(from), at(20), at(10)).len();
        assert_eq!(count(10, -3600), 2);
        assert_eq!(count(10, -10 * 3600), 3, "three hours of them are left");
        assert_eq!(count(60, -10 * 3600), 11);
        assert_eq!(count(60, -48 * 3600), 24, "and a day of these");
        assert_eq!(count(3600, -7 * 86_400), 168);
        // Rows do not grow with the number of values.
        for second in 0..20_000 {
            data.put(vec![datum("a", at(second), 1.0)], at(second)).unwrap();
        }
        let sizes = data.metrics.lock()[&metric("a")].rows.each_ref().map(BTreeMap::len);
        assert_eq!(sizes[0], 1080);
        assert!(sizes[1] <= 1440 && sizes[2] <= 168, "{sizes:?}");
    }

    #[test]
    fn values_of_other_times_are_refused() {
        let data = MetricData::new(NOW);
        assert_eq!(data.put(vec![datum("a", at(-8 * 86_400), 1.0)], NOW), Err(PutError::OutOfTime));
        assert_eq!(
            data.put(vec![datum("a", at(0), 1.0), datum("a", at(7201), 1.0)], NOW),
            Err(PutError::OutOfTime)
        );
        assert!(data.list(&metric("a").region, NOW).is_empty(), "all or none");
        assert_eq!(data.put(vec![datum("a", at(7200), 1.0)], NOW), Ok(()));
    }

    #[test]
    fn metrics_are_bounded_and_go_when_they_are_old() {
        let data = MetricData::new(NOW);
        let many = |from: usize, count: usize, at| {
            (from..from + count).map(|n| datum(&format!("m{n:04}"), at, 1.0)).collect::<Vec<_>>()
        };
        data.put(many(0, METRICS_MAX, NOW), NOW).unwrap();
        assert_eq!(data.put(many(0, 10, NOW), NOW), Ok(()), "those that are there");
        assert_eq!(data.put(many(METRICS_MAX, 1, NOW), NOW), Err(PutError::Full));
        let later = at(8 * 86_400);
        assert!(data.list(&metric("a").region, later).is_empty());
        assert_eq!(data.put(many(METRICS_MAX, 1, later), later), Ok(()));
        assert_eq!(data.metrics.lock().len(), 1);
        data.clear();
        assert!(data.list(&metric("a").region, later).is_empty());
    }
}
