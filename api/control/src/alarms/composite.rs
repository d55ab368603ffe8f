//! Composite alarms: the states of others, and a rule about them.
//!
//! A rule is looked at when the state of an alarm in it has changed, and when it is new; so what SetAlarmState says holds
//! until then.

use std::collections::{BTreeMap, HashMap};

use coracle_types::{Alarm, AlarmId, AlarmState, State, Timestamp};
use serde_json::json;

use super::{News, changed};

/// What was seen of all composite alarms.
#[derive(Default)]
pub(super) struct Rules {
    seen: HashMap<AlarmId, Seen>,
}

/// As which definition an alarm was looked at, and the states of those it watches, by their names.
type Seen = (Timestamp, Vec<Option<AlarmState>>);

impl Rules {
    /// Which composite alarms are in another state than they say.
    pub(super) fn look(&mut self, state: &State) -> BTreeMap<AlarmId, News> {
        self.seen.retain(|id, _| state.alarms.contains_key(id));
        let mut news = BTreeMap::new();
        for found in state.alarms.values() {
            let alarm = &*found.value;
            let Some(rule) = alarm.rule() else { continue };
            let child = |name: &str| {
                let id = AlarmId { region: alarm.id.region.clone(), name: name.to_owned() };
                state.alarms.get(&id).map(|found| &*found.value)
            };
            let children: Vec<Option<&Alarm>> = rule.names().into_iter().map(child).collect();
            let now =
                (alarm.configured_at, children.iter().map(|child| Some(child.as_ref()?.state)).collect());
            let before = self.seen.insert(alarm.id.clone(), now);
            if before.as_ref() == self.seen.get(&alarm.id) {
                continue;
            }
            let holds = rule.holds(&|name| child(name).map(|alarm| alarm.state));
            let state = if holds { AlarmState::Alarm } else { AlarmState::Ok };
            let (reason, data) = why(&children);
            news.extend(changed(alarm, Some((state, reason, data))));
        }
        news
    }
}

/// The reason for people, and as JSON: whichever of those it watches has changed last.
fn why(children: &[Option<&Alarm>]) -> (String, String) {
    let last = children.iter().flatten().max_by_key(|alarm| alarm.state_transitioned_at);
    let Some(last) = last else {
        let reason = "The rule is about no alarm that is there.".to_owned();
        return (reason, json!({ "triggeringAlarms": [] }).to_string());
    };
    let state = match last.state {
        AlarmState::Ok => "OK",
        AlarmState::Alarm => "ALARM",
        AlarmState::InsufficientData => "INSUFFICIENT_DATA",
    };
    let at = last.state_transitioned_at.iso8601();
    let data = json!({
        "triggeringAlarms": [{ "name": last.id.name, "state": { "value": state, "timestamp": at } }],
    });
    (format!("{:?} transitioned to {state} at {at}.", last.id.name), data.to_string())
}
