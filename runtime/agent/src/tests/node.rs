//! A node for tests: an agent with images from the fixtures, and logs in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_sandbox::{ArtifactCache, Engine, EngineConfig};
use coracle_types::{
    Assigned, AssignedTask, ContainerObservation, DesiredStatus, LastStatus, Region, StopCode, Task,
    TaskDefinition, TaskId, TaskObservation, TaskStop, Timestamp,
};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::testing::{config, task};
use crate::{
    Agent, CallError, Endpoint, EndpointTarget, Facilities, FetchedImage, HttpHandle, ImageSource,
    KeyValueSource, LogSink, LogStream, LogTarget, RequestObserver, RoleSource, SecretSource,
};

/// How long anything may take before a test gives up. Generous: the first test compiles the guests.
const DEADLINE: Duration = Duration::from_secs(60);

/// One engine and one cache for the whole process, as in the binary. The directory lies beside the test program and
/// stays, so that only the first run compiles guests.
static ARTIFACTS: LazyLock<ArtifactCache> = LazyLock::new(|| {
    let program = std::env::current_exe().unwrap();
    let engine = Engine::new(&EngineConfig { max_instances: 200, ..EngineConfig::default() }).unwrap();
    ArtifactCache::open(engine, &program.with_file_name("coracle-agent-test-artifacts")).unwrap()
});

/// `http`, `http3`, `command`, `exotic`, and those of links, `caller`, `policy` and `old`, are fixtures; `text` is none;
/// others are missing.
struct Fixtures {
    text: PathBuf,
}

impl ImageSource for Fixtures {
    fn fetch(&self, image: &str) -> BoxFuture<'static, Result<FetchedImage, String>> {
        let path = match image {
            "http" => Ok(coracle_fixtures::http().to_owned()),
            "http3" => Ok(coracle_fixtures::p3_http().to_owned()),
            "command" => Ok(coracle_fixtures::command().to_owned()),
            "caller" => Ok(coracle_fixtures::link_caller().to_owned()),
            "policy" => Ok(coracle_fixtures::link_policy().to_owned()),
            "old" => Ok(coracle_fixtures::link_old().to_owned()),
            "exotic" => Ok(coracle_fixtures::exotic().to_owned()),
            "text" => Ok(self.text.clone()),
            _ => Err(format!("image {image} is not in the registry")),
        };
        let fetched = path.map(|path| {
            let digest = format!("sha256:{:x}", Sha256::digest(std::fs::read(&path).unwrap()));
            FetchedImage { digest, path }
        });
        Box::pin(std::future::ready(fetched))
    }
}

/// Every secret but `missing` has its own name as its value.
struct Secrets;

impl SecretSource for Secrets {
    fn read(&self, _region: &Region, value_from: &str) -> BoxFuture<'static, Result<String, String>> {
        let value = match value_from {
            "missing" => Err("unable to pull secrets or registry auth: no missing".to_owned()),
            name => Ok(name.to_owned()),
        };
        Box::pin(std::future::ready(value))
    }
}

/// The role `out` lets `allowed.internal` be reached, and `wrong` has a rule that is none.
struct Roles;

impl RoleSource for Roles {
    fn egress(&self, role: &str) -> BoxFuture<'static, Result<Vec<String>, String>> {
        let rules = match role {
            "out" => vec!["allowed.internal:80".to_owned()],
            "wrong" => vec!["a b".to_owned()],
            _ => Vec::new(),
        };
        Box::pin(std::future::ready(Ok(rules)))
    }
}

/// Key-value stores that can't be read: no guest here tries.
struct NoValues;

impl KeyValueSource for NoValues {
    fn open(&self, _namespace: &str, _limit_bytes: u64) -> Arc<dyn coracle_sandbox::KeyValue> {
        Arc::new(Self)
    }
}

impl coracle_sandbox::KeyValue for NoValues {
    fn get(&self, _: &str, _: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, String>> {
        Box::pin(std::future::ready(Err("no values".to_owned())))
    }

    fn apply(&self, _: &str, _: Vec<(String, Option<Vec<u8>>)>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(std::future::ready(Err("no values".to_owned())))
    }

    fn keys(&self, _: &str, _: Option<String>, _: usize) -> BoxFuture<'static, Result<Vec<String>, String>> {
        Box::pin(std::future::ready(Err("no values".to_owned())))
    }

    fn increment(&self, _: &str, _: String, _: i64) -> BoxFuture<'static, Result<i64, String>> {
        Box::pin(std::future::ready(Err("no values".to_owned())))
    }

    fn swap(
        &self,
        _: &str,
        _: String,
        _: Option<Vec<u8>>,
        _: Vec<u8>,
    ) -> BoxFuture<'static, Result<bool, String>> {
        Box::pin(std::future::ready(Err("no values".to_owned())))
    }
}

/// Lines by group and stream. They can be read once they are flushed, or the stream had no more room.
#[derive(Default)]
pub(super) struct MemoryLogs(Mutex<BTreeMap<(String, String), Arc<MemoryStream>>>);

