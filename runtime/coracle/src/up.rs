//! `coracle up`: the control plane and the data plane in one process.
//!
//! Order matters twice. Starting: the store first, then the node registers (which tells apart the
//! tasks that died with an earlier process), then what serves. Stopping: the plan loop first, so that
//! nothing is started any more; then the router finishes its requests; then the agent stops its tasks
//! and their ends are written down; the API last.

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use coracle_agent::{Agent, AgentConfig};
use coracle_control::node_link;
use coracle_logs::LogStore;
use coracle_registry::Registry;
use coracle_router::{Router, RouterConfig};
use coracle_sandbox::{ArtifactCache, Engine, EngineConfig};
use coracle_server::{Api, ApiConfig};
use coracle_store::{RedbStore, Store};
use coracle_types::{NodeId, Timestamp};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::UpConfig;
use crate::images::RegistryImages;
use crate::log_sink::StoreLogs;
use crate::metrics::Metrics;
use crate::routes;

/// How long requests that are still being answered may keep the process from stopping.
const DRAIN: Duration = Duration::from_secs(30);

/// Starts everything, says where it is, and runs until SIGTERM or Ctrl-C.
pub(crate) async fn up(config: UpConfig) -> anyhow::Result<ExitCode> {
    let ready_file = config.ready_file.clone();
    let mut stop = Signals::listen()?;
    let running = Coracle::start(config).await?;
    if let Some(path) = &ready_file {
        write_ready_file(path, &running)?;
    }
    print_welcome(&running);
    stop.wait().await;
    eprintln!("coracle: stopping; Ctrl-C again to stop at once");
    tokio::select! {
        () = running.stop() => Ok(ExitCode::SUCCESS),
        () = stop.wait() => bail!("stopped before every task had ended"),
    }
}

/// A whole Coracle in this process.
pub(crate) struct Coracle {
    /// The API's URL.
    pub(crate) api: String,
    /// The router's URL.
    pub(crate) router: String,
    data_dir: PathBuf,
    node: String,
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
    /// Held for as long as the process uses the directory.
    _lock: File,
}

