//! Alarms: reads what they watch, and writes the state they are in.
//!
//! ```text
//! every two seconds: what each measured metric reads now ─▶ its series of periods      series
//!                    what programs have sent of the others ─▶ its periods              stored
//! at the end of a period: the last periods ─▶ a state and why                          evaluate
//! the state of an alarm is another ─▶ the composite alarms that watch it               composite
//! the state is another ─▶ its record                                                   here
//! ```
//!
//! Readings come from a [`MetricSource`], values that were sent from [`MetricData`]; the room knows neither a router nor
//! tasks. Series are kept in memory, for as many periods as their alarm looks at: after a restart an alarm keeps the
//! state it had until there is something to tell by. SetAlarmState holds until the next period is over.

mod composite;
mod evaluate;
mod series;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coracle_metrics::MetricData;
use coracle_store::{CommitError, Store, TransactError, transact};
use coracle_types::alarm::is_measured;
use coracle_types::{Alarm, AlarmId, AlarmState, Changes, Region, State, Timestamp, WatchedMetric};
use tokio::sync::watch;

use self::composite::Rules;
use self::evaluate::evaluate;
use self::series::Series;
use self::stored::Stored;
use crate::stop::stopped;

/// How often metrics are read. What came between two readings counts for the period of the second.
const TICK: Duration = Duration::from_secs(2);

/// What a metric reads at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// How often something has happened since the process started. Each time is a value of 1.
    Count(f64),
    /// How much there is of something now: one value.
    Gauge(f64),
    /// All values since the process started.
    Histogram(Histogram),
}

/// Values by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Their sum.
    pub sum: f64,
    /// Upper bounds, ascending, and how many values are at most that large. The last bound is infinite, and its count
    /// the number of all.
    pub buckets: Vec<(f64, u64)>,
}

/// Reads metrics.
pub trait MetricSource: Send + Sync + 'static {
    /// What these metrics of regions read now, in their order; None for one that is not there.
    fn read(&self, metrics: &[(&Region, &WatchedMetric)]) -> Vec<Option<Reading>>;
}

