//! Planning again and again: what has no reason to change is not looked at.
//!
//! A [`Planner`] remembers at which revision it looked last. The state's journal says which records have changed
//! since, and these say whom to look at again:
//!
//! ```text
//! a task                       its service
//! a STOPPED task               also everything that waits for room
//! a service, its deployment    that service
//! an alarm                     the services that watch it
//! a task definition            everything that waits for room (or for the definition); all definitions, if this one is
//!                              to be deleted
//! a target group               the services whose tasks are registered in it
//! a listener, a rule           the services that shift traffic
//! a node, a capacity provider  everything
//! time                         the services that asked to be woken
//! ```
//!
//! A plan that was never committed is no loss: whoever it was about stays on the list until a plan about them has
//! nothing to change. A planner that has not looked for so long that the journal has forgotten looks at everything.

use std::collections::{BTreeMap, BTreeSet};

use coracle_types::{
    JsonMap, Key, LastStatus, ServiceId, ServiceLoadBalancer, State, Task, TaskDefinitionStatus, Timestamp,
};

use crate::alarms;
use crate::plan::{Pass, Plan};
use crate::retention::{self, RetentionPolicy};
use crate::rng::PlanRng;

/// Whom to look at.
#[derive(Clone, Debug, Default)]
struct Scope {
    everything: bool,
    services: BTreeSet<ServiceId>,
    /// Whether something was given back, or is there for the first time.
    room: bool,
    /// Whether tasks may wait for a node.
    waiting: bool,
    /// Whether task definitions may be waiting to be deleted.
    definitions: bool,
}

impl Scope {
    fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.services.extend(other.services);
        self.room |= other.room;
        self.waiting |= other.waiting;
        self.definitions |= other.definitions;
    }

    /// Adds whom a changed record concerns.
    fn note(&mut self, state: &State, key: &Key) {
        match key {
            Key::Task(key) => match state.tasks.get(key).map(|found| &*found.value) {
                Some(task) => self.task(task),
                None => self.room = true,
            },
            Key::Service(id) => {
                self.services.insert(id.clone());
            }
            Key::ServiceDeployment(id) => {
                self.services.insert(id.service.clone());
            }
            Key::Alarm(id) => {
                let alarm = state.alarms.get(id).map(|found| &*found.value);
                self.services
                    .extend(alarm.into_iter().flat_map(|one| alarms::watched_by(state, one)).cloned());
            }
            Key::TaskDefinition(id) => {
                // All of them are gone through for those to be deleted: not for each that is registered.
                self.definitions |= state
                    .task_definitions
                    .get(id)
                    .is_some_and(|found| found.value.status == TaskDefinitionStatus::DeleteInProgress);
                self.room = true;
            }
            Key::TargetGroup(id) => {
                self.balanced(state, |rest| ServiceLoadBalancer::any_has_group(rest, id));
            }
            Key::Listener(_) | Key::Rule(_) => self.balanced(state, ServiceLoadBalancer::any_shifts),
            Key::Node(_) | Key::CapacityProvider(_) => self.everything = true,
            _ => {}
        }
    }

    /// Adds the services that have, or of which a task set has, such load balancers among the members kept as sent.
    fn balanced(&mut self, state: &State, such: impl Fn(&JsonMap) -> bool) {
        let services = state.services.values().map(|found| &*found.value);
        let concerned =
            services.filter(|one| such(&one.rest) || one.task_sets.iter().any(|set| such(&set.rest)));
        self.services.extend(concerned.map(|service| service.id.clone()));
    }

    fn task(&mut self, task: &Task) {
        if let Some(name) = task.service() {
            self.services.insert(ServiceId { cluster: task.cluster.clone(), name: name.clone() });
        }
        match task.last_status {
            LastStatus::Stopped => self.room = true,
            LastStatus::Provisioning => self.waiting = true,
            _ => {}
        }
    }
}

/// Makes one plan after the other.
#[derive(Debug)]
pub struct Planner {
    rng: PlanRng,
    /// The revision that was looked at last; None before the first.
    seen: Option<u64>,
    /// Whom the last plan was about, if it had something to change.
    unsettled: Scope,
    /// Who asked to be woken, and when.
    wakes: BTreeMap<ServiceId, Timestamp>,
    /// Who would do more if there were room.
    short: BTreeSet<ServiceId>,
    /// When something that is over may have to be forgotten.
    sweep_at: Timestamp,
    /// Whether there are task definitions to be deleted once nothing refers to them.
    deleting: bool,
}

impl Planner {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(rng: PlanRng) -> Self {
        Self {
            rng,
            seen: None,
            unsettled: Scope::default(),
            wakes: BTreeMap::new(),
            short: BTreeSet::new(),
            sweep_at: Timestamp(i64::MIN),
            deleting: false,
        }
    }

