//! Alarms: what CloudWatch keeps of one, and the state it is in.
//!
//! A metric alarm watches one metric, a composite alarm the states of others. What metrics there are, and how their
//! values come to be, is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alarm_rule::AlarmRule;
use crate::ids::Region;
use crate::state::State;
use crate::tags::Tags;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// An alarm's name in its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlarmId {
    /// The region.
    pub region: Region,
    /// 1 to 255 characters.
    pub name: String,
}

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AlarmState {
    /// The metric is as it should be.
    Ok,
    /// It is not.
    Alarm,
    /// There are no values to tell by.
    InsufficientData,
}

/// What a period's values are taken together as.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Statistic {
    /// How many there are.
    SampleCount,
    /// Their mean.
    Average,
    /// Their sum.
    Sum,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// So many percent of them are not above it: `p99.9`.
    Percentile(f64),
}

/// How a period's value is compared with the threshold; true is a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// `>=`
    GreaterThanOrEqual,
    /// `>`
    GreaterThan,
    /// `<`
    LessThan,
    /// `<=`
    LessThanOrEqual,
}

/// What a period without values counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MissingData {
    /// Nothing: without any value the state is INSUFFICIENT_DATA.
    #[default]
    Missing,
    /// Nothing: without any value the state stays.
    Ignore,
    /// A breach.
    Breaching,
    /// None.
    NotBreaching,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its name.
    pub id: AlarmId,
    /// What it watches.
    #[serde(flatten)]
    pub watched: Watched,
    /// Its state.
    pub state: AlarmState,
    /// Why, for people.
    pub state_reason: String,
    /// Why, as JSON.
    #[serde(default)]
    pub state_reason_data: Option<String>,
    /// Since when it has this reason.
    pub state_updated_at: Timestamp,
    /// Since when it has this state.
    pub state_transitioned_at: Timestamp,
    /// When it was last defined. An alarm that is defined anew looks only at values from then on.
    pub configured_at: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent: AlarmDescription, ActionsEnabled, the actions, Unit, DatapointsToAlarm.
    #[serde(default)]
    pub rest: JsonMap,
}

/// What an alarm watches. The members of both kinds lie side by side with the alarm's own, and tell them apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Watched {
    /// A metric.
    Metric(WatchedMetric),
    /// The states of other alarms.
    Alarms {
        /// When it is in ALARM.
        rule: AlarmRule,
    },
}

/// A metric, and when it is as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchedMetric {
    /// The metric's namespace: `AWS/ApplicationELB`.
    pub namespace: String,
    /// The metric: `RequestCount`.
    pub metric: String,
    /// What the metric is of: `TargetGroup` and `targetgroup/web/0123`.
    pub dimensions: BTreeMap<String, String>,
    /// What is made of a period's values.
    pub statistic: Statistic,
    /// Length of a period, in seconds. At least 1.
    pub period_s: u32,
    /// How many of the last periods are looked at. At least 1.
    pub evaluation_periods: u32,
    /// How many of them must breach. At least 1, at most `evaluation_periods`.
    pub datapoints_to_alarm: u32,
    /// What values are compared with.
    pub threshold: f64,
    /// How.
    pub comparison: Comparison,
    /// What periods without values count as.
    pub missing_data: MissingData,
}

/// Whether a namespace is one of those whose metrics are measured here, and which nobody else may put values into.
#[must_use]
pub fn is_measured(namespace: &str) -> bool {
    namespace.starts_with("AWS/") || namespace.starts_with("Coracle/")
}

impl WatchedMetric {
    /// How far back it looks, and one period more: the one under way when something happened was half over.
    #[must_use]
    pub fn looks_back(&self) -> Duration {
        Duration::from_secs(u64::from(self.period_s) * (u64::from(self.evaluation_periods) + 1))
    }
}

impl Comparison {
    /// Whether a value breaches a threshold.
    #[must_use]
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterThanOrEqual => value >= threshold,
            Self::GreaterThan => value > threshold,
            Self::LessThan => value < threshold,
            Self::LessThanOrEqual => value <= threshold,
        }
    }
}

impl Alarm {
    /// The metric it watches, if it watches one.
    #[must_use]
    pub fn metric(&self) -> Option<&WatchedMetric> {
        match &self.watched {
            Watched::Metric(metric) => Some(metric),
            Watched::Alarms { .. } => None,
        }
    }

