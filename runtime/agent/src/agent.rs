//! The front door, and the loop that owns the running tasks.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_sandbox::{ArtifactCache, InProcess, TlsClient};
use coracle_types::{
    Assigned, AssignedTask, ContainerName, ContainerStatus, LastStatus, NodeId, StopCode, TaskId,
    TaskObservation, TaskStop, Timestamp,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::assignment::{Told, compute_actions, wanted_stop};
use crate::driver::{Command, Driver, Environment, release_volumes};
use crate::endpoints::{Endpoint, EndpointRegistry};
use crate::exec::{ExecError, Execution};
use crate::figures::{Figures, GuestFigure};
use crate::images::ImageSource;
use crate::keyvalue::KeyValueSource;
use crate::logs::LogSink;
use crate::requests::RequestObserver;
use crate::roles::RoleSource;
use crate::secrets::SecretSource;
use crate::usage::{Ledger, TaskRecord, TaskUsage, UsageGroup, UsageTotals};
use crate::volumes;

/// Tells the time of day. Timestamps of tasks and log lines come from it; waiting does not.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What an agent has to know about its node.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The node.
    pub node: NodeId,
    /// The AWS account the tasks belong to, 12 digits; part of their ARNs.
    pub account: String,
    /// The directory for the volumes of tasks. The agent makes it when needed, and removes from it what tasks of an
    /// earlier process have left, so two agents must not share one.
    pub volumes_dir: PathBuf,
    /// Memory the node offers, in MiB: the cap of a container that has a reservation and no cap of its own.
    pub memory_mib: u32,
    /// The directory that stands for all S3 buckets of `environmentFiles`: `arn:aws:s3:::BUCKET/KEY` is the file
    /// `BUCKET/KEY` in it.
    pub environment_files_dir: PathBuf,
}

/// What an agent uses of the process it is in.
pub struct Facilities {
    /// Where components come from.
    pub images: Arc<dyn ImageSource>,
    /// Where output goes.
    pub logs: Arc<dyn LogSink>,
    /// Who knows the values of secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// Who knows what task roles allow.
    pub roles: Arc<dyn RoleSource>,
    /// The key-value stores of tasks.
    pub keyvalue: Arc<dyn KeyValueSource>,
    /// The time of day.
    pub clock: Clock,
    /// Whom outgoing TLS of tasks trusts.
    pub tls: TlsClient,
    /// Services that tasks call by name and that are answered in this process.
    pub in_process: Option<Arc<dyn InProcess>>,
    /// Who wants to be told of every request.
    pub requests: Option<Arc<dyn RequestObserver>>,
}

/// Runs the tasks assigned to one node. Dropping it kills them all, unreported; see [`Agent::shutdown`].
pub struct Agent {
    endpoints: Arc<EndpointRegistry>,
    figures: Arc<Figures>,
    records: Records,
    stopping: watch::Sender<bool>,
    done: watch::Receiver<bool>,
    /// What should run.
    assigned: watch::Receiver<Arc<Assigned>>,
    /// What has been made of it.
    progress: watch::Receiver<Progress>,
    loops: [AbortHandle; 2],
}

/// How far the loop is.
#[derive(Clone, Copy, Default, PartialEq)]
struct Progress {
    /// The generation that it acted on last.
    generation: u64,
    /// How many tasks it has ever started.
    started: u64,
    /// Of those that run, the one that was started first, counted like `started`; equal to it if none runs.
    oldest: u64,
}

/// The tasks that run, and those that have ended and are still assigned.
type Records = Arc<Mutex<Ledger>>;

impl Agent {
    /// Starts an agent on the current tokio runtime, which needs time and I/O.
    ///
    /// Whenever `assigned` changes, what runs is made what it says. When its sender is dropped, what runs goes on.
    /// Everything that changes about a task is sent to `observed`; what is sent there is always the whole picture.
    #[must_use]
    pub fn spawn(
        config: AgentConfig,
        artifacts: ArtifactCache,
        facilities: Facilities,
        assigned: watch::Receiver<Arc<Assigned>>,
        observed: mpsc::UnboundedSender<TaskObservation>,
    ) -> Self {
        let endpoints = EndpointRegistry::new();
        let figures = Arc::<Figures>::default();
        let environment = Arc::new(Environment {
            config,
            artifacts,
            facilities,
            endpoints: Arc::clone(&endpoints),
            figures: Arc::clone(&figures),
            observed,
        });
        let records = Records::default();
        let stopping = watch::Sender::new(false);
        let (send_done, done) = watch::channel(false);
        let (send_progress, progress) = watch::channel(Progress::default());
        let reconciler = Reconciler {
            environment,
            records: Arc::clone(&records),
            running: HashMap::new(),
            commands: HashMap::new(),
            ended: HashSet::new(),
            drivers: JoinSet::new(),
            ids: HashMap::new(),
            numbers: BTreeSet::new(),
            started: 0,
            stopping: false,
            progress: send_progress,
        };
        let publish = tokio::spawn(Arc::clone(&endpoints).publish());
        let reconcile = {
            let (assigned, stopping) = (assigned.clone(), stopping.subscribe());
            tokio::spawn(async move {
                reconciler.run(assigned, stopping).await;
                send_done.send_replace(true);
            })
        };
        let loops = [reconcile.abort_handle(), publish.abort_handle()];
        Self { endpoints, figures, records, stopping, done, assigned, progress, loops }
    }

