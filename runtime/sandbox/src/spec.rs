//! What a container may do and how much of it: plain data.

use crate::cpu::CpuBudget;
use crate::files::{Files, Mount};
use crate::host::{KeyValue, Metrics};
use crate::input::Input;
use crate::link::Link;
use crate::memory::MemoryBudget;
use crate::net::Network;
use crate::output::{Discard, Output};
use std::sync::Arc;
use std::time::Duration;

/// Limits and grants of one [`Container`](crate::Container). The default grants nothing.
#[derive(Clone)]
pub struct ContainerSpec {
    /// Arguments as the guest sees them, its own name (`argv[0]`) included.
    pub args: Vec<String>,
    /// Environment variables, in the order the guest sees them.
    pub env: Vec<(String, String)>,
    /// The directory the guest starts in, as it sees it; None is its root.
    pub working_dir: Option<String>,
    /// Host directories lent to the guest.
    pub mounts: Vec<Mount>,
    /// The files that are open, shared by everything that holds a clone of it.
    pub files: Files,
    /// What the guest may reach, and who reaches it.
    pub network: Network,
    /// The values of `wasi:config`; None grants none, and a component that imports it does not start.
    pub config: Option<Arc<[(String, String)]>>,
    /// What `wasi:keyvalue` works on; None grants none, and a component that imports it does not start.
    pub keyvalue: Option<Arc<dyn KeyValue>>,
    /// Whose exports answer what the component imports beside WASI; an import that nobody answers keeps it from starting.
    pub links: Vec<Link>,
    /// Who takes the figures of `coracle:services/metrics`; None: nobody, and the guest is told so.
    pub metrics: Option<Arc<dyn Metrics>>,
    /// What the guest reads from standard input.
    pub input: Input,
    /// CPU time, shared by everything that holds a clone of this budget.
    pub cpu: CpuBudget,
    /// Memory, shared by everything that holds a clone of this budget.
    pub memory: MemoryBudget,
    /// Fuel for one [`run`](crate::Container::run), in wasmtime's units (about one per instruction).
    pub fuel_per_run: Option<u64>,
    /// Fuel for one [`handle`](crate::Container::handle).
    pub fuel_per_request: Option<u64>,
    /// Wall-clock limit of one run.
    pub run_timeout: Option<Duration>,
    /// Wall-clock limit until a response's head, counted from the last part of the request's body that the guest
    /// read, and afterwards of every wait for more of the response's body. After the end of that the guest may go
    /// on for as long once more.
    pub request_timeout: Duration,
    /// Requests that one instance serves before it is discarded. At least 1. By default a WASI 0.2 component gets a
    /// fresh instance for each, and one of 0.3 serves 128. An instance that traps, or does not answer in time, is
    /// discarded at once.
    pub instance_reuse: Option<u32>,
    /// Requests that one instance serves at the same time. At least 1. By default 16 where the component is one of WASI
    /// 0.3; always 1 where it is one of 0.2, or where `fuel_per_request` is set, because fuel is counted per
    /// instance.
    pub instance_concurrency: Option<u32>,
    /// Requests that run at the same time, in all instances; further ones queue. At least 1.
    pub max_concurrency: u32,
    /// Requests that may queue; further ones are turned away at once.
    pub max_queue: u32,
    /// How long a request may queue before it is turned away.
    pub queue_timeout: Duration,
    /// Where standard output and standard error go.
    pub output: Arc<dyn Output>,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        ContainerSpec {
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            mounts: Vec::new(),
            files: Files::default(),
            network: Network::default(),
            config: None,
            keyvalue: None,
            links: Vec::new(),
            metrics: None,
            input: Input::Empty,
            cpu: CpuBudget::unlimited(),
            memory: MemoryBudget::new(u64::MAX),
            fuel_per_run: None,
            fuel_per_request: None,
            run_timeout: None,
            request_timeout: Duration::from_secs(60),
            instance_reuse: None,
            instance_concurrency: None,
            max_concurrency: 1000,
            max_queue: 10_000,
            queue_timeout: Duration::from_secs(10),
            output: Arc::new(Discard),
        }
    }
}
