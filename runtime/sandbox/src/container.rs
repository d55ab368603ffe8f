//! A container: a prepared component with limits, grants and live instances.

use crate::admission::{Admission, Permit};
use crate::body::ResponseBody;
use crate::control::{Control, Phase, Registry};
use crate::entry::{CommandEntry, Entry, HttpEntry};
use crate::exit::{Exit, HandleError, TrapInfo};
use crate::files::{Lent, P1Files};
use crate::hold::{AbandonOnDrop, Hold};
use crate::host::linkers::missing_grant;
use crate::host::{HostLimits, HostState, is_heard};
use crate::http_call;
use crate::instance::{Instance, begin, drive};
use crate::link::{self, LinkError, Linked};
use crate::prepare::{Exports, Prepared};
use crate::resting::Resting;
use crate::spec::ContainerSpec;
use crate::worker::{Reuse, Workers};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::any::Any;
use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use wasmtime::Store;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::WasiSocketsCtx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, p2, p3};

/// A component that may run: as often, and as many at once, as its limits allow. Clones share it.
///
/// Needs a tokio runtime with time and I/O to run on: it drives the instances.
#[derive(Clone)]
pub struct Container(Arc<Shared>);

/// An instance that was made and not entered, see [`Container::instantiate`].
pub struct IdleInstance {
    // First, so that its place is free when the permit for it is given back.
    _instance: Option<Box<dyn Any + Send>>,
    _permit: Permit,
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The component imports what it has not been granted.
    #[error("the component imports {import}, which needs the grant `{grant}` of its ContainerSpec")]
    NotGranted {
        /// The interface.
        import: String,
        /// The member of [`ContainerSpec`] that grants it.
        grant: &'static str,
    },
    /// Arguments or environment are larger than is kept for every instance.
    #[error("its {what} is of {bytes} bytes in {count} parts; there may be 1 MiB in 10000 parts")]
    TooLarge {
        /// `arguments` or `environment`.
        what: &'static str,
        /// Bytes in all.
        bytes: usize,
        /// How many there are.
        count: usize,
    },
    /// The mounted directories can't be opened once more.
    #[error("cannot mount its directories: {0}")]
    Mount(
        /// What the operating system said.
        String,
    ),
    /// The component and the containers it is linked to don't fit.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A core module, which has no exports to call.
    #[error("a core module can be run, but has no exports to call by name; make a component of it")]
    NotAComponent,
}

/// What a container has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// Instances created since the beginning.
    pub instances_started: u64,
    /// Instances alive now.
    pub instances_live: u32,
    /// Fuel used by instances that have ended.
    pub fuel_used: u64,
    /// CPU time used by this container's instances, the live ones included.
    pub cpu_time: Duration,
    /// Bytes charged to the memory budget now.
    pub memory_current: u64,
    /// The most bytes that were ever charged to the memory budget at once.
    pub memory_peak: u64,
    /// Instances that trapped, ran out of memory or ran out of fuel.
    pub traps: u64,
    /// Time spent on creating all the instances, in nanoseconds of wall clock.
    pub instantiate_nanos_total: u64,
}

/// What all of a container's instances share.
pub(crate) struct Shared {
    pub(crate) prepared: Prepared,
    pub(crate) spec: ContainerSpec,
    pub(crate) lent: Arc<Lent>,
    pub(crate) sockets: WasiSocketsCtx,
    pub(crate) host_limits: HostLimits,
    pub(crate) admission: Admission,
    pub(crate) registry: Arc<Registry>,
    /// What answers the component's open imports, by their places.
    pub(crate) links: Vec<Linked>,
    /// How HTTP requests share instances, if they do, and those instances.
    pub(crate) reuse: Reuse,
    pub(crate) workers: Workers,
    /// Instances that wait for their next request.
    pub(crate) resting: Resting,
    pub(crate) counters: Counters,
    stopped: AtomicBool,
    /// Whether guests that listen for it have been told to end.
    pub(crate) stop_requested: watch::Sender<bool>,
    in_flight: AtomicU32,
    fatal: watch::Sender<Option<Exit>>,
}

