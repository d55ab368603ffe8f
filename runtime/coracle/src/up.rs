//! `coracle up`: the control plane and the data plane in one process.
//!
//! Order matters twice. Starting: the store first, then the node registers (which tells apart the
//! tasks that died with an earlier process), then what serves. Stopping: the plan loop first, so that
//! nothing is started any more; then the router takes no more requests; then the agent stops its tasks,
//! each of which gives its requests its `stopTimeout` to end, and their ends are written down; the API
//! last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use coracle_agent::{Agent, AgentConfig, Facilities, RequestObserver};
use coracle_control::node_link;
use coracle_logs::LogStore;
use coracle_metrics::MetricData;
use coracle_registry::Registry;
use coracle_router::{CookieKey, Router, RouterConfig};
use coracle_sandbox::{ArtifactCache, Engine, EngineConfig, InProcess};
use coracle_server::{Api, ApiConfig, AuditLog, NewAdmin, RoleReader, Sealer, SecretReader, open_key};
use coracle_store::{RedbStore, Store};
use coracle_types::{NodeId, State, Timestamp, attribute};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use crate::alarm_metrics::AlarmMetrics;
use crate::balancing;
use crate::balancing::activation::Activity;
use crate::balancing::model::Place;
use crate::balancing::ports::RouterPorts;
use crate::config::UpConfig;
use crate::exec::AgentCommands;
use crate::images::RegistryImages;
use crate::keyvalue::KeyValueStores;
use crate::log_sink::{LineObserver, StoreLogs};
use crate::metrics::Metrics;
use crate::output::{note, say};
use crate::routes;
use crate::secrets::{StoreRoles, StoreSecrets, tls_client};
use crate::services::NamedServices;

/// How long the router waits for requests when the process stops. It is not what bounds them: their tasks
/// end them, each after its own `stopTimeout`, which ECS allows to be two minutes.
const DRAIN: Duration = Duration::from_secs(180);
/// How long requests get to end before the tasks that answer them are told to stop. While tasks run, what
/// a connection sent just before the router closed it finds one.
const BEFORE_TASKS_STOP: Duration = Duration::from_millis(100);
/// How long clients get to take the rest of their answers when no task runs any more.
const AFTER_TASKS_STOPPED: Duration = Duration::from_secs(2);