    /// The rule about other alarms, if it watches these.
    #[must_use]
    pub fn rule(&self) -> Option<&AlarmRule> {
        match &self.watched {
            Watched::Metric(_) => None,
            Watched::Alarms { rule } => Some(rule),
        }
    }

    /// Puts it into a state at `now`, for a reason.
    pub fn enter(&mut self, state: AlarmState, reason: String, data: Option<String>, now: Timestamp) {
        if self.state != state {
            self.state_transitioned_at = now;
        }
        (self.state, self.state_reason, self.state_reason_data) = (state, reason, data);
        self.state_updated_at = now;
    }
}

impl State {
    /// The alarms of a region that have these names; those that are not there are left out.
    pub fn alarms_named<'a>(
        &'a self,
        region: &'a Region,
        names: &'a [String],
    ) -> impl Iterator<Item = &'a Alarm> + 'a {
        let ids = names.iter().map(|name| AlarmId { region: region.clone(), name: name.clone() });
        ids.filter_map(|id| self.alarms.get(&id)).map(|found| &*found.value)
    }

    /// How far back the farthest-looking of the metric alarms looks that stand behind these names, by whatever
    /// composite alarms. Zero if there is none.
    #[must_use]
    pub fn alarms_look_back(&self, region: &Region, names: &[String]) -> Duration {
        let mut left: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        let mut farthest = Duration::ZERO;
        while let Some(name) = left.pop() {
            // Composite alarms may watch one another in a circle.
            if !seen.insert(name) {
                continue;
            }
            let id = AlarmId { region: region.clone(), name: name.to_owned() };
            match self.alarms.get(&id).map(|found| &found.value.watched) {
                Some(Watched::Metric(metric)) => farthest = farthest.max(metric.looks_back()),
                Some(Watched::Alarms { rule }) => left.extend(rule.names()),
                None => {}
            }
        }
        farthest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Change, Record};

    fn alarm(name: &str, watched: Watched) -> Alarm {
        Alarm {
            id: AlarmId { region: "us-east-1".parse().unwrap(), name: name.to_owned() },
            watched,
            state: AlarmState::Ok,
            state_reason: String::new(),
            state_reason_data: None,
            state_updated_at: Timestamp(0),
            state_transitioned_at: Timestamp(0),
            configured_at: Timestamp(0),
            tags: Tags::default(),
            rest: JsonMap::new(),
        }
    }

    fn metric(period_s: u32, evaluation_periods: u32) -> Watched {
        Watched::Metric(WatchedMetric {
            namespace: "Shop".to_owned(),
            metric: "Errors".to_owned(),
            dimensions: BTreeMap::new(),
            statistic: Statistic::Percentile(99.9),
            period_s,
            evaluation_periods,
            datapoints_to_alarm: 1,
            threshold: 1.0,
            comparison: Comparison::GreaterThan,
            missing_data: MissingData::Missing,
        })
    }

    fn composite(rule: &str) -> Watched {
        Watched::Alarms { rule: rule.parse().unwrap() }
    }

    #[test]
    fn both_kinds_are_kept() {
        for watched in [metric(60, 3), composite("ALARM(a) AND NOT OK(b)")] {
            let alarm = alarm("a", watched);
            let kept = serde_json::to_string(&alarm).unwrap();
            assert_eq!(serde_json::from_str::<Alarm>(&kept).unwrap(), alarm, "{kept}");
        }
    }

    #[test]
    fn composite_alarms_look_as_far_back_as_those_they_watch() {
        let mut state = State::default();
        for alarm in [
            alarm("near", metric(10, 1)),
            alarm("far", metric(60, 2)),
            alarm("both", composite("ALARM(near) OR ALARM(circle)")),
            alarm("circle", composite("ALARM(far) OR ALARM(both) OR ALARM(nobody)")),
        ] {
            state.apply(&Change::Put(Record::from(alarm)), 1);
        }
        let region: Region = "us-east-1".parse().unwrap();
        let looks = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            state.alarms_look_back(&region, &names).as_secs()
        };
        assert_eq!(
            (looks(&[]), looks(&["near"]), looks(&["far", "near"]), looks(&["both"])),
            (0, 20, 180, 180)
        );
    }
}