    /// Decides what should change in `state` at `now`: the same as [`crate::plan()`], in a time in proportion to
    /// what has changed since the last time.
    #[must_use]
    pub fn plan(&mut self, state: &State, now: Timestamp) -> Plan {
        let scope = self.scope(state, now);
        let mut pass = Pass::new(state, now, &mut self.rng);
        if scope.everything {
            self.wakes.clear();
            self.short.clear();
            pass.lose_tasks();
        }
        if scope.everything || scope.room || scope.waiting {
            pass.place_waiting();
        }
        let look_at: Vec<&ServiceId> =
            if scope.everything { state.services.keys().collect() } else { scope.services.iter().collect() };
        for id in look_at {
            let waits = pass.service(id);
            match waits.until {
                Some(at) => self.wakes.insert(id.clone(), at),
                None => self.wakes.remove(id),
            };
            if waits.for_room {
                self.short.insert(id.clone())
            } else {
                self.short.remove(id)
            };
        }
        if scope.everything {
            pass.stop_orphans();
        }
        if self.sweep_at <= now || retention::is_surplus(state, &RetentionPolicy::DEFAULT) {
            let next = retention::sweep(&mut pass);
            // What ends from now on is kept for at least this long.
            let newest = now.after(RetentionPolicy::DEFAULT.shortest());
            self.sweep_at = next.map_or(newest, |next| next.min(newest));
        }
        if scope.everything || scope.definitions || self.deleting {
            self.deleting = retention::forget_definitions(&mut pass);
        }
        pass.wake_at(self.sweep_at);
        if let Some(&at) = self.wakes.values().min() {
            pass.wake_at(at);
        }
        let plan = pass.finish();
        self.seen = Some(state.revision);
        self.unsettled = if plan.changes.is_empty() { Scope::default() } else { scope };
        plan
    }

    fn scope(&mut self, state: &State, now: Timestamp) -> Scope {
        let mut scope = std::mem::take(&mut self.unsettled);
        match self.seen.and_then(|seen| state.changed_since(seen)) {
            Some(changed) => {
                let mut news = Scope::default();
                changed.for_each(|key| news.note(state, key));
                scope.add(news);
            }
            None => scope.everything = true,
        }
        let due = self.wakes.iter().filter(|(_, at)| **at <= now);
        scope.services.extend(due.map(|(id, _)| id.clone()));
        if scope.room {
            scope.services.extend(self.short.iter().cloned());
        }
        scope
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::elb::{ElbArn, ElbNumber, ListenerId, LoadBalancerId, TargetGroupId};
    use coracle_types::{AccountId, TaskDefinition};
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::harness::{Harness, definition, definition_id};

    #[test]
    fn a_new_task_definition_is_no_reason_to_go_through_all_of_them() {
        let mut harness = Harness::new();
        let scope = |harness: &Harness| {
            let mut scope = Scope::default();
            scope.note(&harness.state, &Key::TaskDefinition(definition_id(1)));
            (scope.definitions, scope.room, scope.everything)
        };
        harness.put(definition(1));
        assert_eq!(scope(&harness), (false, true, false));
        harness.put(TaskDefinition { status: TaskDefinitionStatus::DeleteInProgress, ..definition(1) });
        assert_eq!(scope(&harness), (true, true, false));
        harness.delete(Key::TaskDefinition(definition_id(1)));
        assert_eq!(scope(&harness), (false, true, false));
    }

    #[test]
    fn a_change_to_load_balancing_concerns_the_services_that_name_it() {
        let group = |number| TargetGroupId {
            region: "us-east-1".parse().unwrap(),
            name: "web".parse().unwrap(),
            number: ElbNumber(number),
        };
        let arn = |number| ElbArn::new(AccountId::default(), group(number)).to_string();
        let mut harness = Harness::new();
        harness.create("plain", 0, 1);
        for (name, advanced) in [
            ("rolling", Value::Null),
            ("shifting", json!({"alternateTargetGroupArn": arn(2), "productionListenerRule": "r"})),
        ] {
            harness.create_with(name, 0, 1, |service| {
                let mut balancer = json!({"targetGroupArn": arn(1)});
                if !advanced.is_null() {
                    balancer["advancedConfiguration"] = advanced;
                }
                service.rest.insert("loadBalancers".to_owned(), json!([balancer]));
            });
        }
        let concerned = |key: Key| {
            let mut scope = Scope::default();
            scope.note(&harness.state, &key);
            assert!(!scope.everything);
            scope.services.iter().map(|id| id.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(concerned(Key::TargetGroup(group(1))), ["rolling", "shifting"]);
        assert_eq!(concerned(Key::TargetGroup(group(2))), ["shifting"]);
        assert_eq!(concerned(Key::TargetGroup(group(3))), [""; 0]);
        let balancer = LoadBalancerId {
            region: "us-east-1".parse().unwrap(),
            name: "lb".parse().unwrap(),
            number: ElbNumber(1),
        };
        let listener = ListenerId { load_balancer: balancer.clone(), number: ElbNumber(2) };
        assert_eq!(concerned(Key::Listener(listener)), ["shifting"]);
        assert_eq!(concerned(Key::LoadBalancer(balancer)), [""; 0]);
    }
}
