//! Listeners and target groups of one snapshot, and what is kept from one snapshot to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::group::{Check, GroupRoute, Keeper, Member, Outcome};
use crate::metrics::{Metrics, Series, UNKNOWN};
use crate::model::{
    ListenerAttributes, ListenerConfig, ListenerProtocol, LoadBalancer, TargetGroup, TargetHealth, TargetId,
};
use crate::rules::RuleSet;
use crate::sticky::CookieKey;
use crate::tls::{Security, Tls};
use crate::traffic::Connections;

/// A listener in one snapshot.
pub(crate) struct ListenerRoute {
    pub(crate) config: Arc<ListenerConfig>,
    pub(crate) rules: RuleSet,
    pub(crate) security: Security,
    /// Its attributes, if they change anything.
    pub(crate) attributes: Option<Arc<ListenerAttributes>>,
    /// Counts connections to the load balancer.
    pub(crate) connections: Arc<Connections>,
    /// Counts requests that reach no target group.
    pub(crate) series: Arc<Series>,
}

/// Things by ARN. Looked up for each request, and no client can choose ARNs that fall together.
type ById<T> = FxHashMap<Arc<str>, Arc<T>>;

/// What requests to listeners read. Never changed, only replaced.
#[derive(Clone, Default)]
pub(crate) struct Listeners {
    by_id: Arc<ById<ListenerRoute>>,
    groups: ById<GroupRoute>,
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
    groups: BTreeMap<Arc<str>, Arc<BTreeMap<TargetId, TargetHealth>>>,
}

impl HealthSnapshot {
    /// The targets of a group by its ARN: those registered and those that still drain. A group that was
    /// not published has none.
    pub fn group(&self, id: &str) -> impl Iterator<Item = (&TargetId, &TargetHealth)> {
        self.groups.get(id).into_iter().flat_map(|targets| &**targets)
    }
}

/// How a listener speaks. Without a change it keeps what it has, and with it the tickets it gave.
fn security(config: &ListenerConfig, old: Option<&Arc<ListenerRoute>>) -> Security {
    let ListenerProtocol::Https(https) = &config.protocol else { return Security::Clear };
    let http2 = config.load_balancer.attributes.http2;
    if let Some(old) = old
        && old.config.protocol == config.protocol
        && old.config.load_balancer.attributes.http2 == http2
    {
        return old.security.clone();
    }
    match Tls::new(https, http2) {
        Ok(tls) => Security::Tls(tls),
        Err(error) => {
            tracing::error!(listener = config.id, %error, "a listener can't speak TLS and answers nobody");
            Security::Broken
        }
    }
}

/// What is kept from one snapshot to the next.
pub(crate) struct Kept {
    key: CookieKey,
    keepers: BTreeMap<Arc<str>, Keeper>,
    /// By name of the load balancer.
    own_series: BTreeMap<String, Arc<Series>>,
    /// By the load balancer's ARN.
    connections: BTreeMap<String, Arc<Connections>>,
}