    /// The HTTP containers that take requests: a new list when a task becomes RUNNING, and before one drains.
    #[must_use]
    pub fn endpoints(&self) -> watch::Receiver<Arc<Vec<Endpoint>>> {
        self.endpoints.subscribe()
    }

    /// Stops every task and takes up no more. Resolves when all of them are STOPPED and reported, which takes as
    /// long as the longest `stopTimeout` of them at most, and writing the last log lines.
    pub async fn shutdown(&self) {
        self.stopping.send_replace(true);
        // It fails when the loop is gone, and its tasks with it.
        let _ = self.done.clone().wait_for(|&done| done).await;
    }

    /// Starts a command beside a running container: in its sandbox, with its limits. `argv` is what it is given, its
    /// own name first; that of a function the component exports calls that function instead.
    ///
    /// Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub fn exec(
        &self,
        task: TaskId,
        container: &ContainerName,
        argv: Vec<String>,
    ) -> Result<Execution, ExecError> {
        let beside = self.records.lock().get(task).and_then(|record| record.beside(container));
        beside.ok_or(ExecError::NotRunning)?.exec(argv)
    }

    /// What the tasks of this node use, in no particular order.
    #[must_use]
    pub fn usage(&self) -> Vec<TaskUsage> {
        self.records.lock().usage()
    }

    /// Forgets what earlier tasks have used, but for the groups of which `keep` is true: the agent does not
    /// know which services there still are. What the tasks use that it still has is counted in any case. The figures
    /// of the other groups are forgotten, too.
    pub fn retain_usage(&self, mut keep: impl FnMut(&UsageGroup) -> bool) {
        self.figures.retain(&mut keep);
        self.records.lock().retain(keep);
    }

    /// The figures that guests keep of their own, up to what [`Agent::retain_usage`] has let go.
    #[must_use]
    pub fn figures(&self) -> Vec<GuestFigure> {
        self.figures.all()
    }

    /// What the tasks of this node have used since the agent started, those included that are long gone, up to
    /// what [`Agent::retain_usage`] has let go.
    #[must_use]
    pub fn usage_totals(&self) -> BTreeMap<UsageGroup, UsageTotals> {
        self.records.lock().totals()
    }

    /// Resolves when all tasks have ended that run now, or are assigned now and still to be taken up. It does not
    /// wait for those that come later.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        let assigned = self.assigned.borrow().generation;
        let mut progress = self.progress.clone();
        async move {
            // It fails when the loop is gone, and its tasks with it.
            let taken_up = progress.wait_for(|now| now.generation >= assigned).await;
            let Ok(started) = taken_up.map(|now| now.started) else { return };
            let _ = progress.wait_for(|now| now.oldest >= started).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for one in &self.loops {
            one.abort();
        }
    }
}

/// The loop that owns the running tasks: wakes, reads everything, acts once, sleeps.
struct Reconciler {
    environment: Arc<Environment>,
    records: Records,
    running: HashMap<TaskId, Told>,
    commands: HashMap<TaskId, mpsc::UnboundedSender<Command>>,
    /// Tasks that have been reported STOPPED and are still assigned.
    ended: HashSet<TaskId>,
    drivers: JoinSet<()>,
    /// Whose driver is which tokio task, and how many were started before it.
    ids: HashMap<tokio::task::Id, (TaskId, u64)>,
    /// The numbers in `ids`.
    numbers: BTreeSet<u64>,
    started: u64,
    stopping: bool,
    progress: watch::Sender<Progress>,
}

impl Reconciler {
    async fn run(
        mut self,
        mut assigned: watch::Receiver<Arc<Assigned>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        self.clear_volumes().await;
        let mut connected = true;
        let mut current = Arc::clone(&assigned.borrow_and_update());
        self.act(&current);
        loop {
            let progress = Progress {
                generation: current.generation,
                started: self.started,
                oldest: self.numbers.first().copied().unwrap_or(self.started),
            };
            self.progress.send_if_modified(|known| std::mem::replace(known, progress) != progress);
            if self.stopping && self.drivers.is_empty() {
                return;
            }
            tokio::select! {
                changed = assigned.changed(), if connected => match changed {
                    Ok(()) => {
                        let newer = Arc::clone(&assigned.borrow_and_update());
                        if newer.generation >= current.generation {
                            current = newer;
                            self.act(&current);
                        } else {
                            tracing::warn!(
                                "an assigned set of generation {} is refused: {} has been seen",
                                newer.generation,
                                current.generation
                            );
                        }
                    }
                    // Whoever assigns is gone. What runs goes on.
                    Err(_) => connected = false,
                },
                Some(joined) = self.drivers.join_next_with_id() => {
                    // One that was to be forgotten may be assigned again by now.
                    if self.joined(joined).await == Some(Told::Forget) {
                        self.act(&current);
                    }
                }
                () = told(&mut stopping), if !self.stopping => self.begin_shutdown(),
            }
        }
    }

