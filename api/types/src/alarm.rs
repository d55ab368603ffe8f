//! Alarms: what CloudWatch keeps of one, and the state it is in.
//!
//! An alarm watches one metric. What metrics there are, and how their values come to be, is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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

/// An alarm on a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its name.
    pub id: AlarmId,
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
    /// How far back it looks.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.period_s) * u64::from(self.evaluation_periods))
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
}