#[derive(Default)]
pub(super) struct MemoryStream(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    waiting: Vec<String>,
    readable: Vec<String>,
    most_waiting: usize,
}

/// Lines a stream takes before it makes guests wait.
const ROOM: usize = 100;

impl LogSink for MemoryLogs {
    /// # Panics
    /// When the group is `panic`.
    fn open(&self, target: LogTarget) -> Arc<dyn LogStream> {
        assert_ne!(target.group, "panic", "the log sink was asked to panic");
        let mut streams = self.0.lock();
        Arc::new(Opened(Arc::clone(streams.entry((target.group, target.stream)).or_default())))
    }
}

struct Opened(Arc<MemoryStream>);

impl LogStream for Opened {
    fn line(&self, _timestamp: Timestamp, line: &[u8]) {
        let mut lines = self.0.0.lock();
        lines.waiting.push(String::from_utf8_lossy(line).into_owned());
        lines.most_waiting = lines.most_waiting.max(lines.waiting.len());
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut lines = self.0.0.lock();
        if lines.waiting.len() < ROOM {
            return Poll::Ready(());
        }
        lines.flush();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let stream = Arc::clone(&self.0);
        Box::pin(async move {
            // As a store would: not at once.
            tokio::task::yield_now().await;
            stream.0.lock().flush();
        })
    }
}

impl Lines {
    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.readable.extend(waiting);
    }
}

impl MemoryLogs {
    /// The lines that can be read now.
    pub(super) fn read(&self, group: &str, stream: &str) -> Vec<String> {
        let streams = self.0.lock();
        let found = streams.get(&(group.to_owned(), stream.to_owned()));
        found
            .unwrap_or_else(|| panic!("no {group} {stream} in {:?}", streams.keys()))
            .0
            .lock()
            .readable
            .clone()
    }

    /// How many lines a stream has got, whether they can be read or not.
    pub(super) fn lines(&self, group: &str, stream: &str) -> usize {
        let streams = self.0.lock();
        streams.get(&(group.to_owned(), stream.to_owned())).map_or(0, |stream| {
            let lines = stream.0.lock();
            lines.waiting.len() + lines.readable.len()
        })
    }

    /// The most lines that were ever held for a stream.
    pub(super) fn most_waiting(&self, group: &str, stream: &str) -> usize {
        self.0.lock()[&(group.to_owned(), stream.to_owned())].0.lock().most_waiting
    }
}

pub(super) struct Node {
    pub(super) agent: Agent,
    pub(super) logs: Arc<MemoryLogs>,
    pub(super) directory: TempDir,
    assigned: watch::Sender<Arc<Assigned>>,
    tasks: Vec<AssignedTask>,
    observed: mpsc::UnboundedReceiver<TaskObservation>,
    seen: HashMap<TaskId, Vec<TaskObservation>>,
}

impl Node {
    pub(super) fn new() -> Self {
        Self::observed(None)
    }

    /// One whose requests somebody watches.
    pub(super) fn observed(requests: Option<Arc<dyn RequestObserver>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text.wasm");
        std::fs::write(&text, "FROM scratch\n").unwrap();
        let logs = Arc::new(MemoryLogs::default());
        let (assigned, assigned_rx) = watch::channel(Arc::default());
        let (observed_tx, observed) = mpsc::unbounded_channel();
        let now = AtomicI64::new(1);
        let agent = Agent::spawn(
            config(directory.path().join("volumes")),
            ARTIFACTS.clone(),
            Facilities {
                images: Arc::new(Fixtures { text }),
                logs: Arc::clone(&logs) as Arc<dyn LogSink>,
                secrets: Arc::new(Secrets),
                roles: Arc::new(Roles),
                keyvalue: Arc::new(NoValues),
                clock: Arc::new(move || Timestamp(now.fetch_add(1, Ordering::Relaxed))),
                tls: coracle_sandbox::TlsClient::default(),
                in_process: None,
                requests,
            },
            assigned_rx,
            observed_tx,
        );
        Self { agent, logs, directory, assigned, tasks: Vec::new(), observed, seen: HashMap::new() }
    }

    /// Assigns a task of the definition, changed as said.
    pub(super) fn assign_with(
        &mut self,
        definition: &TaskDefinition,
        change: impl FnOnce(&mut Task),
    ) -> TaskId {
        let mut task = task(definition, self.tasks.len() as u128 + 1);
        change(&mut task);
        let id = task.id;
        self.tasks.push(AssignedTask { task: Arc::new(task), definition: Arc::new(definition.clone()) });
        self.send();
        id
    }

    /// Assigns a task of the definition.
    pub(super) fn assign(&mut self, definition: &TaskDefinition) -> TaskId {
        self.assign_with(definition, |_| {})
    }