/// Starts everything, says where it is, and runs until SIGTERM or Ctrl-C.
pub(crate) async fn up(config: UpConfig) -> anyhow::Result<ExitCode> {
    let ready_file = config.ready_file.clone();
    let mut stop = Signals::listen()?;
    let running = Coracle::start(config).await?;
    if let Some(path) = &ready_file {
        write_ready_file(path, &running)?;
    }
    // Nobody has to read it.
    let _ = print_welcome(&running);
    let failed = tokio::select! {
        _ = stop.wait() => None,
        what = running.failed() => Some(what),
    };
    match failed {
        None => note!("coracle: stopping; Ctrl-C again to stop at once"),
        // Whoever supervises the process starts it again, which half a Coracle that goes on would prevent.
        Some(what) => note!("coracle: {what} failed, see above; stopping"),
    }
    running.stop_unless(&mut stop).await?;
    Ok(if failed.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whoever watches a Coracle at work from within its process.
#[derive(Default)]
pub(crate) struct Observer {
    /// Is told of every request.
    pub(crate) requests: Option<Arc<dyn RequestObserver>>,
    /// Is told of every line that a container writes.
    pub(crate) lines: Option<Arc<dyn LineObserver>>,
}

/// A whole Coracle in this process.
pub(crate) struct Coracle {
    /// The API's URL.
    pub(crate) api: String,
    /// The router's URL.
    pub(crate) router: String,
    data_dir: PathBuf,
    node: String,
    auth: bool,
    /// The key that was made because there was none.
    new_admin: Option<NewAdmin>,
    agent: Arc<Agent>,
    /// Told `true` to stop, each loop by a switch of its own because the order matters.
    plan_stop: watch::Sender<bool>,
    report_stop: watch::Sender<bool>,
    router_stop: watch::Sender<bool>,
    api_stop: watch::Sender<bool>,
    plan_loop: JoinHandle<()>,
    report_loop: JoinHandle<()>,
    router_loop: JoinHandle<()>,
    api_loop: JoinHandle<()>,
    failed: watch::Receiver<Option<&'static str>>,
    /// Held for as long as the process uses the directory.
    _lock: File,
}

impl Coracle {
    /// Opens the data directory and starts everything.
    pub(crate) async fn start(config: UpConfig) -> anyhow::Result<Self> {
        Self::start_observed(config, Observer::default()).await
    }

    /// [`Self::start`] with somebody who watches.
    pub(crate) async fn start_observed(config: UpConfig, observer: Observer) -> anyhow::Result<Self> {
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
        let lock = lock(dir)?;
        raise_open_files();
        // Both ports first: a port that is taken is found before anything has been touched.
        let api_listener = bind(config.api, "the API", "--api").await?;
        let router_listener = bind(config.router, "the router", "--router").await?;
        if let Some(path) = &config.ready_file {
            remove_stale(path)?;
        }
        let api_ip = api_listener.local_addr()?.ip();
        let api_url = format!("http://{}", api_listener.local_addr()?);
        let router_url = format!("http://{}", router_listener.local_addr()?);

        // The log store replays its journal, which takes longest after a crash under load: meanwhile the
        // rest is opened.
        let logs = tokio::task::spawn_blocking({
            let dir = dir.join("logs");
            move || LogStore::open(&dir)
        });
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir.join("state.redb"))?);
        let registry = Arc::new(Registry::open(&dir.join("registry")).context("cannot open the registry")?);
        let engine = EngineConfig { max_instances: config.max_instances, ..EngineConfig::default() };
        let engine = Engine::new(&engine).context("cannot start the WebAssembly engine")?;
        let sealer =
            Arc::new(Sealer::open(&dir.join("secret-key")).context("cannot open the key of secrets")?);
        let cookie_key = open_key(&dir.join("cookie-key")).context("cannot open the key of cookies")?;
        let audit = AuditLog::open(&dir.join("audit.jsonl")).context("cannot open the audit log")?;
        let artifacts_dir = config.artifacts_dir.clone().unwrap_or_else(|| dir.join("artifacts"));
        let artifacts = ArtifactCache::with_config(engine.clone(), &artifacts_dir, config.artifacts.clone())?;

        let logs = logs.await?.with_context(|| {
            format!("the logs are damaged; to go on without them, move {} away", dir.join("logs").display())
        })?;

        let node_id = node_id(&dir.join("node-id"), &store.snapshot())?;
        let attributes = node_attributes(&config);
        let node =
            node_link::register(&*store, node_id, config.cpu, config.memory, &attributes, now()).await?;
        let node_text = format!("{} CPU units and {} MiB", node.cpu_units, node.memory_mib);

        tokio::spawn(sweep_logs(logs.clone(), config.log_storage));
        let sink = StoreLogs::new(&logs, observer.lines);
        let writer = sink.writer();
        let (assigned_tx, assigned) = watch::channel(Arc::default());
        let (observed, observed_rx) = mpsc::unbounded_channel();
        let services = Arc::new(NamedServices::default());
        let agent = Arc::new(Agent::spawn(
            AgentConfig {
                node: node.id,
                volumes_dir: dir.join("volumes"),
                account: config.account.to_string(),
                memory_mib: node.memory_mib,
                environment_files_dir: config.env_files_dir.clone().unwrap_or_else(|| dir.join("s3")),
            },
            artifacts.clone(),
            Facilities {
                images: Arc::new(RegistryImages(Arc::clone(&registry))),
                logs: Arc::new(sink),
                secrets: Arc::new(StoreSecrets(SecretReader::new(
                    Arc::clone(&store),
                    Arc::clone(&sealer),
                    Arc::new(now),
                ))),
                roles: Arc::new(StoreRoles(RoleReader::new(Arc::clone(&store), config.account))),
                keyvalue: Arc::new(KeyValueStores::open(&dir.join("keyvalue.redb"))?),
                clock: Arc::new(now),
                tls: tls_client(&config.tls_roots)?,
                in_process: Some(Arc::clone(&services) as Arc<dyn InProcess>),
                requests: observer.requests,
            },
            assigned,
            observed,
        ));

        let (plan_stop, plan_stopped) = watch::channel(false);
        let (report_stop, report_stopped) = watch::channel(false);
        let (router_stop, router_stopped) = watch::channel(false);
        let (api_stop, api_stopped) = watch::channel(false);

        let metrics = Metrics::new(Arc::clone(&store), Arc::clone(&agent), engine, artifacts);
        let router = Router::new(
            RouterConfig {
                drain_timeout: DRAIN,
                cookie_key: CookieKey::new(cookie_key),
                access_log: config.access_log.clone(),
                ..RouterConfig::default()
            },
            metrics.registry(),
        )?;
        services.answer_by(&router);
        let vital = Vital::new();
        let place =
            Place { account: config.account, address: config.router.ip(), sealer: Arc::clone(&sealer) };
        let (published, was_published) = watch::channel(0);
        let activity = Arc::new(Activity::default());
        vital.spawn(
            "the routing table",
            routes::run(
                router.clone(),
                Arc::clone(&store),
                agent.endpoints(),
                config.region.clone(),
                place.clone(),
                published,
                Arc::clone(&activity),
            ),
        );
        let activation = balancing::activation::run(router.clone(), Arc::clone(&store), activity, now);
        vital.spawn("scaling by requests", activation);
        let health =
            balancing::health::run(router.clone(), Arc::clone(&store), was_published.clone(), place, now);
        vital.spawn("the health of targets", health);
        let ports = Arc::new(RouterPorts::new(router.clone(), config.router.ip()));
        let alarm_metrics =
            AlarmMetrics::new(metrics.registry().clone(), Arc::clone(&store), Arc::clone(&agent));
        let metric_data = Arc::new(MetricData::new(now()));
        let alarms = coracle_control::alarms::run(
            Arc::clone(&store),
            Arc::new(alarm_metrics),
            Arc::clone(&metric_data),
            now,
            plan_stopped.clone(),
        );
        vital.spawn("alarms", alarms);
        let feed = node_link::feed(Arc::clone(&store), node, assigned_tx, report_stopped.clone());
        vital.spawn("the node's assignments", feed);
        let report = node_link::report(Arc::clone(&store), observed_rx, report_stopped);
        let report_loop = vital.spawn("the node's reports", report);
        coracle_control::run_once(&*store, &now, rand::random()).await;
        let plan = coracle_control::run(Arc::clone(&store), now, rand::random(), plan_stopped);
        let plan_loop = vital.spawn("the scheduler", plan);
        let router_loop = vital.spawn("the router", {
            let stopped = wait_for(router_stopped);
            async move {
                if let Err(error) = router.serve(router_listener, stopped).await {
                    tracing::error!("the router stopped: {error}");
                }
            }
        });
        let api = Api::new(
            ApiConfig {
                account: config.account,
                default_region: config.region.clone(),
                access_keys: config.access_keys.clone(),
                require_signatures: config.auth,
                allow_reset: config.allow_reset,
            },
            store,
            logs,
            registry,
        )
        .with_sealer(sealer)
        .with_audit(audit)
        .with_ports(ports)
        .with_router(was_published)
        .with_metric_data(metric_data)
        .with_exec(Arc::new(AgentCommands(Arc::clone(&agent))))
        .with_buckets(dir.join("buckets"))
        .with_metrics({
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.render())
        })
        .with_reset({
            let agent = Arc::clone(&agent);
            Arc::new(move || {
                let (agent, writer) = (Arc::clone(&agent), writer.clone());
                Box::pin(async move {
                    // What others have started since the reset began is theirs.
                    agent.idle().await;
                    // What tasks wrote until their end must not come back after the logs are emptied.
                    if let Err(error) = writer.flush().await {
                        tracing::warn!("while resetting: {error}");
                    }
                })
            })
        });
        if !config.auth && !api_ip.is_loopback() {
            note!(
                "coracle: warning: whoever can reach {api_url} may do everything; --auth asks for access keys"
            );
        }
        let new_admin = match config.auth && config.access_keys.is_empty() {
            true => api.ensure_admin().await.context("cannot make the first access key")?,
            false => None,
        };
        let app = coracle_server::app(api);
        let api_loop = vital.spawn("the API", async move {
            if let Err(error) = coracle_server::serve(api_listener, app, wait_for(api_stopped)).await {
                tracing::error!("the API stopped: {error}");
            }
        });
        Ok(Self {
            api: api_url,
            router: router_url,
            data_dir: config.data_dir,
            node: node_text,
            auth: config.auth,
            new_admin,
            agent,
            plan_stop,
            report_stop,
            router_stop,
            api_stop,
            plan_loop,
            report_loop,
            router_loop,
            api_loop,
            failed: vital.failed(),
            _lock: lock,
        })
    }

    /// Resolves when a part has panicked without which the rest is of no use, and names it.
    pub(crate) async fn failed(&self) -> &'static str {
        let mut failed = self.failed.clone();
        // A statement of its own: what it borrows must not be held while waiting.
        let what = failed.wait_for(Option::is_some).await.ok().and_then(|what| *what);
        match what {
            Some(what) => what,
            // Every part has ended well.
            None => std::future::pending().await,
        }
    }

    /// Stops everything in order, or leaves it at that at the next signal.
    pub(crate) async fn stop_unless(self, signals: &mut Signals) -> anyhow::Result<()> {
        tokio::select! {
            () = self.stop() => Ok(()),
            _ = signals.wait() => bail!("stopped before every task had ended"),
        }
    }

    /// Stops everything in order: requests are answered, tasks get their `stopTimeout`, and what was
    /// acknowledged is on disk.
    async fn stop(mut self) {
        self.plan_stop.send_replace(true);
        join(self.plan_loop, "the scheduler").await;
        self.router_stop.send_replace(true);
        let drained = timeout(BEFORE_TASKS_STOP, &mut self.router_loop).await;
        self.agent.shutdown().await;
        match drained {
            Ok(ended) => joined(ended, "the router"),
            Err(_) => match timeout(AFTER_TASKS_STOPPED, self.router_loop).await {
                Ok(ended) => joined(ended, "the router"),
                Err(_) => tracing::warn!("some clients did not take the rest of their answers"),
            },
        }
        self.report_stop.send_replace(true);
        join(self.report_loop, "the node's reports").await;
        self.api_stop.send_replace(true);
        join(self.api_loop, "the API").await;
    }
}