impl Coracle {
    /// Opens the data directory and starts everything.
    pub(crate) async fn start(config: UpConfig) -> anyhow::Result<Self> {
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
        let lock = lock(dir)?;
        // Both ports first: a port that is taken is found before anything has been touched.
        let api_listener = bind(config.api, "the API", "--api").await?;
        let router_listener = bind(config.router, "the router", "--router").await?;
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
        let engine = Engine::new(&EngineConfig::default()).context("cannot start the WebAssembly engine")?;
        let artifacts = ArtifactCache::open(engine.clone(), &dir.join("artifacts"))?;

        let logs = logs.await?.context("cannot open the log store")?;

        let node_id = node_id(&dir.join("node-id"))?;
        let node = node_link::register(&*store, node_id, config.cpu, config.memory, now()).await?;
        let node_text = format!("{} CPU units and {} MiB", node.cpu_units, node.memory_mib);

        let (assigned_tx, assigned) = watch::channel(Arc::default());
        let (observed, observed_rx) = mpsc::unbounded_channel();
        let agent = Arc::new(Agent::spawn(
            AgentConfig {
                node: node.id,
                volumes_dir: dir.join("volumes"),
                account: config.account.to_string(),
                memory_mib: node.memory_mib,
            },
            artifacts.clone(),
            Arc::new(RegistryImages(Arc::clone(&registry))),
            Arc::new(StoreLogs::new(&logs)),
            Arc::new(now),
            assigned,
            observed,
        ));

        let (plan_stop, plan_stopped) = watch::channel(false);
        let (report_stop, report_stopped) = watch::channel(false);
        let (router_stop, router_stopped) = watch::channel(false);
        let (api_stop, api_stopped) = watch::channel(false);

        let metrics = Metrics::new(Arc::clone(&store), Arc::clone(&agent), engine, artifacts);
        let router = Router::new(
            RouterConfig { drain_timeout: DRAIN, ..RouterConfig::default() },
            metrics.registry(),
        )?;
        tokio::spawn(routes::run(
            router.clone(),
            Arc::clone(&store),
            agent.endpoints(),
            config.region.clone(),
        ));
        tokio::spawn(node_link::feed(Arc::clone(&store), node, assigned_tx, report_stopped.clone()));
        let report_loop = tokio::spawn(node_link::report(Arc::clone(&store), observed_rx, report_stopped));
        let seed = rand::random();
        let plan_loop = tokio::spawn(coracle_control::run(Arc::clone(&store), now, seed, plan_stopped));
        let router_loop = tokio::spawn({
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
                allow_reset: config.allow_reset,
            },
            store,
            logs,
            registry,
        )
        .with_metrics({
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.render())
        })
        .with_reset({
            let agent = Arc::clone(&agent);
            Arc::new(move || {
                let agent = Arc::clone(&agent);
                Box::pin(async move { agent.idle().await })
            })
        });
        let app = coracle_server::app(api);
        let api_loop = tokio::spawn(async move {
            if let Err(error) = coracle_server::serve(api_listener, app, wait_for(api_stopped)).await {
                tracing::error!("the API stopped: {error}");
            }
        });
        Ok(Self {
            api: api_url,
            router: router_url,
            data_dir: config.data_dir,
            node: node_text,
            agent,
            plan_stop,
            report_stop,
            router_stop,
            api_stop,
            plan_loop,
            report_loop,
            router_loop,
            api_loop,
            _lock: lock,
        })
    }

    /// Stops everything in order: requests are answered, tasks get their `stopTimeout`, and what was
    /// acknowledged is on disk.
    pub(crate) async fn stop(self) {
        self.plan_stop.send_replace(true);
        join(self.plan_loop, "the scheduler").await;
        self.router_stop.send_replace(true);
        join(self.router_loop, "the router").await;
        self.agent.shutdown().await;
        self.report_stop.send_replace(true);
        join(self.report_loop, "the node's reports").await;
        self.api_stop.send_replace(true);
        join(self.api_loop, "the API").await;
    }
}

async fn join(handle: JoinHandle<()>, what: &str) {
    if let Err(error) = handle.await {
        tracing::error!("{what} ended badly: {error}");
    }
}

/// Resolves once the switch is on, or gone.
fn wait_for(mut switch: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    async move {
        // An error means the sender is gone, which is also the end.
        let _ = switch.wait_for(|&stopped| stopped).await;
    }
}

/// The wall clock. The only place that reads it for the control plane and the agent.
fn now() -> Timestamp {
    let millis = UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis());
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
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

/// The node's id, kept over restarts.
fn node_id(path: &Path) -> anyhow::Result<NodeId> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = NodeId(rand::random());
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

fn write_ready_file(path: &Path, running: &Coracle) -> anyhow::Result<()> {
    let ready = json!({ "api": running.api, "router": running.router, "pid": std::process::id() });
    write_whole(path, &format!("{ready}\n"))
}

fn print_welcome(running: &Coracle) {
    let Coracle { api, router, .. } = running;
    println!("Coracle is up.");
    println!("  API      {api}   (ECS, CloudWatch Logs, STS; metrics at {api}/metrics)");
    println!("  router   {router}   (http://SERVICE.CLUSTER.localhost:{}/)", port(router));
    println!("  node     {}", running.node);
    println!("  data     {}", running.data_dir.display());
    println!();
    println!("Try, in another terminal:");
    println!(
        "  export AWS_ENDPOINT_URL={api} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    );
    println!("  coracle push hello.wasm hello:latest");
    println!("  aws ecs list-clusters");
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

    /// Resolves at the next of them.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn the_node_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-id");
        assert_eq!(node_id(&path).unwrap(), node_id(&path).unwrap());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(format!("{:#}", node_id(&path).unwrap_err()).contains("is damaged"));
    }
}