    /// Makes what runs what is assigned.
    fn act(&mut self, assigned: &Assigned) {
        let actions = compute_actions(assigned, &self.running, &self.ended);
        for (task, stop) in actions.stop {
            self.tell(task, Told::Stop, Command::Stop(stop));
        }
        for task in actions.forget {
            self.tell(task, Told::Forget, Command::Forget);
        }
        for task in actions.prune {
            self.ended.remove(&task);
            self.records.lock().remove(task);
        }
        if !self.stopping {
            for task in actions.start {
                self.start(task);
            }
        }
    }

    fn start(&mut self, assigned: &AssignedTask) {
        let id = assigned.task.id;
        let record = TaskRecord::new(Arc::clone(&assigned.task));
        self.records.lock().insert(Arc::clone(&record));
        let stop = wanted_stop(assigned);
        let told = if stop.is_some() { Told::Stop } else { Told::Run };
        let (send, commands) = mpsc::unbounded_channel();
        let (environment, definition) = (Arc::clone(&self.environment), Arc::clone(&assigned.definition));
        let driver = self.drivers.spawn(async move {
            Driver::new(environment, record, &definition, stop).run(commands).await;
        });
        self.ids.insert(driver.id(), (id, self.started));
        self.numbers.insert(self.started);
        self.started += 1;
        self.running.insert(id, told);
        self.commands.insert(id, send);
    }

    fn tell(&mut self, task: TaskId, told: Told, command: Command) {
        self.running.insert(task, told);
        if let Some(commands) = self.commands.get(&task) {
            // A driver that does not listen any more is about to be joined.
            let _ = commands.send(command);
        }
    }

    /// A driver has come to its end, or died. Answers what it had been told.
    async fn joined(&mut self, joined: Result<(tokio::task::Id, ()), JoinError>) -> Option<Told> {
        let driver = match &joined {
            Ok((driver, ())) => *driver,
            Err(error) => error.id(),
        };
        let (task, number) = self.ids.remove(&driver)?;
        self.numbers.remove(&number);
        self.commands.remove(&task);
        let told = self.running.remove(&task);
        let record = self.records.lock().get(task);
        if let (Err(error), Some(record)) = (joined, record) {
            record.ended();
            release_volumes(&self.environment, task).await;
            let text = match error.try_into_panic() {
                Ok(panic) => panic_text(&*panic),
                Err(_) => "it was cancelled".to_owned(),
            };
            tracing::error!(%task, "the task's driver failed: {text}");
            if told != Some(Told::Forget) {
                let last = after_panic(&record, &text, (self.environment.facilities.clock)());
                *record.reported.lock() = Some(last.clone());
                let _ = self.environment.observed.send(last);
            }
        }
        if told == Some(Told::Forget) {
            self.records.lock().remove(task);
        } else {
            self.ended.insert(task);
        }
        told
    }

    fn begin_shutdown(&mut self) {
        self.stopping = true;
        let stop = TaskStop {
            code: StopCode::TerminationNotice,
            reason: format!("Host node ({}) stopped/terminated.", self.environment.config.node),
        };
        let running = self.running.iter().filter(|&(_, &told)| told == Told::Run).map(|(&id, _)| id);
        for task in running.collect::<Vec<_>>() {
            self.tell(task, Told::Stop, Command::Stop(stop.clone()));
        }
    }

    /// Removes what tasks of an earlier process have left.
    async fn clear_volumes(&self) {
        let directory = self.environment.config.volumes_dir.clone();
        let cleared = tokio::task::spawn_blocking(move || volumes::release_all(&directory)).await;
        if let Ok(Err(error)) = cleared {
            tracing::warn!("volumes of earlier tasks can't be removed: {error}");
        }
    }
}

/// Resolves when the agent is told to stop, or there is no agent any more.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|&stopping| stopping).await;
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(200).collect()
}

/// The last report of a task whose driver has died: it has taken everything with it.
fn after_panic(record: &TaskRecord, text: &str, now: Timestamp) -> TaskObservation {
    let task = &record.task;
    let mut last = record.reported.lock().clone().unwrap_or_else(|| TaskObservation::unseen(task));
    last.status = LastStatus::Stopped;
    last.stop.get_or_insert_with(|| TaskStop {
        code: if last.started_at.is_some() {
            StopCode::TerminationNotice
        } else {
            StopCode::TaskFailedToStart
        },
        reason: format!("The agent failed while it ran the task: {text}"),
    });
    last.stopping_at.get_or_insert(now);
    last.execution_stopped_at.get_or_insert(now);
    last.stopped_at.get_or_insert(now);
    for container in &mut last.containers {
        container.status = ContainerStatus::Stopped;
    }
    last
}
