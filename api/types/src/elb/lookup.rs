//! What hangs together with what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::Action;
use super::ids::{ElbNumber, ListenerId, LoadBalancerId, RuleId, TargetGroupId};
use super::listener::{Listener, Rule};
use super::target::{Target, TargetId};
use crate::state::{Record, State};

/// Which load balancers forward to which target groups.
#[derive(Clone, Debug, Default)]
pub struct Association(BTreeMap<TargetGroupId, BTreeSet<LoadBalancerId>>);

impl Association {
    /// Those in `state`.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut all = Self::default();
        let defaults = state.listeners.values().map(|found| (&found.value.id, &found.value.default_action));
        let rules = state.rules.values().map(|found| (&found.value.id.listener, &found.value.action));
        for (listener, action) in defaults.chain(rules) {
            for group in action.groups() {
                all.0.entry(group.clone()).or_default().insert(listener.load_balancer.clone());
            }
        }
        all
    }

    /// The load balancers that forward to `group`.
    pub fn load_balancers(&self, group: &TargetGroupId) -> impl Iterator<Item = &LoadBalancerId> {
        self.0.get(group).into_iter().flatten()
    }

    /// Whether any load balancer forwards to `group`.
    #[must_use]
    pub fn is_used(&self, group: &TargetGroupId) -> bool {
        self.0.contains_key(group)
    }
}

const FIRST: ElbNumber = ElbNumber(0);
const LAST: ElbNumber = ElbNumber(u64::MAX);

impl State {
    /// The listeners of a load balancer.
    pub fn listeners_of(&self, load_balancer: &LoadBalancerId) -> impl Iterator<Item = &Arc<Listener>> {
        let at = |number| ListenerId { load_balancer: load_balancer.clone(), number };
        self.listeners.range(at(FIRST)..=at(LAST)).map(|(_, found)| &found.value)
    }

    /// The rules of a listener but its default one, in no order that means anything.
    pub fn rules_of(&self, listener: &ListenerId) -> impl Iterator<Item = &Arc<Rule>> {
        let at = |number| RuleId { listener: listener.clone(), number };
        self.rules.range(at(FIRST)..=at(LAST)).map(|(_, found)| &found.value)
    }

    /// The targets that were registered in a group by hand.
    pub fn targets_of(&self, group: &TargetGroupId) -> impl Iterator<Item = &Arc<Target>> {
        let first = TargetId { group: group.clone(), address: String::new(), port: 0 };
        let group = group.clone();
        let targets = self.targets.range(first..).map(|(_, found)| &found.value);
        targets.take_while(move |target| target.id.group == group)
    }

    /// What a rule does; also of a listener's default rule.
    #[must_use]
    pub fn rule_action(&self, rule: &RuleId) -> Option<&Action> {
        if let Some(found) = self.rules.get(rule) {
            return Some(&found.value.action);
        }
        let listener = &self.listeners.get(&rule.listener)?.value;
        (listener.default_rule == rule.number).then_some(&listener.default_action)
    }

    /// The record to write so that a rule does `action` from now on; None if there is no such rule.
    #[must_use]
    pub fn with_rule_action(&self, rule: &RuleId, action: Action) -> Option<Record> {
        if let Some(found) = self.rules.get(rule) {
            return Some(Rule { action, ..Rule::clone(&found.value) }.into());
        }
        let listener = &self.listeners.get(&rule.listener)?.value;
        (listener.default_rule == rule.number)
            .then(|| Listener { default_action: action, ..Listener::clone(listener) }.into())
    }
}
