//! Which services there are and where their targets run: [`RoutingTable`], as it is published, and
//! [`Routes`], the immutable snapshot requests read.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::address::{Address, Key};
use crate::balance;
use crate::listeners::Listeners;
use crate::metrics::Series;
use crate::model::{ListenerConfig, TargetGroup};
use crate::target::Slot;

/// A service's full name. `Display` gives `region/cluster/service`, as the routing header takes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The region, such as `us-east-1`.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub service: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.cluster, self.service)
    }
}

/// Everything the router should know, as it is handed to [`Router::publish`](crate::Router::publish).
///
/// Whoever publishes often keeps his table, changes what has changed and publishes a clone: what is the same as
/// before, and not only equal to it, is not even looked at.
#[derive(Clone, Debug)]
pub struct RoutingTable {
    default_region: String,
    pub(crate) services: Services,
    default_service: Option<ServiceName>,
    pub(crate) listeners: BTreeMap<Arc<str>, Arc<ListenerConfig>>,
    pub(crate) groups: BTreeMap<Arc<str>, Arc<TargetGroup>>,
}

/// A table's services.
pub(crate) type Services = BTreeMap<Arc<ServiceName>, Arc<Backends>>;

/// What answers for a service.
#[derive(Clone, Debug)]
pub(crate) struct Backends {
    targets: Box<[Arc<Slot>]>,
    empty_reason: String,
    activates: bool,
}

impl RoutingTable {
    /// An empty table. A request that names no region means `default_region`, if the service is there.
    #[must_use]
    pub fn new(default_region: &str) -> Self {
        Self {
            default_region: default_region.to_owned(),
            services: Services::new(),
            default_service: None,
            listeners: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// Adds a service with its ready targets, or replaces it. Clients are shown `empty_reason` when
    /// there is no target: say why, such as `0 of 2 tasks are running`.
    pub fn insert(&mut self, name: ServiceName, targets: Vec<Arc<Slot>>, empty_reason: String) {
        let backends = Backends { targets: targets.into(), empty_reason, activates: false };
        self.services.insert(Arc::new(name), Arc::new(backends));
    }

    /// Takes a service away.
    pub fn remove(&mut self, name: &ServiceName) {
        self.services.remove(name);
    }

    /// Has requests to a service of this table held while it has no target, and a first one asked for by
    /// [`Router::activations`](crate::Router::activations).
    pub fn activate(&mut self, name: &ServiceName) {
        if let Some(backends) = self.services.get_mut(name) {
            Arc::make_mut(backends).activates = true;
        }
    }

    /// Sends requests whose host names no service of ours to `name`, as a listener's default rule does.
    /// Without it, and when `name` is not in the table, they are answered 404.
    pub fn set_default_service(&mut self, name: ServiceName) {
        self.default_service = Some(name);
    }

    /// Adds a listener: a port of its own, with rules. Replaces the one of the same ARN.
    pub fn insert_listener(&mut self, listener: impl Into<Arc<ListenerConfig>>) {
        let listener = listener.into();
        self.listeners.insert(listener.id.as_str().into(), listener);
    }

    /// Takes all listeners away.
    pub fn clear_listeners(&mut self) {
        self.listeners.clear();
    }

    /// Adds a target group for listeners to forward to. Replaces the one of the same ARN.
    pub fn insert_target_group(&mut self, group: impl Into<Arc<TargetGroup>>) {
        let group = group.into();
        self.groups.insert(group.id.as_str().into(), group);
    }

    /// Takes the target group of this ARN away.
    pub fn remove_target_group(&mut self, id: &str) {
        self.groups.remove(id);
    }
}

/// What outlives a table: a service's turn counter and its metrics.
pub(crate) struct Service {
    pub(crate) name: Arc<ServiceName>,
    pub(crate) metrics: Arc<Series>,
    turn: AtomicUsize,
    /// Whether somebody was told that requests wait for a first target.
    asked_for_target: AtomicBool,
}

impl Service {
    pub(crate) fn new(name: impl Into<Arc<ServiceName>>, metrics: Arc<Series>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            metrics,
            turn: AtomicUsize::new(0),
            asked_for_target: AtomicBool::new(false),
        })
    }

    /// Whether this is the first request since there was a target that waits for one.
    pub(crate) fn asks_for_target(&self) -> bool {
        !self.asked_for_target.swap(true, Ordering::Relaxed)
    }

    /// The next request that waits for a first target asks again.
    pub(crate) fn ask_again(&self) {
        self.asked_for_target.store(false, Ordering::Relaxed);
    }
}

/// One service in one table.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) service: Arc<Service>,
    backends: Arc<Backends>,
}