/// Plain counters; each is right by itself, and together they are a snapshot only roughly.
#[derive(Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    live: AtomicU32,
    fuel: AtomicU64,
    pub(crate) cpu_nanos: AtomicU64,
    traps: AtomicU64,
    instantiate_nanos: AtomicU64,
    /// Bytes an instance of this component holds when it starts, as far as is known.
    pub(crate) initial_memory: AtomicU64,
}

impl Counters {
    pub(crate) fn instantiated(&self, took: Duration, memory: u64) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        self.instantiate_nanos
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.initial_memory.load(Ordering::Relaxed) != memory {
            self.initial_memory.store(memory, Ordering::Relaxed);
        }
    }

    pub(crate) fn instance_ended(&self, fuel: u64) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.burnt(fuel);
    }

    pub(crate) fn burnt(&self, fuel: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Draws the consequences of how an instance that served a request ended.
    pub(crate) fn guest_ended(&self, exit: &Exit) {
        self.count(exit);
        self.note_out_of_memory(exit);
    }

    /// An instance that died of the memory limit is the end of its container.
    pub(crate) fn note_out_of_memory(&self, exit: &Exit) {
        if let Exit::OutOfMemory { .. } = exit {
            self.fatal.send_if_modified(|fatal| {
                let first = fatal.is_none();
                if first {
                    *fatal = Some(exit.clone());
                }
                first
            });
        }
    }

    pub(crate) fn count(&self, exit: &Exit) {
        if let Exit::Trap(_) | Exit::OutOfMemory { .. } | Exit::OutOfFuel { .. } = exit {
            self.counters.traps.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("guest ended: {exit}");
        }
    }
}