/// How often logs are looked through for what is no longer kept.
const LOG_SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Removes log events that are older than their groups keep them, and the oldest while all take more than
/// `storage_mib`. Ends with the process; what it is at is done in whole steps.
async fn sweep_logs(logs: LogStore, storage_mib: u64) {
    let mut ticks = tokio::time::interval(LOG_SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let logs = logs.clone();
        let sweep = move || logs.sweep(now().as_millis(), storage_mib.saturating_mul(1024 * 1024));
        match tokio::task::spawn_blocking(sweep).await {
            Ok(Ok(swept)) if swept.crowded_out > 0 => {
                tracing::warn!(events = swept.crowded_out, "logs are full: the oldest events were removed");
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!("logs could not be looked through: {error}"),
            Err(error) => tracing::error!("looking through the logs ended badly: {error}"),
        }
    }
}

/// Spawns what the process can't do without.
struct Vital(watch::Sender<Option<&'static str>>);

impl Vital {
    fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// The name of the last part that panicked.
    fn failed(&self) -> watch::Receiver<Option<&'static str>> {
        self.0.subscribe()
    }

    fn spawn(&self, what: &'static str, part: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        struct Witness(&'static str, watch::Sender<Option<&'static str>>);
        impl Drop for Witness {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.1.send_replace(Some(self.0));
                }
            }
        }
        let witness = Witness(what, self.0.clone());
        tokio::spawn(async move {
            let _witness = witness;
            part.await;
        })
    }
}

