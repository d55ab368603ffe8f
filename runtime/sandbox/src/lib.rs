//! Runs one WebAssembly component under limits: CPU, memory, fuel, time, network, files.
//!
//! This room knows components, WASI and wasmtime. It deliberately knows nothing of tasks, services,
//! images or logs: whoever embeds it hands over a component, says what it may do, and gets responses,
//! exit codes, results and output back. Start reading at [`Plugin`] to call a component's own functions, at
//! [`Container`] to run programs and HTTP services.
//!
//! Four things, each living shorter than the one before:
//!
//! | type | one per | holds |
//! |---|---|---|
//! | [`Engine`] | process | compiler settings and the pool of memories, tables and stacks |
//! | [`Prepared`] | component | machine code, linked, type-checked and ready to instantiate |
//! | [`Container`], [`Plugin`] | running container, plugin | limits, grants, environment, where output goes |
//! | an instance | request, run, or several calls | one wasmtime store; discarded after any trap or time-out |
//!
//! What a component may be is read from its exports, any patch version of WASI 0.2 and 0.3:
//!
//! | it exports | it is | entered by |
//! |---|---|---|
//! | `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3) | an HTTP service | [`Container::handle`] |
//! | `wasi:cli/run` (0.2 or 0.3), or `_start` as a core module of WASI preview 1 | a command | [`Container::run`] |
//! | anything at all | a plugin | [`Plugin::call`], [`Plugin::with`] |
//!
//! Nothing is granted unless [`ContainerSpec`] says so. All WASI interfaces are nevertheless linked,
//! because toolchains import what their guests never use; they are empty, not missing.
//!
//! # A plugin host
//!
//! Load a component, say what it may use, give it functions of your own, call it:
//!
//! ```
//! use coracle_sandbox::wasmtime::StoreContextMut;
//! use coracle_sandbox::{
//!     CallError, ContainerSpec, Engine, EngineConfig, HostFunctions, HostState, MemoryBudget, Plugin,
//! };
//! use serde_json::json;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = coracle_fixtures::plugin();
//! let engine = Engine::new(&EngineConfig::default())?;
//! let host = HostFunctions::new(
//!     || String::from("hello"), // what host functions work on, made for each instance
//!     |linker| {
//!         let mut root = linker.root();
//!         root.func_wrap("greet", |mut store: StoreContextMut<'_, HostState>, (name,): (String,)| {
//!             let greeting = store.data_mut().data_mut::<String>();
//!             Ok((format!("{greeting}, {name}"),))
//!         })?;
//!         root.func_wrap("fail", |_: StoreContextMut<'_, HostState>, (): ()| Ok(()))
//!     },
//! );
//! let prepared = engine.prepare_with(&std::fs::read(file)?, &host)?;
//! let limits = ContainerSpec {
//!     memory: MemoryBudget::new(64 << 20), // 64 MiB over all its instances
//!     fuel_per_run: Some(10_000_000),      // for each call
//!     max_concurrency: 8,                  // instances at most; further calls wait
//!     ..ContainerSpec::default()
//! };
//! let plugin = Plugin::new(&prepared, limits)?;
//!
//! assert_eq!(plugin.call("hello", &json!(["you"])).await?, json!("hello, you"));
//! assert_eq!(plugin.call("points", &json!([[{"x": 1, "y": 2}]])).await?[0]["x"], 1);
//! assert!(matches!(plugin.call("spin", &json!([])).await, Err(CallError::Limit(_))));
//! assert!(matches!(plugin.call("trap", &json!([])).await, Err(CallError::Guest(_))));
//! assert!(matches!(plugin.call("nonsense", &json!([])).await, Err(CallError::Call(_))));
//! # Ok(())
//! # }
//! ```
//!
//! A world that is known when the host is compiled is called without JSON: [`Plugin::typed`] takes what
//! `wasmtime::component::bindgen!` generates. [`Plugin::reload`] puts a new version in the place of a running one.
//! Plugins one trusts not to loop run faster on an engine without [`Metering`].
//!
//! # A program
//!
//! ```no_run
//! use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(&EngineConfig::default())?;
//! let program = engine.prepare_bytes(&std::fs::read("program.wasm")?)?;
//! let container = Container::new(
//!     &program,
//!     ContainerSpec {
//!         args: vec!["program".into(), "--verbose".into()],
//!         cpu: CpuBudget::capped(256),               // a quarter of one core
//!         memory: MemoryBudget::new(64 << 20),       // 64 MiB over all its instances
//!         fuel_per_run: Some(1_000_000_000),         // and never more work than this
//!         ..ContainerSpec::default()
//!     },
//! )?;
//! let exit = container.run().await;
//! println!("exit code {}: {exit}", exit.code());
//! # Ok(())
//! # }
//! ```
//!
//! An HTTP service is called with [`Container::handle`] instead, bodies streamed both ways: a fresh instance per
//! request for WASI 0.2, many requests in one for 0.3, or as [`ContainerSpec::instance_reuse`] and
//! [`ContainerSpec::instance_concurrency`] say.
//!
//! # Components that call one another
//!
//! What a component imports beside WASI may be another's exports: prepare it with [`Engine::prepare_open`], and name the
//! [`Plugin`] that answers in [`ContainerSpec::links`]. Each call is one from sandbox to sandbox, either under limits of
//! its own.

mod artifacts;
mod code;
mod compile;
mod engine;
mod entry;
mod prepare;
mod sniff;

mod admission;
mod body;
mod container;
mod control;
mod exit;
mod hold;
mod http_call;
mod instance;
mod link;
mod plugin;
mod resting;
mod spec;
mod usage;
mod worker;

mod background;
mod cpu;
mod files;
mod host;
mod input;
mod maps;
mod memory;
mod net;
mod output;
mod shares;

pub use artifacts::{ArtifactCache, ArtifactCacheConfig, ArtifactError, ArtifactStats};
pub use body::{BodyError, ResponseBody};
pub use compile::{CompileLimit, CompileLimits, Compiler, CompilerProcess, compile_child};
pub use container::{Container, ContainerError, ContainerStats, IdleInstance};
pub use cpu::CpuBudget;
pub use engine::{Engine, EngineConfig, EngineError, EngineStats, Metering};
pub use exit::{Exit, HandleError, TrapInfo, TrapKind};
pub use files::{Directory, DiskQuota, Files, Mount};
pub use host::{HostFunctions, HostState, KeyValue, Metric, MetricKind, Metrics};
pub use input::{Input, SharedReader};
pub use link::{Link, LinkError};
pub use memory::{MemoryBudget, MemoryHold};
pub use net::{
    EgressError, EgressPolicy, InProcess, Localhost, Loopback, Network, NetworkQuotas, NetworkSpec,
    NoLoopback, Resolver, SystemResolver, TlsClient, TlsError, Upstream, UpstreamBody,
};
pub use output::{LineSplitter, Output, OutputSink, StdStream};
pub use plugin::{CallError, CallFuture, CallLimits, Dynamic, Invocation, Plugin};
pub use prepare::{Exports, PrepareError, Prepared};
pub use spec::ContainerSpec;
pub use usage::{RequestMeter, RequestUsage};

/// The engine underneath, for `bindgen!` and the types it speaks of.
pub use wasmtime;

/// The program on the repository's front page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
