//! Drives one task: does what its [`Machine`] says, and brings it what happens.
//!
//! Everything that takes time is a piece of work in one [`JoinSet`] that ends in one event. When the driver is
//! dropped or panics, the set stops its work and the containers die with their slots, so nothing of a task
//! outlives its driver but its volumes, which whoever spawned the driver removes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_sandbox::{
    ArtifactCache, Container, ContainerError, ContainerSpec, CpuBudget, EgressPolicy, Exit, Files,
    Invocation, Link, LinkError, MemoryBudget, Mount, Plugin, PrepareError, Prepared,
};
use coracle_types::{Task, TaskDefinition, TaskObservation, TaskStop};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::agent::{AgentConfig, Facilities};
use crate::endpoints::{Endpoint, EndpointRegistry, EndpointTarget, Published};
use crate::exec::Beside;
use crate::figures::Figures;
use crate::handle::{HttpHandle, SocketHandle};
use crate::health::Check;
use crate::keyvalue;
use crate::logs::LogOutput;
use crate::machine::{Effect, Event, Kind, Machine};
use crate::metadata::Metadata;
use crate::network::TaskNetwork;
use crate::probe::Probe;
use crate::requests::Watch;
use crate::resolve::{
    CallPlan, ContainerRules, CpuPlan, MountPlan, ResolveError, ResolvedContainer, ResolvedTask,
    cannot_start, resolve,
};
use crate::roles;
use crate::secrets::{self, Variables};
use crate::usage::{TaskRecord, UsageGroup};
use crate::volumes::{self, MountedVolume};

/// How long a container's end waits for its last lines to be written. A log store that hangs must not keep
/// tasks from ending; what it has not taken after this long is given up, and said so.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// What all tasks of a node share.
pub(crate) struct Environment {
    pub(crate) config: AgentConfig,
    pub(crate) artifacts: ArtifactCache,
    pub(crate) facilities: Facilities,
    pub(crate) endpoints: Arc<EndpointRegistry>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) observed: mpsc::UnboundedSender<TaskObservation>,
}

/// What a driver is told from outside.
#[derive(Debug)]
pub(crate) enum Command {
    Stop(TaskStop),
    /// Be gone, and report nothing more.
    Forget,
}

/// How a piece of work ended.
enum Done {
    Event(Event),
    Prepared {
        container: usize,
        digest: String,
        prepared: Prepared,
    },
    /// The task's volumes are there, and so are the variables of its containers.
    Provisioned(Provisions),
    /// Nothing that matters to the machine.
    Quiet,
}

/// What is made and got for a task before its containers start.
#[derive(Default)]
struct Provisions {
    /// By container; empty where none needs any.
    variables: Vec<Variables>,
    volumes: Vec<MountedVolume>,
    /// What its role lets its containers reach.
    egress: EgressPolicy,
}

/// What a task's containers share.
struct Budgets {
    /// By container: its part of the task's.
    cpu: Vec<CpuBudget>,
    memory: MemoryBudget,
    files: Files,
}

/// One task on its way.
pub(crate) struct Driver {
    environment: Arc<Environment>,
    record: Arc<TaskRecord>,
    task: Arc<Task>,
    resolved: Option<Arc<ResolvedTask>>,
    machine: Machine,
    budgets: Option<Budgets>,
    network: Option<TaskNetwork>,
    provisions: Provisions,
    slots: Vec<Slot>,
    work: JoinSet<Done>,
    /// What happened while effects were carried out.
    events: VecDeque<Event>,
    forgotten: bool,
}

/// What the driver holds of one container.
#[derive(Default)]
struct Slot {
    prepared: Option<Prepared>,
    running: Option<Running>,
    /// What others are linked to, from one run of the container to the next.
    exports: Option<Plugin>,
}

impl Slot {
    /// Lets others call what its container exports: those that are linked to it, or were to its last run.
    fn offer(&mut self, container: &Container) -> Result<(), String> {
        match &self.exports {
            Some(exports) => exports.attach(container),
            None => Plugin::of(container).map(|plugin| self.exports = Some(plugin)),
        }
        .map_err(|error| error.to_string())
    }
}