async fn join(handle: JoinHandle<()>, what: &str) {
    joined(handle.await, what);
}

fn joined(ended: Result<(), JoinError>, what: &str) {
    if let Err(error) = ended {
        tracing::error!("{what} ended badly: {error}");
    }
}

/// Resolves once the switch is on, or gone.
async fn wait_for(mut switch: watch::Receiver<bool>) {
    // An error means the sender is gone, which is also the end.
    let _ = switch.wait_for(|&stopped| stopped).await;
}

/// The wall clock. The only place that reads it for the control plane and the agent.
fn now() -> Timestamp {
    let millis = UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis());
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Lets the process have as many open files as it may: each connection is one, and shells and service managers
/// start programs with 1,024, for the sake of those that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

async fn bind(address: std::net::SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{what} cannot listen on {address}; choose another address with {flag}, port 0 for a free one"
        )
    })
}

/// Makes this process the only one that uses the directory, until it ends in whatever way.
fn lock(dir: &Path) -> anyhow::Result<File> {
    use rustix::fs::{FlockOperation, flock};

    let path = dir.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::io::read_to_string(&mut file).unwrap_or_default();
        let holder = holder.trim();
        let by = if holder.is_empty() { String::new() } else { format!(" by process {holder}") };
        bail!(
            "the data directory {} is in use{by}; stop that one first, or choose another with --data-dir",
            dir.display()
        );
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The attributes of this node that constraints and strategies can go by.
fn node_attributes(config: &UpConfig) -> BTreeMap<String, Option<String>> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    let all = [
        (attribute::ZONE, format!("{}a", config.region)),
        (attribute::OS_TYPE, "linux".to_owned()),
        (attribute::CPU_ARCHITECTURE, architecture.to_owned()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect()
}

/// The node's id, kept over restarts. If the file is lost it is the one the state has: tasks placed on a
/// node that never comes back would wait for ever.
fn node_id(path: &Path, state: &State) -> anyhow::Result<NodeId> {
    match std::fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{} is damaged; remove it, and it is written anew", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let known = state.nodes.keys().next().copied();
            let id = known.unwrap_or_else(|| NodeId(rand::random()));
            write_whole(path, &format!("{id}\n"))?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file so that nobody ever sees half of it.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.file_name().ok_or_else(|| anyhow!("{} does not name a file", path.display()))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Takes away the ready file of an earlier process, which would make this one look ready too soon.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the earlier {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn write_ready_file(path: &Path, running: &Coracle) -> anyhow::Result<()> {
    let ready = json!({ "api": running.api, "router": running.router, "pid": std::process::id() });
    write_whole(path, &format!("{ready}\n"))
}

fn print_welcome(running: &Coracle) -> std::io::Result<()> {
    let Coracle { api, router, .. } = running;
    say!("Coracle is up.")?;
    say!("  API      {api}   (ECS, ELBv2, Logs, IAM, …; metrics at {api}/metrics)")?;
    say!("  router   {router}   (http://SERVICE.CLUSTER.localhost:{}/)", port(router))?;
    say!("  node     {}", running.node)?;
    say!("  data     {}", running.data_dir.display())?;
    say!()?;
    if let Some(NewAdmin { access_key, secret }) = &running.new_admin {
        say!("The access key of the new IAM user admin, shown this once:")?;
        say!("  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}")?;
        say!()?;
    }
    say!("Try, in another terminal:")?;
    let keys = if running.auth { "" } else { " AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any" };
    say!("  export AWS_ENDPOINT_URL={api} AWS_DEFAULT_REGION=us-east-1{keys}")?;
    say!("  coracle push hello.wasm hello:latest")?;
    say!("  aws ecs list-clusters")
}

/// What stands behind the last colon of a URL.
pub(crate) fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap_or(url)
}

/// SIGTERM and Ctrl-C.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on both signals are waited for instead of ending the process.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next of them, and says which it was.
    pub(crate) async fn wait(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

/// What asked the process to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Terminate,
    Interrupt,
}

impl Signal {
    /// What a shell reports for a program that the signal ended.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(128 + 2),
            Self::Terminate => ExitCode::from(128 + 15),
        }
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::{Change, Node, Record};

    use super::*;

    #[test]
    fn a_directory_is_used_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("in use by process") && error.contains("--data-dir"), "{error}");
        drop(held);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn the_limit_of_open_files_is_raised() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        let few = before.maximum.map_or(1000, |most| most.min(1000));
        setrlimit(Resource::Nofile, Rlimit { current: Some(few), ..before }).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: before.maximum, ..before });
    }

    #[tokio::test]
    async fn a_part_that_panics_is_named_and_one_that_ends_is_not() {
        let vital = Vital::new();
        let failed = vital.failed();
        vital.spawn("the first", async {}).await.unwrap();
        assert_eq!(*failed.borrow(), None);
        let part = vital.spawn("the second", async {
            tokio::task::yield_now().await;
            panic!("as the test wants it");
        });
        assert!(part.await.unwrap_err().is_panic());
        assert_eq!(*failed.borrow(), Some("the second"));
    }

    #[test]
    fn the_node_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-id");
        let mut state = State::default();
        let id = node_id(&path, &state).unwrap();
        assert_eq!(node_id(&path, &state).unwrap(), id);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(format!("{:#}", node_id(&path, &state).unwrap_err()).contains("is damaged"));
        // A lost file: the node is still the one whose tasks the state has.
        std::fs::remove_file(&path).unwrap();
        let node = Node::new(id, 1, 1, now(), 1);
        state.apply(&Change::Put(Record::Node(Arc::new(node))), 1);
        assert_eq!(node_id(&path, &state).unwrap(), id);
    }
}
