//! The [`Router`] handle: holds the current table, publishes the next.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::access_log::{AccessLog, AccessLogConfig};
use crate::answer::Refusal;
use crate::config::RouterConfig;
use crate::group::{Check, Member, Outcome};
use crate::listeners::{HealthSnapshot, Kept, Listeners};
use crate::metrics::{Metrics, Series, UNKNOWN};
use crate::model::ListenerState;
use crate::serve::Listener;
use crate::table::{Routes, RoutingTable, Service, ServiceName, Services, changes};
use crate::target::Slot;
use crate::workers::Workers;

/// Groups and services that may wait to be asked for at once.
const MAX_ACTIVATIONS: usize = 1024;

/// The port programs in this process name, or mean.
const IN_PROCESS_PORT: u16 = 80;

/// Why a router could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The registry holds metrics of these names already, perhaps of another router.
    #[error("could not register the router's metrics")]
    Metrics(#[from] prometheus::Error),
    /// The access log's file can't be written.
    #[error("could not open the access log")]
    AccessLog(#[source] std::io::Error),
}

/// The front door. Clones are handles to the same router: one to serve, others to publish tables.
#[derive(Clone)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
}

impl Router {
    /// A router with an empty table, whose metrics are in `registry`.
    ///
    /// # Errors
    ///
    /// [`RouterError::Metrics`] if `registry` has a router's metrics already, [`RouterError::AccessLog`] if
    /// there is to be an access log and its file can't be opened.
    pub fn new(config: RouterConfig, registry: &prometheus::Registry) -> Result<Router, RouterError> {
        let metrics = Metrics::new(registry)?;
        let log = |config: &AccessLogConfig| AccessLog::open(config.clone(), metrics.log_dropped.clone());
        let access_log = config.access_log.as_ref().map(log).transpose().map_err(RouterError::AccessLog)?;
        let cookie_key = config.cookie_key.clone();
        let (ask_for_target, activations) = mpsc::channel(MAX_ACTIVATIONS);
        let unknown =
            ServiceName { region: UNKNOWN.into(), cluster: UNKNOWN.into(), service: UNKNOWN.into() };
        let unknown = Service::new(unknown, metrics.service(UNKNOWN, UNKNOWN));
        let in_process = Arc::new(Listener::new(&config, IN_PROCESS_PORT, None));
        let shared = Arc::new(Shared {
            config,
            metrics,
            access_log,
            unknown,
            routes: ArcSwap::default(),
            version: watch::Sender::new(0),
            publishing: Mutex::new(Publishing {
                services: Services::new(),
                series: SeriesInUse::default(),
                listeners: Kept::new(cookie_key),
            }),
            waiting: AtomicUsize::new(0),
            in_process,
            health: watch::Sender::default(),
            ask_for_target,
            activations: Mutex::new(Some(activations)),
            reserved: Mutex::default(),
            listener_states: watch::Sender::default(),
            workers: ArcSwapOption::empty(),
        });
        Ok(Router { shared })
    }

    /// Makes `table` the current one. Requests that picked a target before keep it; those that wait for
    /// a target look again. Series of services that are no longer there are dropped.
    pub fn publish(&self, table: RoutingTable) {
        self.shared.publish(table);
    }

    /// The health of all targets, as it changes.
    #[must_use]
    pub fn target_health(&self) -> watch::Receiver<Arc<HealthSnapshot>> {
        self.shared.health.subscribe()
    }

    /// What to start a first target for, because requests are held: the ARN of a target group, or a
    /// service as `region/cluster/service`. Each comes once until there was a target. The receiver can be
    /// had once.
    #[must_use]
    pub fn activations(&self) -> Option<mpsc::Receiver<String>> {
        self.shared.activations.lock().take()
    }

    /// The listeners by their ARN and whether their ports are open, as it changes. Ports follow a publish
    /// within moments, while the router is [served](Router::serve).
    #[must_use]
    pub fn listener_states(&self) -> watch::Receiver<Arc<BTreeMap<String, ListenerState>>> {
        self.shared.listener_states.subscribe()
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: RouterConfig,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: Option<AccessLog>,
    /// Stands in where a request reaches no service.
    pub(crate) unknown: Arc<Service>,
    pub(crate) routes: ArcSwap<Routes>,
    /// Moves on after each publish.
    version: watch::Sender<u64>,
    /// Held while a table is published, so that publishing is one at a time.
    publishing: Mutex<Publishing>,
    waiting: AtomicUsize,
    /// What programs in this process come by. It accepts nothing, and has no clock: they end what takes too long.
    pub(crate) in_process: Arc<Listener>,
    health: watch::Sender<Arc<HealthSnapshot>>,
    ask_for_target: mpsc::Sender<String>,
    /// The other end, until somebody takes it.
    activations: Mutex<Option<mpsc::Receiver<String>>>,
    /// Ports that listeners will want.
    pub(crate) reserved: Mutex<HashMap<SocketAddr, TcpListener>>,
    pub(crate) listener_states: watch::Sender<Arc<BTreeMap<String, ListenerState>>>,
    /// While the router is served.
    pub(crate) workers: ArcSwapOption<Workers>,
}

/// What is kept from one snapshot to the next.
struct Publishing {
    services: Services,
    series: SeriesInUse,
    listeners: Kept,
}

/// The series in use by cluster and service, and how many services count in each: as many as there are regions.
#[derive(Default)]
struct SeriesInUse(HashMap<(String, String), (Arc<Series>, usize)>);

impl SeriesInUse {
    fn enter(&mut self, name: &ServiceName, metrics: &Metrics) -> Arc<Series> {
        let labels = (name.cluster.clone(), name.service.clone());
        let new = || (metrics.service(&name.cluster, &name.service), 0);
        let (series, services) = self.0.entry(labels).or_insert_with(new);
        *services += 1;
        Arc::clone(series)
    }