/// A container that runs.
struct Running {
    container: Container,
    kill: Option<oneshot::Sender<()>>,
    serving: Option<Arc<Serving>>,
    probe: Option<(Probe, Duration)>,
    check: Option<AbortHandle>,
    /// What commands run in, where the task takes any. They end when this is dropped.
    _beside: Option<Arc<Beside>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(check) = &self.check {
            check.abort();
        }
        self.container.kill();
    }
}

/// A container's connection to the router.
struct Serving {
    target: EndpointTarget,
    publication: Mutex<Publication>,
}

/// Whether the router knows a container.
enum Publication {
    NotYet,
    Published(Published),
    /// Not any more, and not again.
    Withdrawn,
}

impl Serving {
    fn new(target: EndpointTarget) -> Arc<Self> {
        Arc::new(Self { target, publication: Mutex::new(Publication::NotYet) })
    }

    /// Puts the container into the router's list, unless it has left before it came; resolves once the list with it
    /// is out.
    async fn publish(&self, registry: &Arc<EndpointRegistry>, position: usize, endpoint: Endpoint) {
        let published = {
            let mut publication = self.publication.lock();
            if !matches!(*publication, Publication::NotYet) {
                return;
            }
            let published = registry.insert(position, endpoint);
            let visible = published.visible();
            *publication = Publication::Published(published);
            visible
        };
        published.await;
    }

    /// Leaves the router's list, and resolves once the list without it is out.
    async fn withdraw(&self) {
        let before = std::mem::replace(&mut *self.publication.lock(), Publication::Withdrawn);
        if let Publication::Published(published) = before {
            published.withdraw().await;
        }
    }
}

impl Driver {
    pub(crate) fn new(
        environment: Arc<Environment>,
        record: Arc<TaskRecord>,
        definition: &TaskDefinition,
        stop: Option<TaskStop>,
    ) -> Self {
        let task = Arc::clone(&record.task);
        let mut events = VecDeque::new();
        let resolved = resolve(&task, definition, &environment.config).and_then(|resolved| {
            let resolved = Arc::new(resolved);
            let account = environment.config.account.clone();
            let metadata = Metadata::new(account, Arc::clone(&record), Arc::clone(&resolved));
            let network = task_network(&resolved, metadata, &environment.facilities)?;
            Ok((resolved, network))
        });
        let (resolved, network) = match resolved {
            Ok((resolved, network)) => (Ok(resolved), Some(network)),
            Err(error) => (Err(error), None),
        };
        let rules: Vec<_> = match &resolved {
            Ok(resolved) => resolved.containers.iter().map(|container| container.rules.clone()).collect(),
            Err(_) => ContainerRules::unresolved(&task),
        };
        events.push_back(match (&resolved, stop) {
            (_, Some(stop)) => Event::Stop(stop),
            (Ok(_), None) => Event::Begin,
            (Err(error), None) => {
                Event::Unresolvable { container: error.container, reason: error.reason.clone() }
            }
        });
        let resolved = resolved.ok();
        let budgets = resolved.as_ref().map(|resolved| {
            let cpu = match resolved.cpu {
                CpuPlan::Capped(units) => CpuBudget::capped(units),
                CpuPlan::Shares(units) => CpuBudget::shares(units),
            };
            let memory = MemoryBudget::new(resolved.memory);
            record.set_budgets(cpu.clone(), memory.clone());
            let cpu = match &*resolved.containers {
                // Nothing to divide.
                [_] => vec![cpu],
                containers => containers.iter().map(|container| cpu.part(container.cpu)).collect(),
            };
            Budgets { cpu, memory, files: Files::new(resolved.open_files) }
        });
        Self {
            slots: rules.iter().map(|_| Slot::default()).collect(),
            machine: Machine::new(task.id, rules),
            environment,
            record,
            task,
            resolved,
            budgets,
            network,
            provisions: Provisions::default(),
            work: JoinSet::new(),
            events,
            forgotten: false,
        }
    }

