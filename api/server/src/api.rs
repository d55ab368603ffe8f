//! What the actions share: the stores they work on, the clock, ids, and transactions.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coracle_logs::LogStore;
use coracle_metrics::MetricData;
use coracle_protocol::ApiError;
use coracle_registry::Registry;
use coracle_scheduler::PlanRng;
use coracle_store::{BoxFuture, Store, TransactError, transact};
use coracle_types::{AccountId, Change, Changes, Key, Region, State, Timestamp};
use rand::Rng as _;
use tokio::sync::{Semaphore, watch};

use crate::audit::AuditLog;
use crate::auth::{PolicyCache, Principal};
use crate::elb::{AnyPort, ListenerPorts};
use crate::exec::{ExecHost, Sessions};
use crate::seal::Sealer;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long RunTask and StopTask wait for what they began to get somewhere, and what changes routes for the router.
const SETTLE: Duration = Duration::from_millis(50);

/// How many images may be on their way in at once: each is held in memory, up to half a gigabyte of it.
const UPLOADS_MAX: usize = 2;

/// What an [`Api`] is told at start.
#[derive(Clone)]
pub struct ApiConfig {
    /// The account everything belongs to.
    pub account: AccountId,
    /// The region of requests that name none.
    pub default_region: Region,
    /// Access key ids and their secrets that are the account's root.
    pub access_keys: Vec<(String, String)>,
    /// Whether every request has to be signed, with one of these keys or one of an IAM user. If not,
    /// everybody is the account's root.
    pub require_signatures: bool,
    /// Whether `POST /_coracle/reset` exists.
    pub allow_reset: bool,
}

impl std::fmt::Debug for ApiConfig {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.access_keys.iter().map(|(id, _)| id.as_str()).collect();
        f.debug_struct("ApiConfig")
            .field("account", &self.account)
            .field("default_region", &self.default_region)
            .field("access_keys", &ids)
            .field("require_signatures", &self.require_signatures)
            .field("allow_reset", &self.allow_reset)
            .finish()
    }
}

/// Every action of every service.
pub struct Api {
    pub(crate) config: ApiConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) logs: LogStore,
    pub(crate) registry: Arc<Registry>,
    /// What programs have sent with PutMetricData.
    pub(crate) metric_data: Arc<MetricData>,
    /// Seals what is confidential before it goes into the store.
    pub(crate) sealer: Arc<Sealer>,
    /// The policies of identities, as far as they were read.
    pub(crate) policies: PolicyCache,
    /// Where changes are noted, if anywhere.
    pub(crate) audit: Option<AuditLog>,
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) reset: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    pub(crate) clock: Clock,
    pub(crate) settle: Duration,
    /// The last revision of the state that the router has been told, if there is a router.
    routed: Option<watch::Receiver<u64>>,
    /// Who runs commands inside tasks, if anybody does.
    pub(crate) exec: Option<Arc<dyn ExecHost>>,
    /// Commands that wait for somebody to connect.
    pub(crate) exec_sessions: Sessions,
    /// Places for images on their way in.
    pub(crate) uploads: Arc<Semaphore>,
    /// Taken by those who change load balancing.
    pub(crate) load_balancing: tokio::sync::Mutex<()>,
    pub(crate) ports: Arc<dyn ListenerPorts>,
    /// Where buckets are directories.
    pub(crate) buckets: Option<PathBuf>,
    rng: Mutex<PlanRng>,
}

/// Who asks, and where.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The region of the request's signature.
    pub(crate) region: Region,
    /// The host the request was sent to, as it says.
    pub(crate) host: Option<String>,
    /// Who it is.
    pub(crate) principal: Principal,
    /// The key it signed with, if it signed.
    pub(crate) access_key: Option<String>,
    /// Where it came from, if that is known.
    pub(crate) source: Option<IpAddr>,
}

impl Caller {
    /// Where the caller reaches this API.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/", self.host.as_deref().unwrap_or("localhost"))
    }

    /// The account's root, from nowhere in particular.
    #[cfg(test)]
    pub(crate) fn root(region: Region) -> Self {
        Self { region, host: None, principal: Principal::Root, access_key: None, source: None }
    }
}

impl Api {
    /// An API on these stores. Metrics are empty and a reset waits for nothing until
    /// [`Api::with_metrics`] and [`Api::with_reset`] say otherwise.
    #[must_use]
    pub fn new(config: ApiConfig, store: Arc<dyn Store>, logs: LogStore, registry: Arc<Registry>) -> Self {
        Self {
            config,
            store,
            logs,
            registry,
            metric_data: Arc::new(MetricData::new(system_time())),
            sealer: Arc::new(Sealer::with_key(rand::rng().random())),
            policies: PolicyCache::default(),
            audit: None,
            metrics: Arc::new(String::new),
            reset: Arc::new(|| Box::pin(std::future::ready(()))),
            clock: Arc::new(system_time),
            settle: SETTLE,
            routed: None,
            exec: None,
            exec_sessions: Sessions::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            load_balancing: tokio::sync::Mutex::new(()),
            ports: Arc::new(AnyPort),
            buckets: None,
            rng: Mutex::new(PlanRng::new(rand::rng().random())),
        }
    }