/// One request, from the queue to the end of its instance.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(shared.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Container {
    /// Puts a component under the limits and grants of `spec`. Runs nothing.
    pub fn new(prepared: &Prepared, spec: ContainerSpec) -> Result<Container, ContainerError> {
        if let Some((import, grant)) = missing_grant(prepared.imports(), &spec) {
            return Err(ContainerError::NotGranted { import, grant });
        }
        let links = link::resolve(&prepared.0.open, &spec.links)?;
        check_size("arguments", spec.args.iter().map(String::len))?;
        check_size("environment", spec.env.iter().map(|(name, value)| name.len() + value.len()))?;
        let lent = Lent::new(&spec.mounts, spec.files.clone(), spec.cpu.clone())
            .map_err(|error| ContainerError::Mount(error.to_string()))?;
        let mut wasi = WasiCtxBuilder::new();
        spec.network.configure(&mut wasi, &spec.memory);
        let mut wasi = wasi.build();
        let inner = &prepared.0;
        let counters = Counters::default();
        counters.initial_memory.store(inner.initial_memory, Ordering::Relaxed);
        Ok(Container(Arc::new(Shared {
            prepared: prepared.clone(),
            lent: Arc::new(lent),
            sockets: wasi.sockets().clone(),
            host_limits: HostLimits::for_memory(spec.memory.effective_limit()),
            admission: Admission::new(
                inner.engine.0.slots.clone(),
                inner.slots,
                spec.max_concurrency,
                spec.max_queue,
                spec.queue_timeout,
            ),
            registry: Arc::default(),
            links,
            reuse: Reuse::new(inner.http.as_ref(), &spec),
            workers: Workers::default(),
            resting: Resting::default(),
            counters,
            stopped: AtomicBool::new(false),
            stop_requested: watch::Sender::new(false),
            in_flight: AtomicU32::new(0),
            fatal: watch::Sender::new(None),
            spec,
        })))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// What the component offers.
    pub fn exports(&self) -> Exports {
        self.0.prepared.exports()
    }

    /// Runs the component's `wasi:cli/run` in a fresh instance, to its end or to the end of its limits. Everything
    /// it wrote has reached its sinks, and they are dropped, when this resolves. Dropping the future kills the
    /// guest.
    pub async fn run(&self) -> Exit {
        let shared = &self.0;
        if shared.prepared.0.command.is_none() {
            return Exit::Trap(TrapInfo::host("the component does not export wasi:cli/run".to_owned()));
        }
        let limit = shared.spec.run_timeout;
        let timeout = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(timeout);
        let permit = tokio::select! {
            permit = shared.admission.wait() => permit,
            () = &mut timeout => return Exit::TimedOut { after: limit.unwrap_or_default() },
        };
        let Some(permit) = permit else { return Exit::Killed };

        let control = Control::new();
        let registered = shared.registry.insert(control.clone());
        if shared.is_stopped() {
            return Exit::Killed;
        }
        let guest = {
            let (shared, control) = (shared.clone(), control.clone());
            Box::pin(async move {
                let exit = {
                    let guest = pin!(run_command(&shared));
                    drive(&shared, &control, guest).await
                };
                drop((permit, registered));
                exit
            })
        };
        let mut guest = begin(&control, &shared.spec.cpu, guest).await;
        let _cancel = AbandonOnDrop::new(Hold::Instance(control.clone()));
        let exit = tokio::select! {
            exit = guest.ended() => exit.unwrap_or(Exit::Killed),
            () = &mut timeout => {
                control.advance(Phase::Cancelled);
                // Its output is complete only when the instance is gone.
                match guest.ended().await {
                    Some(Exit::Killed) | None => Exit::TimedOut { after: limit.unwrap_or_default() },
                    Some(ended_just_in_time) => ended_just_in_time,
                }
            }
        };
        shared.count(&exit);
        exit
    }

    /// Gives a request to the component's `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3), in a fresh
    /// instance or in one that serves others too: [`ContainerSpec::instance_reuse`] says.
    ///
    /// Resolves with the head of the response; the body is streamed as the guest writes it, and the guest goes on
    /// until its end. Dropping this future, or the body before its end, stops the guest.
    pub async fn handle<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, HandleError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        http_call::handle(&self.0, request).await
    }

    /// Makes an instance without entering it. What a cold start costs is what this takes; and a component that can't
    /// start says so here. The instance is of no further use: it is there, with all it holds, until the answer is
    /// dropped.
    ///
    /// # Errors
    /// How it ended instead.
    pub async fn instantiate(&self) -> Result<IdleInstance, Exit> {
        let shared = &self.0;
        let permit = shared.admission.wait().await.ok_or(Exit::Killed)?;
        let deadline = shared.admission.deadline();
        let prepared = &shared.prepared.0;
        let instance: Option<Box<dyn Any + Send>> = if let Some(HttpEntry::P2(entry)) = &prepared.http {
            Some(Box::new(Instance::create(shared, entry, shared.spec.fuel_per_request, deadline).await?))
        } else if let Some(CommandEntry::Core(entry)) = &prepared.command {
            Some(Box::new(Instance::create(shared, entry, shared.spec.fuel_per_run, deadline).await?))
        } else if let Some(entry) = &prepared.component {
            Some(Box::new(Instance::create(shared, entry, shared.spec.fuel_per_run, deadline).await?))
        } else {
            None
        };
        Ok(IdleInstance { _instance: instance, _permit: permit })
    }

    /// Requests that wait or run, those included whose guest is still busy after its response.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Tells the guest to end by itself, if it listens: what imports `coracle:services/lifecycle` does. Answers whether
    /// it does; if not, there is only [`kill`](Self::kill).
    pub fn request_stop(&self) -> bool {
        self.0.stop_requested.send_replace(true);
        is_heard(self.0.prepared.imports())
    }

    /// Stops every live instance and refuses all that come later. Instances are gone a moment after this returns.
    pub fn kill(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.admission.close();
        self.0.registry.cancel_all();
        self.0.resting.clear();
    }

    /// What it has used so far.
    pub fn stats(&self) -> ContainerStats {
        let counters = &self.0.counters;
        let memory = &self.0.spec.memory;
        ContainerStats {
            instances_started: counters.started.load(Ordering::Relaxed),
            instances_live: counters.live.load(Ordering::Relaxed),
            fuel_used: counters.fuel.load(Ordering::Relaxed),
            cpu_time: Duration::from_nanos(counters.cpu_nanos.load(Ordering::Relaxed)),
            memory_current: memory.current(),
            memory_peak: memory.peak(),
            traps: counters.traps.load(Ordering::Relaxed),
            instantiate_nanos_total: counters.instantiate_nanos.load(Ordering::Relaxed),
        }
    }

    /// Resolves when the container as a whole should be stopped, because an instance that served a request died of
    /// the memory limit. Never resolves otherwise.
    pub async fn fatal(&self) -> Exit {
        let mut fatal = self.0.fatal.subscribe();
        loop {
            // A statement of its own: the lock must not be held while waiting.
            let exit = fatal.borrow_and_update().clone();
            if let Some(exit) = exit {
                return exit;
            }
            if fatal.changed().await.is_err() {
                // Can't be: the sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Instantiates, and runs to the end.
async fn run_command(shared: &Arc<Shared>) -> Exit {
    match &shared.prepared.0.command {
        Some(CommandEntry::P2(entry)) => run_entry(shared, entry, None, run_p2).await,
        Some(CommandEntry::P3(entry)) => run_entry(shared, entry, None, run_p3).await,
        Some(CommandEntry::Core(entry)) => match p1_builder(&shared.spec) {
            Ok(wasi) => {
                let p1 = HostState::p1_context(shared, wasi);
                run_entry(shared, entry, Some(p1), run_core).await
            }
            Err(error) => Exit::Trap(TrapInfo::host(error.to_string())),
        },
        None => Exit::Killed,
    }
}

/// What a command's entry function answers: success or failure, or how it ended instead.
type Returned = wasmtime::Result<Result<(), ()>>;

async fn run_entry<E: Entry>(
    shared: &Arc<Shared>,
    entry: &E,
    p1: Option<WasiP1Ctx>,
    run: impl AsyncFnOnce(&mut Store<HostState>, &E::Exports) -> Returned,
) -> Exit {
    let deadline = shared.admission.deadline();
    let mut instance = match Instance::create(shared, entry, shared.spec.fuel_per_run, deadline).await {
        Ok(instance) => instance,
        Err(none) => return none.into(),
    };
    if let Some(p1) = p1 {
        instance.store.data_mut().set_p1(p1, P1Files::new(shared.lent.clone()));
    }
    let Instance { store, exports, .. } = &mut instance;
    match run(store, exports).await {
        Ok(Ok(())) => Exit::Code(0),
        Ok(Err(())) => instance.exit_from_failure(),
        Err(error) => instance.exit_from(&error),
    }
}

async fn run_p2(store: &mut Store<HostState>, exports: &p2::bindings::Command) -> Returned {
    exports.wasi_cli_run().call_run(store).await
}

async fn run_p3(store: &mut Store<HostState>, exports: &p3::bindings::Command) -> Returned {
    store
        .run_concurrent(async |accessor| {
            let returned = exports.wasi_cli_run().call_run(accessor).await?;
            // What it began and did not wait for, such as the rest of its output.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(returned)
        })
        .await
        .flatten()
}

async fn run_core(store: &mut Store<HostState>, instance: &wasmtime::Instance) -> Returned {
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
    start.call_async(store, ()).await.map(Ok)
}

/// Bounds what every instance can ask for. Linux has 2 MiB for both.
fn check_size(what: &'static str, parts: impl Iterator<Item = usize>) -> Result<(), ContainerError> {
    let (bytes, count) = parts.fold((0_usize, 0_usize), |(bytes, count), part| (bytes + part, count + 1));
    if bytes > 1 << 20 || count > 10_000 {
        return Err(ContainerError::TooLarge { what, bytes, count });
    }
    Ok(())
}

/// The directories and the rules for sockets of a core module, whose own context has both.
fn p1_builder(spec: &ContainerSpec) -> Result<WasiCtxBuilder, ContainerError> {
    let mut builder = WasiCtxBuilder::new();
    for mount in &spec.mounts {
        let perms = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder
            .preopened_dir(mount.host.reopen_path(), &mount.guest, perms)
            .map_err(|error| ContainerError::Mount(error.root_cause().to_string()))?;
    }
    spec.network.configure(&mut builder, &spec.memory);
    Ok(builder)
}