    /// Drives the task to its end.
    ///
    /// # Panics
    /// When a piece of its work does: whoever spawned the driver reports it.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            while let Some(event) = self.events.pop_front() {
                tracing::trace!(task = %self.task.id, ?event, "event");
                for effect in self.machine.handle(event, (self.environment.facilities.clock)()) {
                    self.carry_out(effect).await;
                }
            }
            if self.machine.is_over() {
                return;
            }
            let event = tokio::select! {
                biased;
                Some(command) = commands.recv() => match command {
                    Command::Stop(stop) => Some(Event::Stop(stop)),
                    Command::Forget => {
                        self.forgotten = true;
                        Some(Event::Forget)
                    }
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.take_in(done),
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // A check that was called off.
                        Err(_) => None,
                    },
                },
            };
            self.events.extend(event);
        }
    }

    /// Makes an event of a finished piece of work.
    fn take_in(&mut self, done: Done) -> Option<Event> {
        Some(match done {
            Done::Quiet => return None,
            Done::Provisioned(provisions) => {
                self.provisions = provisions;
                Event::Mounted
            }
            Done::Prepared { container, digest, prepared } => {
                self.slots[container].prepared = Some(prepared);
                Event::Pulled { container, digest }
            }
            Done::Event(event) => {
                if let Event::Exited { container, .. } = &event {
                    self.slots[*container].running = None;
                }
                event
            }
        })
    }

    /// Does what the machine wants, or begins to.
    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Report(observation) => {
                tracing::debug!(task = %self.task.id, status = ?observation.status, "task");
                *self.record.reported.lock() = Some(observation.clone());
                if !self.forgotten {
                    // Nobody listens any more when the process is about to end.
                    let _ = self.environment.observed.send(observation);
                }
            }
            Effect::Release => {
                self.record.ended();
                let mine = self.resolved.as_ref().is_some_and(|resolved| !resolved.volumes.is_empty());
                if !mine {
                    self.events.push_back(Event::Released);
                    return;
                }
                let (environment, task) = (Arc::clone(&self.environment), self.task.id);
                self.work.spawn(async move {
                    release_volumes(&environment, task).await;
                    Done::Event(Event::Released)
                });
            }
            effect => {
                // Only a resolved task is ever begun.
                if let Some(resolved) = self.resolved.clone() {
                    self.carry_out_resolved(effect, &resolved).await;
                }
            }
        }
    }

    async fn carry_out_resolved(&mut self, effect: Effect, resolved: &Arc<ResolvedTask>) {
        match effect {
            Effect::Pull(container) => {
                let (environment, resolved) = (Arc::clone(&self.environment), Arc::clone(resolved));
                self.work.spawn(async move {
                    match pull(&environment, &resolved.containers[container]).await {
                        Ok((digest, prepared)) => Done::Prepared { container, digest, prepared },
                        Err(reason) => Done::Event(Event::Failed { container: Some(container), reason }),
                    }
                });
            }
            Effect::Mount => {
                let more = resolved.containers.iter().any(|container| !container.variables.is_empty());
                if resolved.volumes.is_empty() && resolved.role.is_none() && !more {
                    self.events.push_back(Event::Mounted);
                    return;
                }
                let (environment, resolved) = (Arc::clone(&self.environment), Arc::clone(resolved));
                let task = Arc::clone(&self.task);
                self.work.spawn(async move {
                    match provision(&environment, &resolved, &task).await {
                        Ok(provisions) => Done::Provisioned(provisions),
                        Err(reason) => Done::Event(Event::MountFailed { reason }),
                    }
                });
            }
            Effect::Start(container) => self.start(container, &resolved.containers[container]),
            Effect::ArmStartTimeout { container, after } => {
                self.work.spawn(async move {
                    tokio::time::sleep(after).await;
                    Done::Event(Event::StartTimedOut { container })
                });
            }
            Effect::Check { container, after } => {
                let Some(running) = &mut self.slots[container].running else { return };
                let Some((probe, timeout)) = running.probe.clone() else { return };
                running.check = Some(self.work.spawn(async move {
                    tokio::time::sleep(after).await;
                    Done::Event(Event::Checked { container, passed: probe.passes(timeout).await })
                }));
            }
            Effect::Publish(container) => {
                let Some(serving) = self.serving(container) else { return };
                let endpoint = Endpoint {
                    task: Arc::clone(&self.task),
                    container: resolved.containers[container].rules.name.clone(),
                    ports: resolved.containers[container].ports.clone(),
                    target: serving.target.clone(),
                };
                let registry = Arc::clone(&self.environment.endpoints);
                match &serving.target {
                    EndpointTarget::Http(_) => serving.publish(&registry, container, endpoint).await,
                    // It has started, and listens when it gets there.
                    EndpointTarget::Socket(socket) => {
                        let address = socket.address();
                        self.work.spawn(async move {
                            until_it_listens(address).await;
                            serving.publish(&registry, container, endpoint).await;
                            Done::Quiet
                        });
                    }
                }
            }
            Effect::Drain(container) => {
                let serving = self.serving(container);
                let stop_timeout = resolved.containers[container].stop_timeout;
                self.work.spawn(async move {
                    let forced = match serving {
                        Some(serving) => !drain(&serving, stop_timeout).await,
                        None => false,
                    };
                    Done::Event(Event::Drained { container, forced })
                });
            }
            Effect::Kill(container) => {
                let running = self.slots[container].running.as_mut();
                if let Some(kill) = running.and_then(|running| running.kill.take()) {
                    // Fails when the container has just ended by itself, which comes as an event too.
                    let _ = kill.send(());
                }
            }
            Effect::Report(_) | Effect::Release => {}
        }
    }

    fn serving(&self, container: usize) -> Option<Arc<Serving>> {
        self.slots[container].running.as_ref()?.serving.clone()
    }

    /// Starts a container; what comes of it is the next event.
    fn start(&mut self, container: usize, plan: &ResolvedContainer) {
        let event = match self.try_start(container, plan) {
            Ok(kind) => Event::Started { container, kind },
            Err(reason) => Event::Failed {
                container: Some(container),
                reason: cannot_start(&format!("container {}: {reason}", plan.rules.name)),
            },
        };
        self.events.push_back(event);
    }

    fn try_start(&mut self, position: usize, plan: &ResolvedContainer) -> Result<Kind, String> {
        let (Some(prepared), Some(budgets), Some(network)) =
            (self.slots[position].prepared.clone(), &self.budgets, &self.network)
        else {
            return Err("its image is not prepared".to_owned());
        };
        let env = plan.environment(self.provisions.variables.get(position).unwrap_or(&Variables::default()));
        let namespace = keyvalue::namespace(&self.task, plan.labels.keyvalue.as_deref());
        let keyvalue_limit = plan.labels.keyvalue_limit.unwrap_or(keyvalue::DEFAULT_LIMIT);
        let spec = ContainerSpec {
            config: Some(plan.config(&env)),
            keyvalue: Some(self.environment.facilities.keyvalue.open(&namespace, keyvalue_limit)),
            metrics: Some(self.environment.figures.desk(UsageGroup::of(&self.task))),
            env,
            network: network.with_egress(&plan.labels.egress.joined(&self.provisions.egress)),
            ..container_spec(plan, &budgets.cpu[position], budgets, &self.provisions.volumes)
        };
        let log = plan.log.clone().map(|target| {
            LogOutput::new(
                self.environment.facilities.logs.open(target),
                Arc::clone(&self.environment.facilities.clock),
                spec.memory.clone(),
            )
        });
        let links = self.links(plan)?;
        let spec = ContainerSpec { links, ..spec };
        let mut own = spec.clone();
        if let Some(log) = &log {
            own.output = Arc::new(log.clone());
        }
        let container = Container::new(&prepared, own).map_err(|error| cannot_contain(&error))?;
        let exports = container.exports();
        let call = match &plan.call {
            Some(call) if !exports.http && !exports.command => Some(call_of(&container, call)?),
            _ => None,
        };
        self.record.started(container.clone());
        if plan.is_linked_to {
            self.slots[position].offer(&container)?;
        }

        // A component that offers both is here to answer requests; its command is for health checks.
        let http = exports.http;
        let listens =
            plan.ports.first().and_then(|&port| network.address(port)).filter(|_| !http && exports.command);
        let (kind, serving) = match (http, listens) {
            (true, _) => {
                let watch = self.environment.facilities.requests.clone().map(|observer| Watch {
                    observer,
                    task: self.task.id,
                    container: plan.rules.name.as_str().into(),
                });
                let handle = HttpHandle::new(container.clone(), watch);
                network.serve(&plan.ports, &handle);
                (Kind::Http, Some(Serving::new(EndpointTarget::Http(handle))))
            }
            (false, Some(address)) => {
                (Kind::Server, Some(Serving::new(EndpointTarget::Socket(SocketHandle::new(address)))))
            }
            (false, None) if exports.command || call.is_some() => (Kind::Command, None),
            (false, None) => (Kind::Plugin, None),
        };
        let exports = self.slots[position].exports.clone();
        let takes_commands =
            self.task.rest.get("enableExecuteCommand").and_then(Value::as_bool) == Some(true);
        let beside = takes_commands.then(|| Beside::new(prepared.clone(), spec.clone()));
        if let Some(beside) = &beside {
            self.record.takes_commands(plan.rules.name.clone(), beside);
        }
        let probe = self.probe(position, plan, &container, prepared, spec);
        let (kill, killed) = oneshot::channel();
        match &serving {
            Some(serving) if kind == Kind::Http => {
                let (container, serving) = (container.clone(), Arc::clone(serving));
                self.work.spawn(async move {
                    let exit = serve(&container, &serving, killed).await;
                    finish(exports.as_ref(), log.as_ref()).await;
                    Done::Event(Event::Exited { container: position, exit })
                });
            }
            _ if kind == Kind::Plugin => {
                let container = container.clone();
                self.work.spawn(async move {
                    let exit = until_it_ends(&container, killed).await;
                    container.kill();
                    finish(exports.as_ref(), log.as_ref()).await;
                    Done::Event(Event::Exited { container: position, exit })
                });
            }
            serving => {
                let (container, serving) = (container.clone(), serving.clone());
                let stop_timeout = plan.stop_timeout;
                self.work.spawn(async move {
                    let exit = run(&container, call, killed, stop_timeout).await;
                    if let Some(serving) = serving {
                        serving.withdraw().await;
                        serving.target.close();
                    }
                    finish(exports.as_ref(), log.as_ref()).await;
                    Done::Event(Event::Exited { container: position, exit })
                });
            }
        }
        self.slots[position].running =
            Some(Running { container, kill: Some(kill), serving, probe, check: None, _beside: beside });
        Ok(kind)
    }

    /// What a container's imports are linked to. Those containers have started: it waited for them.
    fn links(&self, plan: &ResolvedContainer) -> Result<Vec<Link>, String> {
        let Some(resolved) = &self.resolved else { return Ok(Vec::new()) };
        let links = plan.links.iter().map(|(position, interface)| {
            let container = resolved.containers[*position].rules.name.to_string();
            let exports = self.slots[*position].exports.clone();
            let exports = exports
                .ok_or_else(|| format!("container {container}, which it is linked to, is not there"))?;
            Ok(Link { interface: interface.clone(), container, exports })
        });
        links.collect()
    }

    /// How a container is checked, if it is. A check that its component can't answer is told to the machine.
    fn probe(
        &mut self,
        position: usize,
        plan: &ResolvedContainer,
        container: &Container,
        prepared: Prepared,
        spec: ContainerSpec,
    ) -> Option<(Probe, Duration)> {
        let health = plan.health.as_ref()?;
        let exports = container.exports();
        let note = match &health.check {
            Check::Http(fetch) if exports.http => {
                return Some((
                    Probe::Http { container: container.clone(), fetch: fetch.clone() },
                    health.timeout,
                ));
            }
            Check::Command(arguments) if exports.command => {
                let args = spec.args.iter().take(1).chain(arguments).cloned().collect();
                let spec = Box::new(ContainerSpec { args, ..spec });
                return Some((Probe::Command { prepared, spec }, health.timeout));
            }
            Check::Http(_) => {
                "health check can't run, so the health stays UNKNOWN: the component answers no HTTP requests"
                    .to_owned()
            }
            Check::Command(_) => {
                "health check can't run, so the health stays UNKNOWN: the component exports no wasi:cli/run"
                    .to_owned()
            }
            Check::Impossible(reason) => reason.clone(),
        };
        tracing::warn!(task = %self.task.id, container = %plan.rules.name, "{note}");
        self.events.push_back(Event::Uncheckable { container: position, note });
        None
    }
}