impl Kept {
    pub(crate) fn new(key: CookieKey) -> Self {
        Self { key, keepers: BTreeMap::new(), own_series: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// Works out the next snapshot. What has not changed since `before` is taken over.
    pub(crate) fn configure(
        &mut self,
        listeners: impl IntoIterator<Item = Arc<ListenerConfig>>,
        groups: impl IntoIterator<Item = Arc<TargetGroup>>,
        before: &Listeners,
        metrics: &Metrics,
        now: Instant,
    ) -> Listeners {
        let own_series = std::mem::take(&mut self.own_series);
        let connections = std::mem::take(&mut self.connections);
        let by_id: ById<ListenerRoute> = listeners
            .into_iter()
            .map(|config| {
                let name = &config.load_balancer.name;
                let series = self.own_series.entry(name.clone()).or_insert_with(|| {
                    let new = || metrics.target_group(&config.load_balancer, UNKNOWN, "");
                    own_series.get(name).cloned().unwrap_or_else(new)
                });
                let balancer = &config.load_balancer.id;
                let connections = self.connections.entry(balancer.clone()).or_insert_with(|| {
                    let new = || Arc::new(metrics.traffic.connections(balancer));
                    connections.get(balancer).cloned().unwrap_or_else(new)
                });
                let old = before.by_id.get_key_value(config.id.as_str());
                match old {
                    Some((id, old)) if Arc::ptr_eq(&old.config, &config) || old.config == config => {
                        (Arc::clone(id), Arc::clone(old))
                    }
                    _ => {
                        let rules = old.map(|(_, old)| &old.rules);
                        let rules = RuleSet::new(&config.id, &config.rules, &config.default_action, rules);
                        let id = config.id.as_str().into();
                        let security = security(&config, old.map(|(_, old)| old));
                        let attributes = &config.attributes;
                        let attributes = (!attributes.is_empty()).then(|| Arc::new(attributes.clone()));
                        let (series, connections) = (Arc::clone(series), Arc::clone(connections));
                        let route =
                            ListenerRoute { rules, security, attributes, series, connections, config };
                        (id, Arc::new(route))
                    }
                }
            })
            .collect();
        for (balancer, gone) in connections {
            if !self.connections.contains_key(&balancer) {
                gone.retire();
            }
        }
        for (name, gone) in own_series {
            if !self.own_series.contains_key(&name) {
                gone.retire();
            }
        }

        // A target group belongs to one load balancer at a time, in ELBv2 and in the series.
        // Should there be several, it is always the same one.
        let mut users: HashMap<&str, &LoadBalancer> = HashMap::new();
        for listener in by_id.values() {
            let user = &listener.config.load_balancer;
            for group in listener.rules.groups() {
                let known = users.entry(group).or_insert(user);
                if user.id < known.id {
                    *known = user;
                }
            }
        }
        let mut routes = ById::default();
        let mut keepers = std::mem::take(&mut self.keepers);
        for config in groups {
            let user = users.get(config.id.as_str());
            let (id, mut keeper) = keepers
                .remove_entry(config.id.as_str())
                .unwrap_or_else(|| (config.id.as_str().into(), Keeper::new(&config, &self.key)));
            let has_changed = keeper.configure(config, user.copied(), metrics, now);
            let old = before.groups.get(&id).filter(|_| !has_changed).map(Arc::clone);
            if let Some(route) = old.or_else(|| keeper.route().map(Arc::new)) {
                routes.insert(Arc::clone(&id), route);
            }
            self.keepers.insert(id, keeper);
        }
        keepers.into_values().for_each(|keeper| keeper.retire(now));
        Listeners { groups: routes, by_id: Arc::new(by_id) }
    }

    /// Takes the results of health checks and does what is due. The listeners with what has changed, if
    /// anything has.
    pub(crate) fn tend(
        &mut self,
        results: Vec<(Check, Outcome)>,
        before: &Listeners,
        now: Instant,
    ) -> Option<Listeners> {
        let mut changed = BTreeSet::new();
        for (check, outcome) in results {
            let Some(keeper) = self.keepers.get_mut(&*check.group) else { continue };
            if keeper.checked(&check, outcome, now) {
                changed.insert(check.group);
            }
        }
        for (id, keeper) in &mut self.keepers {
            if keeper.advance(now) {
                changed.insert(id.to_string());
            }
        }
        self.renewed(before, changed.iter().map(String::as_str))
    }

    /// Leaves a target of a group out for a while. The listeners with that change, if it is one.
    pub(crate) fn eject(
        &mut self,
        group: &str,
        member: &Arc<Member>,
        before: &Listeners,
        now: Instant,
    ) -> Option<Listeners> {
        let is_ejected = self.keepers.get_mut(group)?.eject(member, now);
        self.renewed(before, is_ejected.then_some(group).into_iter())
    }

    fn renewed<'a>(&self, before: &Listeners, changed: impl Iterator<Item = &'a str>) -> Option<Listeners> {
        let mut changed = changed.peekable();
        changed.peek()?;
        let mut listeners = before.clone();
        for id in changed {
            let Some((id, keeper)) = self.keepers.get_key_value(id) else { continue };
            if let Some(route) = keeper.route() {
                listeners.groups.insert(Arc::clone(id), Arc::new(route));
            }
        }
        Some(listeners)
    }

    /// Begins the health checks that are due.
    pub(crate) fn begin_checks(&mut self, now: Instant) -> Vec<Check> {
        self.keepers.values_mut().flat_map(|keeper| keeper.begin_checks(now)).collect()
    }

    /// When there is something to do next.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.keepers.values().filter_map(|keeper| keeper.next_at(now)).min()
    }

    pub(crate) fn health(&mut self) -> HealthSnapshot {
        let groups = self.keepers.iter_mut().map(|(id, keeper)| (Arc::clone(id), keeper.health())).collect();
        HealthSnapshot { groups }
    }
}