    fn leave(&mut self, name: &ServiceName) {
        let labels = (name.cluster.clone(), name.service.clone());
        let Some((series, services)) = self.0.get_mut(&labels) else { return };
        *services -= 1;
        if *services == 0 {
            series.retire();
            self.0.remove(&labels);
        }
    }
}

impl Shared {
    fn publish(&self, mut table: RoutingTable) {
        let mut publishing = self.publishing.lock();
        let Publishing { services, series, listeners: kept } = &mut *publishing;
        let old = self.routes.load_full();
        let (listeners, groups) = (std::mem::take(&mut table.listeners), std::mem::take(&mut table.groups));
        let (listeners, groups) = (listeners.into_values(), groups.into_values());
        let listeners = kept.configure(listeners, groups, &old.listeners, &self.metrics, Instant::now());
        let before = std::mem::replace(services, std::mem::take(&mut table.services));
        let changes = changes(&before, services);
        let new = old.next(table, listeners, &changes, |name| {
            Service::new(Arc::clone(name), series.enter(name, &self.metrics))
        });
        self.routes.store(Arc::new(new));
        // Behind those that came, which may count in the same series.
        changes.iter().filter(|change| change.backends.is_none()).for_each(|gone| series.leave(gone.name));
        self.tell_health(kept);
        drop(publishing);
        self.version.send_modify(|version| *version += 1);
    }

    /// Tells those who watch, if anything has changed.
    fn tell_health(&self, kept: &mut Kept) {
        let health = kept.health();
        self.health.send_if_modified(|told| {
            let is_new = **told != health;
            if is_new {
                *told = Arc::new(health);
            }
            is_new
        });
    }

    /// Takes the results of health checks and does what is due in all groups. The checks to do next, and
    /// when to come again.
    pub(crate) fn tend_groups(
        &self,
        results: Vec<(Check, Outcome)>,
        now: Instant,
    ) -> (Vec<Check>, Option<Instant>) {
        let mut publishing = self.publishing.lock();
        let kept = &mut publishing.listeners;
        let has_results = !results.is_empty();
        let routes = self.routes.load_full();
        let renewed = kept.tend(results, &routes.listeners, now);
        let due = kept.begin_checks(now);
        if has_results || renewed.is_some() {
            self.tell_health(kept);
        }
        let next_at = kept.next_at(now);
        self.renew(&routes, renewed);
        (due, next_at)
    }

    /// Leaves a target out for a while that has failed too often in a row.
    #[cold]
    pub(crate) fn eject(&self, group: &str, member: &Arc<Member>) {
        let mut publishing = self.publishing.lock();
        let routes = self.routes.load_full();
        let renewed = publishing.listeners.eject(group, member, &routes.listeners, Instant::now());
        if renewed.is_some() {
            tracing::warn!(group, target = %member.id, "a target is ejected: too many failures in a row");
            self.tell_health(&mut publishing.listeners);
        }
        self.renew(&routes, renewed);
    }

    /// Swaps in routes with other listeners. For those who hold the lock.
    fn renew(&self, routes: &Routes, renewed: Option<Listeners>) {
        if let Some(listeners) = renewed {
            self.routes.store(Arc::new(routes.with(listeners)));
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Asks for a first target of a group or service.
    pub(crate) fn activate(&self, whose: &str) {
        if self.ask_for_target.try_send(whose.to_owned()).is_err() {
            tracing::warn!(whose, "nobody starts a first target: too many are asked for, or nobody listens");
        }
    }

    /// A watch of the tables' versions.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A target of the service that was not tried, in the table as it is now.
    pub(crate) fn pick(&self, name: &ServiceName, tried: &[Arc<Slot>]) -> Option<Arc<Slot>> {
        self.routes.load().find(name)?.pick(tried).map(Arc::clone)
    }

    /// Waits until `deadline` for a table with a target that was not tried: a rolling update swaps
    /// tables within milliseconds, a crashed task is replaced as fast as components start.
    pub(crate) async fn wait_for_target(
        &self,
        name: &ServiceName,
        tried: &[Arc<Slot>],
        deadline: Instant,
    ) -> Result<Arc<Slot>, Refusal> {
        let Some(_place) = Waiting::enter(&self.waiting, self.config.max_waiting) else {
            return Err(self.no_ready_target(name));
        };
        let mut deadline = deadline;
        if let Some(route) = self.routes.load().find(name).filter(|route| route.activates()) {
            deadline = deadline.max(Instant::now() + self.config.activation_wait);
            if route.service.asks_for_target() {
                self.activate(&name.to_string());
            }
        }
        // Subscribed before the first look, so that no table is missed between look and wait.
        let mut version = self.version.subscribe();
        loop {
            if let Some(slot) = self.pick(name, tried) {
                return Ok(slot);
            }
            match timeout_at(deadline, version.changed()).await {
                Ok(Ok(())) => {}
                _ => {
                    if let Some(route) = self.routes.load().find(name) {
                        route.service.ask_again();
                    }
                    return Err(self.no_ready_target(name));
                }
            }
        }
    }

    pub(crate) fn no_ready_target(&self, name: &ServiceName) -> Refusal {
        let routes = self.routes.load();
        match routes.find(name) {
            Some(route) => Refusal::no_ready_target(name, &route.why_none()),
            None => Refusal::no_ready_target(name, "the service was deleted"),
        }
    }
}

/// A place among the requests that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let add = |count: usize| (count < max).then_some(count + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok().map(|_| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
