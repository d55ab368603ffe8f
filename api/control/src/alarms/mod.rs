//! Alarms: reads what they watch, and writes the state they are in.
//!
//! ```text
//! every two seconds: what each alarm's metric reads now ─▶ its series of periods      series
//! at the end of a period: the last periods ─▶ a state and why                         evaluate
//! the state is another ─▶ its record                                                  here
//! ```
//!
//! Readings come from a [`MetricSource`]; the room knows neither a router nor tasks. Series are kept in memory, for as
//! many periods as their alarm looks at: after a restart an alarm keeps the state it had until there is something to
//! tell by. SetAlarmState holds until the next period is over.

mod evaluate;
mod series;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{CommitError, Store, TransactError, transact};
use coracle_types::{Alarm, AlarmId, AlarmState, Changes, State, Timestamp};
use tokio::sync::watch;

use self::evaluate::evaluate;
use self::series::Series;
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
    /// What the metrics of these alarms read now, in their order; None for one that is not there.
    fn read(&self, alarms: &[&Alarm]) -> Vec<Option<Reading>>;
}

/// Evaluates the alarms there are, until `shutdown` is true or its sender is gone.
pub async fn run(
    store: Arc<dyn Store>,
    source: Arc<dyn MetricSource>,
    clock: impl Fn() -> Timestamp + Send + Sync,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut watcher = Watcher::default();
    while !*shutdown.borrow() {
        let state = store.snapshot();
        let news = watcher.look(&state, &*source, clock());
        drop(state);
        if !news.is_empty() {
            match write(&*store, &news, clock()).await {
                Ok(()) | Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Closed) => return,
                Err(error) => tracing::error!(%error, "the states of alarms could not be written"),
            }
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

/// The series of all alarms.
#[derive(Default)]
struct Watcher {
    series: HashMap<AlarmId, Watched>,
}

struct Watched {
    configured_at: Timestamp,
    series: Series,
}

impl Watcher {
    /// Reads what alarms watch at `now`, and says which of them are in another state than they say.
    fn look(&mut self, state: &State, source: &dyn MetricSource, now: Timestamp) -> BTreeMap<AlarmId, News> {
        self.series.retain(|id, _| state.alarms.contains_key(id));
        let alarms: Vec<&Alarm> = state.alarms.values().map(|found| &*found.value).collect();
        if alarms.is_empty() {
            return BTreeMap::new();
        }
        let mut news = BTreeMap::new();
        for (alarm, reading) in alarms.iter().zip(source.read(&alarms)) {
            let watched = self.series.entry(alarm.id.clone()).or_insert_with(|| Watched::of(alarm, now));
            if watched.configured_at != alarm.configured_at {
                *watched = Watched::of(alarm, now);
            }
            if !watched.series.read(reading, now) {
                continue;
            }
            let points = watched.series.points(alarm.statistic);
            if let Some((state, reason, data)) = evaluate(alarm, &points, now)
                && state != alarm.state
            {
                let configured_at = alarm.configured_at;
                news.insert(alarm.id.clone(), News { configured_at, state, reason, data });
            }
        }
        news
    }
}

impl Watched {
    fn of(alarm: &Alarm, now: Timestamp) -> Self {
        let series = Series::new(alarm.period_s, alarm.evaluation_periods, now);
        Self { configured_at: alarm.configured_at, series }
    }
}

async fn write(store: &dyn Store, news: &BTreeMap<AlarmId, News>, now: Timestamp) -> Result<(), CommitError> {
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
        fn read(&self, alarms: &[&Alarm]) -> Vec<Option<Reading>> {
            alarms.iter().map(|_| Some(Reading::Count(*self.0.lock().unwrap()))).collect()
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
            let news = watcher.look(&store.snapshot(), &counter, now);
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
}