    /// Asks for a task's stop, as StopTask does.
    pub(super) fn stop(&mut self, id: TaskId) {
        for assigned in &mut self.tasks {
            if assigned.task.id == id {
                let mut task = Task::clone(&assigned.task);
                task.desired_status = DesiredStatus::Stopped;
                task.stop = Some(TaskStop { code: StopCode::UserInitiated, reason: "enough".to_owned() });
                assigned.task = Arc::new(task);
            }
        }
        self.send();
    }

    /// Takes a task out of the assigned set.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.tasks.retain(|assigned| assigned.task.id != id);
        self.send();
    }

    /// Sends the set again, as of the next generation.
    pub(super) fn send(&self) {
        let generation = self.assigned.borrow().generation + 1;
        self.assigned.send_replace(Arc::new(Assigned { generation, tasks: self.tasks.clone() }));
    }

    /// Sends a set as it is.
    pub(super) fn send_raw(&self, assigned: Assigned) {
        self.assigned.send_replace(Arc::new(assigned));
    }

    /// Waits for a report of the task that fits.
    #[track_caller]
    pub(super) fn until<'a>(
        &'a mut self,
        id: TaskId,
        what: &'a str,
        fits: impl Fn(&TaskObservation) -> bool + 'a,
    ) -> impl Future<Output = TaskObservation> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let search = async {
                loop {
                    if let Some(found) =
                        self.seen.get(&id).and_then(|seen| seen.iter().find(|seen| fits(seen)))
                    {
                        return found.clone();
                    }
                    let seen = self.observed.recv().await.expect("the agent is alive");
                    self.seen.entry(seen.task).or_default().push(seen);
                }
            };
            let found = tokio::time::timeout(DEADLINE, search).await;
            found.unwrap_or_else(|_| panic!("{caller}: no report of {what}; seen: {:#?}", self.seen.get(&id)))
        }
    }

    #[track_caller]
    pub(super) fn running(&mut self, id: TaskId) -> impl Future<Output = TaskObservation> + '_ {
        self.until(id, "RUNNING", |seen| seen.status == LastStatus::Running)
    }

    #[track_caller]
    pub(super) fn stopped(&mut self, id: TaskId) -> impl Future<Output = TaskObservation> + '_ {
        self.until(id, "STOPPED", |seen| seen.status == LastStatus::Stopped)
    }

    /// The states reported of a task so far, each once.
    pub(super) fn walk(&self, id: TaskId) -> Vec<LastStatus> {
        let mut walk: Vec<_> = self.seen[&id].iter().map(|seen| seen.status).collect();
        walk.dedup();
        walk
    }

    /// How many reports of a task have come, those included that nobody has waited for.
    pub(super) fn reports(&mut self, id: TaskId) -> usize {
        while let Ok(seen) = self.observed.try_recv() {
            self.seen.entry(seen.task).or_default().push(seen);
        }
        self.seen.get(&id).map_or(0, Vec::len)
    }

    /// Runs a task to its end.
    pub(super) async fn run(&mut self, definition: &TaskDefinition) -> TaskObservation {
        let id = self.assign(definition);
        self.stopped(id).await
    }

    /// Waits until the endpoints fit.
    pub(super) async fn endpoints(&self, fits: impl Fn(&[Endpoint]) -> bool) -> Arc<Vec<Endpoint>> {
        let mut endpoints = self.agent.endpoints();
        let found = tokio::time::timeout(DEADLINE, endpoints.wait_for(|list| fits(list))).await;
        Arc::clone(&found.expect("the endpoints come to fit").expect("the agent is alive"))
    }

    /// The only endpoint.
    pub(super) async fn endpoint(&self) -> Endpoint {
        self.endpoints(|list| list.len() == 1).await[0].clone()
    }
}

/// Waits for a condition that nothing announces.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "never happened: {what}");
}

pub(super) type Called = Result<Response<coracle_sandbox::ResponseBody>, CallError<Empty<Bytes>>>;

pub(super) async fn call(endpoint: &Endpoint, path: &str) -> Called {
    http(endpoint).call(Request::get(path).body(Empty::new()).unwrap()).await
}

/// What calls an HTTP container.
pub(super) fn http(endpoint: &Endpoint) -> &HttpHandle {
    match &endpoint.target {
        EndpointTarget::Http(handle) => handle,
        EndpointTarget::Socket(socket) => panic!("it listens at {}", socket.address()),
    }
}

/// The status and body of an answer.
pub(super) async fn get(endpoint: &Endpoint, path: &str) -> (StatusCode, String) {
    let response = call(endpoint, path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let status = response.status();
    let body = response.into_body().collect().await.unwrap_or_else(|error| panic!("{path}: {error}"));
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Exit code and reason of a task's container.
pub(super) fn end(seen: &TaskObservation, container: usize) -> (Option<i32>, Option<&str>) {
    let ContainerObservation { exit_code, reason, .. } = &seen.containers[container];
    (*exit_code, reason.as_deref())
}

/// Why a task stopped.
pub(super) fn stop(seen: &TaskObservation) -> (StopCode, &str) {
    let stop = seen.stop.as_ref().expect("the task was stopped");
    (stop.code, &stop.reason)
}

/// A command's arguments.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