impl Route {
    /// The target with the fewest requests in flight that was not tried yet.
    pub(crate) fn pick(&self, tried: &[Arc<Slot>]) -> Option<&Arc<Slot>> {
        let turn = self.service.turn.fetch_add(1, Ordering::Relaxed);
        balance::pick(&self.backends.targets, turn, tried)
    }

    /// Whether a first target is to be asked for.
    pub(crate) fn activates(&self) -> bool {
        self.backends.activates && self.backends.targets.is_empty()
    }

    /// Why [`Self::pick`] found none, in words for the client.
    pub(crate) fn why_none(&self) -> String {
        let Backends { targets, empty_reason, .. } = &*self.backends;
        match targets.len() {
            0 if empty_reason.is_empty() => "it has no running task".to_owned(),
            0 => empty_reason.clone(),
            1 => "its only target is draining".to_owned(),
            n => format!("its {n} targets are draining"),
        }
    }
}

/// Why no route was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RouteError {
    Unknown,
    /// Several services fit; these are their full names.
    Ambiguous(Vec<String>),
}

/// A service that is new or answered for by others than before; `backends` are `None` when it is gone.
pub(crate) struct Change<'a> {
    pub(crate) name: &'a Arc<ServiceName>,
    pub(crate) backends: Option<&'a Arc<Backends>>,
}

/// What is different in `after`. What is the same in both is only passed over.
pub(crate) fn changes<'a>(before: &'a Services, after: &'a Services) -> Vec<Change<'a>> {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((old, _)), Some((new, _))) if Arc::ptr_eq(old, new) => std::cmp::Ordering::Equal,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some((_, was)), Some((_, is))) if Arc::ptr_eq(was, is) => {}
            (_, Some((name, backends))) => changes.push(Change { name, backends: Some(backends) }),
            (Some((name, _)), None) => changes.push(Change { name, backends: None }),
            (None, None) => return changes,
        }
    }
}

/// The snapshot requests read. Never changed, only replaced.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    default_region: String,
    by_key: ByKey,
    default_service: Option<ServiceName>,
    pub(crate) listeners: Listeners,
}

/// Routes by lower-case `service.cluster`; those of one key differ by region or by case.
///
/// They lie in parts. Snapshots share those that nothing has changed in, so that a change among ten thousand services
/// copies forty.
#[derive(Clone)]
struct ByKey(Arc<[Arc<Part>]>);

type Part = FxHashMap<Arc<[u8]>, Vec<Route>>;

const PARTS: usize = 256;

impl Default for ByKey {
    fn default() -> Self {
        Self(vec![Arc::default(); PARTS].into())
    }
}

impl ByKey {
    /// The part that a key is in. The hash's low and topmost bits are for places within a part.
    fn part_of(key: &[u8]) -> usize {
        (FxBuildHasher.hash_one(key) >> 32) as usize % PARTS
    }

    fn get(&self, key: &[u8]) -> &[Route] {
        self.0[Self::part_of(key)].get(key).map_or(&[], Vec::as_slice)
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().flat_map(|part| part.values()).flatten()
    }

    /// With these changes; `service` makes what is kept of a new service from then on.
    fn with(
        &self,
        changes: &[Change<'_>],
        mut service: impl FnMut(&Arc<ServiceName>) -> Arc<Service>,
    ) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        let mut parts = self.0.to_vec();
        for &Change { name, backends } in changes {
            let key = Key::of(&address_of(name));
            let part = Arc::make_mut(&mut parts[Self::part_of(key.as_bytes())]);
            let routes = part.entry(key.as_bytes().into()).or_default();
            let is_it = |route: &Route| *route.service.name == **name;
            let Some(backends) = backends else {
                routes.retain(|route| !is_it(route));
                if routes.is_empty() {
                    part.remove(key.as_bytes());
                }
                continue;
            };
            match routes.iter_mut().find(|route| is_it(route)) {
                Some(route) => {
                    // Also when the last target leaves: a request that still saw none may have asked after the first came.
                    if !route.backends.targets.is_empty() || !backends.targets.is_empty() {
                        route.service.ask_again();
                    }
                    route.backends = Arc::clone(backends);
                }
                None => routes.push(Route { service: service(name), backends: Arc::clone(backends) }),
            }
        }
        Self(parts.into())
    }
}