    /// Seals secrets with this key, which outlives the process. Unless set, the key does not, and
    /// neither does what was sealed.
    #[must_use]
    pub fn with_sealer(mut self, sealer: Arc<Sealer>) -> Self {
        self.sealer = sealer;
        self
    }

    /// Notes every call that may change something in this log.
    #[must_use]
    pub fn with_audit(mut self, audit: AuditLog) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Keeps what PutMetricData brings in `data`, where alarms look for it.
    #[must_use]
    pub fn with_metric_data(mut self, data: Arc<MetricData>) -> Self {
        self.metric_data = data;
        self
    }

    /// Answers `GET /metrics` with this text, in Prometheus' format.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        self.metrics = metrics;
        self
    }

    /// What a reset waits for after the records are gone: that nothing runs any more.
    #[must_use]
    pub fn with_reset(mut self, reset: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>) -> Self {
        self.reset = reset;
        self
    }

    /// Asks `ports` whether a listener can be opened. Unless set, every port will do.
    #[must_use]
    pub fn with_ports(mut self, ports: Arc<dyn ListenerPorts>) -> Self {
        self.ports = ports;
        self
    }

    /// Reads what AWS would read from S3 below `buckets`, a directory for each bucket.
    #[must_use]
    pub fn with_buckets(mut self, buckets: PathBuf) -> Self {
        self.buckets = Some(buckets);
        self
    }

    /// Lets `host` run the commands of ExecuteCommand; without one they are refused.
    #[must_use]
    pub fn with_exec(mut self, host: Arc<dyn ExecHost>) -> Self {
        self.exec = Some(host);
        self
    }

    /// Lets what changes routes wait, within the time of [`Api::with_settle`], until the router has been told of it:
    /// `routed` is the last revision that it knows. Whoever has its answer can send requests.
    #[must_use]
    pub fn with_router(mut self, routed: watch::Receiver<u64>) -> Self {
        self.routed = Some(routed);
        self
    }

    /// Makes ids of this seed, so that the same requests get the same ids.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.rng = Mutex::new(PlanRng::new(seed));
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long RunTask and StopTask wait for what they began to get somewhere, and what changes routes for the router;
    /// 50 ms unless set.
    #[must_use]
    pub fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    pub(crate) fn account(&self) -> AccountId {
        self.config.account
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Ids for something new.
    pub(crate) fn ids<T>(&self, make: impl FnOnce(&mut PlanRng) -> T) -> T {
        make(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Computes changes and commits them, again if somebody was faster.
    pub(crate) async fn transact<T>(
        &self,
        mut compute: impl FnMut(&State) -> Result<(Changes, T), ApiError>,
    ) -> Result<(Arc<State>, T), ApiError> {
        let mut routes = false;
        let computed = |state: &State| {
            let (changes, answer) = compute(state)?;
            routes = changes.changes.iter().map(Change::key).any(|key| is_of_routes(&key));
            Ok((changes, answer))
        };
        let made = transact(&*self.store, computed).await.map_err(|error| match error {
            TransactError::Refused(refused) => refused,
            TransactError::Store(error) => {
                tracing::error!(%error, "a transaction was not made");
                ApiError::Server("The state could not be written. Try again later.".to_owned())
            }
        })?;
        if routes && let Some(mut routed) = self.routed.clone() {
            let revision = made.0.revision;
            // A router that takes longer, or is gone, keeps no answer back.
            let _ = tokio::time::timeout(self.settle, routed.wait_for(|told| *told >= revision)).await;
        }
        Ok(made)
    }
}

/// Whether the router works with such a record. Tasks are left out: they come up later than their records.
fn is_of_routes(key: &Key) -> bool {
    matches!(
        key,
        Key::Service(_)
            | Key::TargetGroup(_)
            | Key::Target(_)
            | Key::LoadBalancer(_)
            | Key::Listener(_)
            | Key::Rule(_)
    )
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let config = ApiConfig {
            account: AccountId::default(),
            default_region: "us-east-1".parse().unwrap(),
            access_keys: vec![("AKID".to_owned(), "hush".to_owned())],
            require_signatures: true,
            allow_reset: false,
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("AKID") && !shown.contains("hush"), "{shown}");
    }
}