/// Evaluates the alarms there are, until `shutdown` is true or its sender is gone.
pub async fn run(
    store: Arc<dyn Store>,
    source: Arc<dyn MetricSource>,
    data: Arc<MetricData>,
    clock: impl Fn() -> Timestamp + Send + Sync,
    mut shutdown: watch::Receiver<bool>,
) {
    let (mut watcher, mut rules) = (Watcher::default(), Rules::default());
    while !*shutdown.borrow() {
        let news = watcher.look(&store.snapshot(), &*source, &data, clock());
        let mut written = write(&*store, &news, clock()).await;
        if written.is_ok() {
            // Composite alarms see what has just been written.
            let news = rules.look(&store.snapshot());
            written = write(&*store, &news, clock()).await;
        }
        match written {
            Ok(()) | Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Closed) => return,
            Err(error) => tracing::error!(%error, "the states of alarms could not be written"),
        }
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// A state an alarm has come to.
#[derive(Clone, Debug, PartialEq)]
struct News {
    /// As which definition it was looked at.
    configured_at: Timestamp,
    state: AlarmState,
    reason: String,
    data: String,
}

/// What is known of all metrics that alarms watch.
#[derive(Default)]
struct Watcher {
    watched: HashMap<AlarmId, Watched>,
}

struct Watched {
    configured_at: Timestamp,
    values: Values,
}

/// Where an alarm's values come from.
enum Values {
    /// What is measured here, read by read.
    Measured(Series),
    /// What programs send.
    Sent(Stored),
}

impl Watcher {
    /// Looks at what alarms watch at `now`, and says which of them are in another state than they say.
    fn look(
        &mut self,
        state: &State,
        source: &dyn MetricSource,
        data: &MetricData,
        now: Timestamp,
    ) -> BTreeMap<AlarmId, News> {
        self.watched.retain(|id, _| state.alarms.contains_key(id));
        let alarms = state.alarms.values().map(|found| &*found.value);
        let (measured, sent): (Vec<_>, Vec<_>) = alarms
            .filter_map(|alarm| Some((alarm, alarm.metric()?)))
            .partition(|(_, metric)| is_measured(&metric.namespace));
        let mut news = BTreeMap::new();
        let readings = match measured.is_empty() {
            true => Vec::new(),
            false => {
                let metrics: Vec<_> =
                    measured.iter().map(|&(alarm, metric)| (&alarm.id.region, metric)).collect();
                source.read(&metrics)
            }
        };
        for ((alarm, metric), reading) in measured.into_iter().zip(readings) {
            let Values::Measured(series) = self.values(alarm, metric, now) else { continue };
            if series.read(reading, now) {
                let points = series.points(metric.statistic);
                news.extend(changed(alarm, evaluate(metric, &points, now)));
            }
        }
        for (alarm, metric) in sent {
            let Values::Sent(stored) = self.values(alarm, metric, now) else { continue };
            if let Some(points) = stored.look(data, &alarm.id.region, metric, now) {
                news.extend(changed(alarm, evaluate(metric, points, now)));
            }
        }
        news
    }

    /// What is known of an alarm's metric: nothing, if it is defined anew.
    fn values(&mut self, alarm: &Alarm, metric: &WatchedMetric, now: Timestamp) -> &mut Values {
        let new = || Watched {
            configured_at: alarm.configured_at,
            values: match is_measured(&metric.namespace) {
                true => Values::Measured(Series::new(metric.period_s, metric.evaluation_periods, now)),
                false => Values::Sent(Stored::default()),
            },
        };
        let watched = self.watched.entry(alarm.id.clone()).or_insert_with(new);
        if watched.configured_at != alarm.configured_at {
            *watched = new();
        }
        &mut watched.values
    }
}

/// The news that an alarm is in a state it was not in.
fn changed(alarm: &Alarm, found: Option<(AlarmState, String, String)>) -> Option<(AlarmId, News)> {
    let (state, reason, data) = found.filter(|(state, _, _)| *state != alarm.state)?;
    Some((alarm.id.clone(), News { configured_at: alarm.configured_at, state, reason, data }))
}

async fn write(store: &dyn Store, news: &BTreeMap<AlarmId, News>, now: Timestamp) -> Result<(), CommitError> {
    if news.is_empty() {
        return Ok(());
    }
    let written = transact(store, |state: &State| {
        let mut changes = Changes::new();
        for (id, news) in news {
            let Some(found) = state.alarms.get(id) else { continue };
            let mut alarm = Alarm::clone(&found.value);
            if alarm.configured_at == news.configured_at && alarm.state != news.state {
                tracing::info!("alarm {:?} is {:?}: {}", id.name, news.state, news.reason);
                alarm.enter(news.state, news.reason.clone(), Some(news.data.clone()), now);
                changes.put(alarm);
            }
        }
        Ok::<_, Infallible>((changes, ()))
    })
    .await;
    match written {
        Ok(_) => Ok(()),
        Err(TransactError::Store(error)) => Err(error),
        Err(TransactError::Refused(never)) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use coracle_store::MemoryStore;
    use coracle_types::alarm::{Comparison, MissingData, Statistic};
    use std::sync::Mutex;

    use super::*;

    fn alarm() -> Alarm {
        Alarm {
            id: AlarmId { region: "us-east-1".parse().unwrap(), name: "errors".to_owned() },
            watched: coracle_types::Watched::Metric(WatchedMetric {
                namespace: "AWS/ApplicationELB".to_owned(),
                metric: "HTTPCode_Target_5XX_Count".to_owned(),
                dimensions: BTreeMap::new(),
                statistic: Statistic::Sum,
                period_s: 10,
                evaluation_periods: 2,
                datapoints_to_alarm: 1,
                threshold: 5.0,
                comparison: Comparison::GreaterThan,
                missing_data: MissingData::NotBreaching,
            }),
            state: AlarmState::InsufficientData,
            state_reason: String::new(),
            state_reason_data: None,
            state_updated_at: Timestamp(0),
            state_transitioned_at: Timestamp(0),
            configured_at: Timestamp(0),
            tags: Default::default(),
            rest: Default::default(),
        }
    }

    /// A counter that tests turn.
    #[derive(Default)]
    struct Counter(Mutex<f64>);

    impl MetricSource for Counter {
        fn read(&self, metrics: &[(&Region, &WatchedMetric)]) -> Vec<Option<Reading>> {
            metrics.iter().map(|_| Some(Reading::Count(*self.0.lock().unwrap()))).collect()
        }
    }

    #[tokio::test]
    async fn an_alarm_goes_off_and_calms_down() {
        let store = MemoryStore::default();
        let mut changes = Changes::new();
        changes.put(alarm());
        store.commit(store.snapshot(), changes).await.unwrap();
        let (mut watcher, counter) = (Watcher::default(), Counter::default());
        let mut at = async |second: i64, count: f64| {
            *counter.0.lock().unwrap() = count;
            let now = Timestamp(second * 1000);
            let news = watcher.look(&store.snapshot(), &counter, &MetricData::new(now), now);
            write(&store, &news, now).await.unwrap();
            let state = store.snapshot();
            let alarm = Alarm::clone(&state.alarms.values().next().unwrap().value);
            (alarm.state, alarm.state_transitioned_at.as_millis() / 1000, alarm.state_reason)
        };
        assert_eq!(at(1, 100.0).await.0, AlarmState::InsufficientData, "what was before does not count");
        assert_eq!(at(9, 103.0).await.0, AlarmState::InsufficientData, "the period is not over");
        let (state, since, reason) = at(11, 103.0).await;
        assert_eq!((state, since), (AlarmState::Ok, 11), "{reason}");
        at(15, 109.0).await;
        let (state, since, reason) = at(21, 109.0).await;
        assert_eq!((state, since), (AlarmState::Alarm, 21));
        assert!(reason.contains("[3.0, 6.0] were greater than the threshold (5.0)"), "{reason}");
        assert_eq!(at(31, 109.0).await.0, AlarmState::Alarm, "one of the last two");
        assert_eq!(at(41, 109.0).await.0, AlarmState::Ok);
    }

    #[tokio::test]
    async fn a_definition_that_changed_meanwhile_keeps_its_state() {
        let store = MemoryStore::default();
        let mut changes = Changes::new();
        changes.put(Alarm { configured_at: Timestamp(7), ..alarm() });
        store.commit(store.snapshot(), changes).await.unwrap();
        let news = News {
            configured_at: Timestamp(0),
            state: AlarmState::Alarm,
            reason: "old".to_owned(),
            data: String::new(),
        };
        write(&store, &BTreeMap::from([(alarm().id, news)]), Timestamp(9)).await.unwrap();
        let state = store.snapshot();
        assert_eq!(state.alarms.values().next().unwrap().value.state, AlarmState::InsufficientData);
    }

    #[tokio::test]
    async fn values_that_were_sent_set_an_alarm_off_and_a_composite_one_with_it() {
        let store = MemoryStore::default();
        let mut own = alarm();
        let Some(metric) = own.metric().cloned() else { unreachable!("it watches a metric") };
        let metric = WatchedMetric { namespace: "Shop".to_owned(), evaluation_periods: 1, ..metric };
        let id = coracle_metrics::MetricId {
            region: own.id.region.clone(),
            namespace: metric.namespace.clone(),
            name: metric.metric.clone(),
            dimensions: BTreeMap::new(),
        };
        own.watched = coracle_types::Watched::Metric(metric);
        let rule = "ALARM(errors) AND NOT ALARM(maintenance)".parse().unwrap();
        let both = AlarmId { name: "both".to_owned(), ..own.id.clone() };
        let composite =
            Alarm { id: both.clone(), watched: coracle_types::Watched::Alarms { rule }, ..own.clone() };
        let mut changes = Changes::new();
        changes.put(own.clone());
        changes.put(composite);
        store.commit(store.snapshot(), changes).await.unwrap();

        let data = MetricData::new(Timestamp(0));
        let (mut watcher, mut rules) = (Watcher::default(), Rules::default());
        let mut states = async |second: i64| {
            let now = Timestamp(second * 1000);
            let news = watcher.look(&store.snapshot(), &Counter::default(), &data, now);
            write(&store, &news, now).await.unwrap();
            let news = rules.look(&store.snapshot());
            write(&store, &news, now).await.unwrap();
            let state = store.snapshot();
            (state.alarms[&own.id].value.state, Alarm::clone(&state.alarms[&both].value))
        };
        let send = |second: i64, value| {
            let at = Timestamp(second * 1000);
            let values = coracle_metrics::Values::of(value, 1.0);
            let datum = coracle_metrics::Datum { metric: id.clone(), at, values, unit: None };
            data.put(vec![datum], at).unwrap();
        };
        assert_eq!(states(2).await.0, AlarmState::InsufficientData);
        assert_eq!(states(4).await.1.state, AlarmState::Ok);
        send(5, 9.0);
        assert_eq!(states(9).await.0, AlarmState::InsufficientData, "the period is not over");
        let (own_state, both_now) = states(11).await;
        assert_eq!((own_state, both_now.state), (AlarmState::Alarm, AlarmState::Alarm));
        assert!(
            both_now.state_reason.starts_with("\"errors\" transitioned to ALARM at "),
            "{}",
            both_now.state_reason
        );
        assert_eq!(states(22).await.0, AlarmState::Alarm, "values may still be on their way");
        assert_eq!(states(26).await.0, AlarmState::Ok, "none has come");
        send(15, 7.0);
        assert_eq!(states(28).await.0, AlarmState::Alarm, "one that is late counts");
    }
}