/// Limits and grants of one container. Its output goes nowhere yet.
fn container_spec(
    plan: &ResolvedContainer,
    cpu: &CpuBudget,
    budgets: &Budgets,
    volumes: &[MountedVolume],
) -> ContainerSpec {
    let default = ContainerSpec::default();
    let mount = |mount: &MountPlan| {
        let MountedVolume { directory, quota } = volumes.get(mount.volume)?.clone();
        Some(Mount { host: directory, guest: mount.guest.clone(), read_only: mount.read_only, quota })
    };
    ContainerSpec {
        args: plan.args.clone(),
        mounts: plan.mounts.iter().filter_map(mount).collect(),
        files: budgets.files.clone(),
        working_dir: plan.working_dir.clone(),
        cpu: cpu.clone(),
        memory: budgets.memory.child(plan.memory),
        fuel_per_run: plan.labels.fuel_per_run,
        fuel_per_request: plan.labels.fuel_per_request,
        request_timeout: plan.labels.request_timeout.unwrap_or(default.request_timeout),
        instance_reuse: plan.labels.instance_reuse,
        instance_concurrency: plan.labels.concurrency,
        max_concurrency: plan.labels.max_requests.unwrap_or(default.max_concurrency),
        ..default
    }
}

/// The network of a task.
fn task_network(
    resolved: &ResolvedTask,
    metadata: Metadata,
    facilities: &Facilities,
) -> Result<TaskNetwork, ResolveError> {
    let (tls, beyond) = (facilities.tls.clone(), facilities.in_process.clone());
    TaskNetwork::new(resolved.network_mode, resolved.network_quotas, tls, metadata, beyond)
        .map_err(|error| ResolveError { container: None, reason: cannot_start(&error.to_string()) })
}

