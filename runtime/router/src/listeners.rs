//! Listeners and target groups of one snapshot, and what is kept from one snapshot to the next.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::group::{GroupRoute, Keeper};
use crate::metrics::{Metrics, Series, UNKNOWN};
use crate::model::{ListenerConfig, TargetGroup, TargetHealth, TargetId};
use crate::rules::RuleSet;

/// A listener in one snapshot.
pub(crate) struct ListenerRoute {
    pub(crate) config: ListenerConfig,
    pub(crate) rules: RuleSet,
    /// Counts requests that reach no target group.
    pub(crate) series: Arc<Series>,
}

/// What requests to listeners read. Never changed, only replaced.
#[derive(Clone, Default)]
pub(crate) struct Listeners {
    by_id: HashMap<Arc<str>, Arc<ListenerRoute>>,
    groups: HashMap<Box<str>, Arc<GroupRoute>>,
}

impl Listeners {
    pub(crate) fn find(&self, id: &str) -> Option<&Arc<ListenerRoute>> {
        self.by_id.get(id)
    }

    pub(crate) fn group(&self, id: &str) -> Option<&Arc<GroupRoute>> {
        self.groups.get(id)
    }

    /// The addresses to listen on, by listener.
    pub(crate) fn addresses(&self) -> BTreeMap<Arc<str>, SocketAddr> {
        self.by_id.iter().map(|(id, listener)| (Arc::clone(id), listener.config.address)).collect()
    }
}

/// The health of every target of every group, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthSnapshot {
    groups: BTreeMap<String, BTreeMap<TargetId, TargetHealth>>,
}

impl HealthSnapshot {
    /// The targets of a group by its ARN: those registered and those that still drain. A group that was
    /// not published has none.
    pub fn group(&self, id: &str) -> impl Iterator<Item = (&TargetId, &TargetHealth)> {
        self.groups.get(id).into_iter().flatten()
    }
}

/// What is kept from one snapshot to the next.
#[derive(Default)]
pub(crate) struct Kept {
    keepers: BTreeMap<String, Keeper>,
    /// By name of the load balancer.
    own_series: BTreeMap<String, Arc<Series>>,
}

impl Kept {
    /// Works out the next snapshot. What has not changed since `before` is taken over.
    pub(crate) fn configure(
        &mut self,
        listeners: Vec<ListenerConfig>,
        groups: Vec<TargetGroup>,
        before: &Listeners,
        metrics: &Metrics,
        now: Instant,
    ) -> Listeners {
        let own_series = std::mem::take(&mut self.own_series);
        let by_id: HashMap<Arc<str>, Arc<ListenerRoute>> = listeners
            .into_iter()
            .map(|config| {
                let name = &config.load_balancer.name;
                let series = self.own_series.entry(name.clone()).or_insert_with(|| {
                    own_series.get(name).cloned().unwrap_or_else(|| metrics.target_group(name, UNKNOWN))
                });
                let old = before.by_id.get_key_value(config.id.as_str());
                match old {
                    Some((id, old)) if old.config == config => (Arc::clone(id), Arc::clone(old)),
                    _ => {
                        let rules = old.map(|(_, old)| &old.rules);
                        let rules = RuleSet::new(&config.id, &config.rules, &config.default_action, rules);
                        let id = config.id.as_str().into();
                        (id, Arc::new(ListenerRoute { rules, series: Arc::clone(series), config }))
                    }
                }
            })
            .collect();
        for (name, gone) in own_series {
            if !self.own_series.contains_key(&name) {
                gone.retire();
            }
        }

        // A target group belongs to one load balancer at a time, in ELBv2 and in the series.
        let users: HashMap<&str, &str> = by_id
            .values()
            .flat_map(|listener| {
                listener.rules.groups().map(|group| (group, listener.config.load_balancer.name.as_str()))
            })
            .collect();
        let mut keepers = std::mem::take(&mut self.keepers);
        for config in groups {
            let user = users.get(config.id.as_str());
            let mut keeper = keepers.remove(&config.id).unwrap_or_else(|| Keeper::new(&config));
            let id = config.id.clone();
            keeper.configure(config, user.copied(), metrics, now);
            self.keepers.insert(id, keeper);
        }
        keepers.into_values().for_each(Keeper::retire);
        Listeners { groups: self.routes(), by_id }
    }

    fn routes(&self) -> HashMap<Box<str>, Arc<GroupRoute>> {
        let route = |(id, keeper): (&String, &Keeper)| Some((id.as_str().into(), Arc::new(keeper.route()?)));
        self.keepers.iter().filter_map(route).collect()
    }

    pub(crate) fn health(&self) -> HealthSnapshot {
        let groups = self.keepers.iter().map(|(id, keeper)| (id.clone(), keeper.health())).collect();
        HealthSnapshot { groups }
    }
}