impl Routes {
    /// The snapshot of `table`, whose services are different from this one's by `changes`, beside `listeners`; `service`
    /// makes what is kept of a new service from then on.
    pub(crate) fn next(
        &self,
        table: RoutingTable,
        listeners: Listeners,
        changes: &[Change<'_>],
        service: impl FnMut(&Arc<ServiceName>) -> Arc<Service>,
    ) -> Self {
        let RoutingTable { default_region, default_service, .. } = table;
        Self { default_region, by_key: self.by_key.with(changes, service), default_service, listeners }
    }

    /// The same services beside other listeners.
    pub(crate) fn with(&self, listeners: Listeners) -> Self {
        Self { listeners, ..self.clone() }
    }

    /// Finds the service an address means: in its region; without one in the default region, else in
    /// the only region that has it. Names that differ only by case are told apart by an exact match.
    pub(crate) fn resolve(&self, address: &Address<'_>) -> Result<&Route, RouteError> {
        let key = Key::of(address);
        let routes = self.by_key.get(key.as_bytes());
        if let ([route], None) = (routes, address.region) {
            return Ok(route);
        }
        let is_in = |route: &&Route, region: &str| route.service.name.region.eq_ignore_ascii_case(region);
        let region = address.region.unwrap_or(&self.default_region);
        let mut fitting: Vec<&Route> = routes.iter().filter(|route| is_in(route, region)).collect();
        if fitting.is_empty() && address.region.is_none() {
            fitting = routes.iter().collect();
        }
        match fitting[..] {
            [] => return Err(RouteError::Unknown),
            [route] => return Ok(route),
            _ => {}
        }
        let is_exact = |route: &&&Route| {
            let name = &route.service.name;
            name.service == address.service && name.cluster == address.cluster
        };
        let mut exact = fitting.iter().filter(is_exact);
        if let (Some(route), None) = (exact.next(), exact.next()) {
            return Ok(route);
        }
        let mut choices: Vec<String> = fitting.iter().map(|route| route.service.name.to_string()).collect();
        choices.sort_unstable();
        Err(RouteError::Ambiguous(choices))
    }

    /// The route of exactly this service, if it is still there.
    pub(crate) fn find(&self, name: &ServiceName) -> Option<&Route> {
        let routes = self.by_key.get(Key::of(&address_of(name)).as_bytes());
        routes.iter().find(|route| *route.service.name == *name)
    }

    /// Where requests go whose host names no service of ours.
    pub(crate) fn default_service(&self) -> Option<&Route> {
        self.find(self.default_service.as_ref()?)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.routes().map(|route| &route.service)
    }

    /// Up to `max` services as the routing header takes them, in order, and how many there are beyond.
    /// The region is left out where it is the default one.
    pub(crate) fn list(&self, max: usize) -> (Vec<String>, usize) {
        let mut names: Vec<&ServiceName> = self.services().map(|service| &*service.name).collect();
        names.sort_unstable_by_key(|name| {
            (name.region != self.default_region, &name.region, &name.cluster, &name.service)
        });
        let beyond = names.len().saturating_sub(max);
        names.truncate(max);
        let short = |name: &ServiceName| match name.region == self.default_region {
            true => format!("{}/{}", name.cluster, name.service),
            false => name.to_string(),
        };
        (names.into_iter().map(short).collect(), beyond)
    }
}

fn address_of(name: &ServiceName) -> Address<'_> {
    Address { service: &name.service, cluster: &name.cluster, region: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{parse_header, parse_host};
    use crate::metrics::Metrics;
    use crate::tests::harness::{name, slot};

    fn routes(names: &[&str]) -> Routes {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let mut table = RoutingTable::new("us-east-1");
        for full in names {
            table.insert(name(full), vec![slot(full)], String::new());
        }
        follow(&Routes::default(), &Services::new(), table, &metrics)
    }

    fn follow(routes: &Routes, before: &Services, mut table: RoutingTable, metrics: &Metrics) -> Routes {
        let after = std::mem::take(&mut table.services);
        routes.next(table, Listeners::default(), &changes(before, &after), |name| {
            Service::new(Arc::clone(name), metrics.service(&name.cluster, &name.service))
        })
    }

    fn found(routes: &Routes, header: &str) -> Result<String, RouteError> {
        routes.resolve(&parse_header(header).unwrap()).map(|route| route.service.name.to_string())
    }

    #[test]
    fn short_names_mean_the_default_region_then_the_only_one() {
        let routes = routes(&[
            "us-east-1/default/web",
            "eu-west-1/default/web",
            "eu-west-1/default/only",
            "eu-west-1/default/both",
            "eu-north-1/default/both",
        ]);
        assert_eq!(found(&routes, "web").unwrap(), "us-east-1/default/web");
        assert_eq!(found(&routes, "eu-west-1/default/web").unwrap(), "eu-west-1/default/web");
        assert_eq!(found(&routes, "only").unwrap(), "eu-west-1/default/only");
        assert_eq!(found(&routes, "us-east-1/default/only"), Err(RouteError::Unknown));
        assert_eq!(found(&routes, "nothing"), Err(RouteError::Unknown));
        let choices = vec!["eu-north-1/default/both".to_owned(), "eu-west-1/default/both".to_owned()];
        assert_eq!(found(&routes, "both"), Err(RouteError::Ambiguous(choices)));
    }

    #[test]
    fn hosts_ignore_case_and_exact_spelling_decides_between_twins() {
        let routes = routes(&["us-east-1/default/Web", "us-east-1/Prod/api", "us-east-1/Prod/Api"]);
        let by_host = |host| routes.resolve(&parse_host(host).unwrap());
        assert_eq!(
            *by_host("wEB.default.localhost").ok().unwrap().service.name,
            name("us-east-1/default/Web")
        );
        assert_eq!(found(&routes, "Prod/Api").unwrap(), "us-east-1/Prod/Api");
        assert!(
            matches!(found(&routes, "prod/API"), Err(RouteError::Ambiguous(choices)) if choices.len() == 2)
        );
    }

    #[test]
    fn a_snapshot_follows_what_has_changed_and_shares_the_rest() {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let mut table = RoutingTable::new("us-east-1");
        let full = |number: usize| name(&format!("us-east-1/default/s{number}"));
        for number in 0..1000 {
            table.insert(full(number), vec![slot("one")], String::new());
        }
        let first = follow(&Routes::default(), &Services::new(), table.clone(), &metrics);
        let before = table.services.clone();
        assert!(changes(&before, &table.services).is_empty());
        table.remove(&full(7));
        table.insert(full(8), vec![], "gone".to_owned());
        table.insert(full(1000), vec![slot("new")], String::new());
        let changed: Vec<String> =
            changes(&before, &table.services).iter().map(|change| change.name.service.clone()).collect();
        assert_eq!(changed, ["s1000", "s7", "s8"]);
        let second = follow(&first, &before, table.clone(), &metrics);

        assert!(second.find(&full(7)).is_none() && first.find(&full(7)).is_some());
        let route = second.find(&full(8)).unwrap();
        assert_eq!(route.why_none(), "gone");
        assert!(Arc::ptr_eq(&route.service, &first.find(&full(8)).unwrap().service), "its turns go on");
        assert!(second.find(&full(1000)).is_some() && first.find(&full(1000)).is_none());
        assert_eq!(second.services().count(), 1000);
        let shared = first.by_key.0.iter().zip(second.by_key.0.iter()).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert!(shared.count() >= PARTS - 3);
        let fullest = second.by_key.0.iter().map(|part| part.len()).max();
        assert!(fullest < Some(20), "they are spread: {fullest:?}");
    }

    #[test]
    fn a_service_asks_once_for_a_first_target_each_time_that_it_has_none() {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let web = || name("us-east-1/default/web");
        let mut table = RoutingTable::new("us-east-1");
        let (mut routes, mut before) = (Routes::default(), Services::new());
        let mut asks_with = |targets: &[&str], times: usize| {
            table.insert(web(), targets.iter().map(|id| slot(id)).collect(), String::new());
            routes = follow(&routes, &before, table.clone(), &metrics);
            before.clone_from(&table.services);
            let service = &routes.find(&web()).unwrap().service;
            (0..times).map(|_| service.asks_for_target()).collect::<Vec<_>>()
        };
        assert_eq!(asks_with(&[], 2), [true, false]);
        assert_eq!(asks_with(&[], 1), [false], "it waits for what it has asked for");
        assert_eq!(asks_with(&["one"], 1), [true], "a request that still sees none");
        assert_eq!(asks_with(&[], 1), [true], "and yet the next one is heard");
    }

    #[test]
    fn lists_are_bounded_and_lead_with_the_default_region() {
        let routes = routes(&["eu-west-1/a/a", "us-east-1/z/z", "us-east-1/b/b"]);
        assert_eq!(routes.list(2), (vec!["b/b".to_owned(), "z/z".to_owned()], 1));
        assert_eq!(
            routes.list(20),
            (vec!["b/b".to_owned(), "z/z".to_owned(), "eu-west-1/a/a".to_owned()], 0)
        );
    }

    #[test]
    fn the_reason_for_no_target_is_the_tables_or_draining() {
        let routes = routes(&["us-east-1/default/web"]);
        let route = routes.find(&name("us-east-1/default/web")).unwrap();
        let only = Arc::clone(route.pick(&[]).unwrap());
        assert!(route.pick(&[only]).is_none());
        assert_eq!(route.why_none(), "its only target is draining");
    }
}