/// Makes a task's volumes, gets the variables of its containers, and asks what its role allows.
///
/// # Errors
/// The whole text of the task's `stoppedReason`.
async fn provision(
    environment: &Arc<Environment>,
    resolved: &Arc<ResolvedTask>,
    task: &Task,
) -> Result<Provisions, String> {
    let not_initialized = |reason: String| format!("ResourceInitializationError: {reason}");
    let on_disk = {
        let (environment, resolved, task) = (Arc::clone(environment), Arc::clone(resolved), task.id);
        tokio::task::spawn_blocking(move || {
            let directory = &environment.config.volumes_dir;
            let volumes = volumes::prepare(&resolved.volumes, resolved.ephemeral, task, directory)
                .map_err(|error| cannot_start(&error.to_string()))?;
            let files = resolved.containers.iter().map(|one| secrets::read_files(&one.variables.files));
            let files = files.collect::<Result<Vec<_>, _>>().map_err(not_initialized)?;
            Ok::<_, String>((volumes, files))
        })
    };
    let (volumes, files) = on_disk.await.map_err(|error| cannot_start(&error.to_string()))??;
    let mut variables = Vec::new();
    for (container, files) in resolved.containers.iter().zip(files) {
        let mut secrets = Vec::new();
        for (name, value_from) in &container.variables.secrets {
            let value = environment
                .facilities
                .secrets
                .read(&task.cluster.region, value_from)
                .await
                .map_err(not_initialized)?;
            secrets.push((name.clone(), value));
        }
        variables.push(Variables { files, secrets });
    }
    let egress = match &resolved.role {
        Some(role) => {
            roles::egress_of(&*environment.facilities.roles, role).await.map_err(not_initialized)?
        }
        None => EgressPolicy::default(),
    };
    Ok(Provisions { variables, volumes, egress })
}

/// How long until a container that does not listen yet is asked again: at first, and at most.
const LISTEN_POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// Resolves once somebody takes connections at an address.
async fn until_it_listens(address: SocketAddr) {
    let (mut pause, longest) = LISTEN_POLL;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Fetches an image and makes it ready to run; answers its digest too.
async fn pull(environment: &Environment, plan: &ResolvedContainer) -> Result<(String, Prepared), String> {
    let image = plan.image.as_str();
    let fetched = environment
        .facilities
        .images
        .fetch(image)
        .await
        .map_err(|reason| format!("CannotPullContainerError: {reason}"))?;
    let prepared = environment.artifacts.prepare(&fetched.digest, &fetched.path).await;
    // Others are linked to it, or its entryPoint says what to call.
    let is_plugin = plan.is_linked_to || plan.call.is_some();
    let entered = |prepared: Prepared| match prepared.require_entry_point() {
        Err(_) if is_plugin => Ok(prepared),
        found => found.map(|()| prepared),
    };
    match prepared.and_then(entered) {
        Ok(prepared) => Ok((fetched.digest, prepared)),
        Err(error @ PrepareError::NoEntryPoint(_)) => Err(cannot_start(&format!(
            "image {image}: {error}; the entryPoint of a container may name a function to call, or the label \
             coracle.link of another one this container"
        ))),
        // The image is what it should be; it only needs what is not here.
        Err(error @ (PrepareError::MissingImport { .. } | PrepareError::Unlinkable { .. })) => {
            Err(cannot_start(&format!("image {image}: {error}")))
        }
        Err(error) => Err(format!("CannotPullContainerError: image {image}: {error}")),
    }
}

/// Why there is no container of a component, and what its definition could do about it.
fn cannot_contain(error: &ContainerError) -> String {
    match error {
        ContainerError::Link(LinkError::Missing { .. }) => {
            format!("{error}; its label coracle.link names the containers of the task that do")
        }
        error => error.to_string(),
    }
}

/// The call that a plugin's container makes.
fn call_of(container: &Container, call: &CallPlan) -> Result<(Plugin, Invocation), String> {
    let plugin = Plugin::of(container).map_err(|error| error.to_string())?;
    let invocation = plugin.invocation(&call.function, &call.arguments).map_err(|error| error.to_string())?;
    Ok((plugin, invocation))
}

/// Runs a command, or the call of a plugin, to its end. One that is to end, and listens for that, has `stop_timeout` to
/// do so by itself.
async fn run(
    container: &Container,
    call: Option<(Plugin, Invocation)>,
    killed: oneshot::Receiver<()>,
    stop_timeout: Duration,
) -> Exit {
    let mut run = std::pin::pin!(async {
        match &call {
            Some((plugin, invocation)) => plugin.run(invocation).await,
            None => container.run().await,
        }
    });
    tokio::select! {
        biased;
        exit = &mut run => return exit,
        _ = killed => {}
    }
    if container.request_stop()
        && let Ok(exit) = tokio::time::timeout(stop_timeout, &mut run).await
    {
        return exit;
    }
    container.kill();
    run.await
}

/// Lets an HTTP container serve until it is to end, or has to.
async fn serve(container: &Container, serving: &Serving, killed: oneshot::Receiver<()>) -> Exit {
    let exit = until_it_ends(container, killed).await;
    // Before the log is waited for, so that no more requests come to a container that is over.
    serving.withdraw().await;
    serving.target.close();
    container.kill();
    exit
}

/// Resolves when a container that never ends by itself is to end, or has to.
async fn until_it_ends(container: &Container, killed: oneshot::Receiver<()>) -> Exit {
    tokio::select! {
        biased;
        exit = container.fatal() => exit,
        _ = killed => Exit::Killed,
    }
}

/// Ends what is left of a container, and waits for its output to be written.
async fn finish(exports: Option<&Plugin>, log: Option<&LogOutput>) {
    // Instances that wait for the next call hold streams open.
    if let Some(exports) = exports {
        exports.kill();
    }
    if let Some(log) = log
        && tokio::time::timeout(FLUSH_TIMEOUT, log.finish()).await.is_err()
    {
        tracing::warn!("the log store has not taken a container's last lines within {FLUSH_TIMEOUT:?}");
    }
}

/// Takes a container from the router and waits for its requests; answers whether all ended in time.
///
/// The order matters: only when the router's list is without it does the gate close. Calls that still come get
/// their request back, and the router sends it to another.
async fn drain(serving: &Serving, stop_timeout: Duration) -> bool {
    let drained = async {
        serving.withdraw().await;
        serving.target.drain().await;
    };
    let _ = tokio::time::timeout(stop_timeout, drained).await;
    // Closed also when there was no time to wait.
    serving.target.close();
    serving.target.in_flight() == 0
}

/// Removes a task's own volumes.
pub(crate) async fn release_volumes(environment: &Arc<Environment>, task: coracle_types::TaskId) {
    let environment = Arc::clone(environment);
    let released =
        tokio::task::spawn_blocking(move || volumes::release(&environment.config.volumes_dir, task)).await;
    if let Ok(Err(error)) = released {
        tracing::warn!(%task, "the task's volumes can't be removed: {error}");
    }
}
