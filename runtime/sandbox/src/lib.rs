//! Runs one WebAssembly component under limits: CPU, memory, fuel, time, network, files.
//!
//! This room knows components, WASI and wasmtime. It deliberately knows nothing of tasks, services,
//! images or logs: whoever embeds it hands over a component, says what it may do, and gets responses,
//! exit codes and output back. Start reading at [`Container`].
//!
//! Four things, each living shorter than the one before:
//!
//! | type | one per | holds |
//! |---|---|---|
//! | [`Engine`] | process | compiler settings and the pool of memories, tables and stacks |
//! | [`Prepared`] | component | machine code, linked, type-checked and ready to instantiate |
//! | [`Container`] | running container | limits, grants, environment, where output goes |
//! | an instance | request or run | one wasmtime store; dropped afterwards, never used again |
//!
//! Nothing is granted unless [`ContainerSpec`] says so. All WASI 0.2 interfaces are nevertheless linked,
//! because toolchains import what their guests never use; they are empty, not missing.
//!
//! # Example
//!
//! ```no_run
//! use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(&EngineConfig::default())?;
//! let plugin = engine.prepare_bytes(&std::fs::read("plugin.wasm")?)?;
//! let container = Container::new(
//!     &plugin,
//!     ContainerSpec {
//!         args: vec!["plugin".into(), "--verbose".into()],
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
//! A component that exports `wasi:http/incoming-handler` is called with [`Container::handle`] instead: a
//! fresh instance per request, bodies streamed both ways.

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
mod plugin;
mod spec;
mod worker;

mod cpu;
mod host;
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
pub use host::{HostFunctions, HostState, KeyValue};
pub use memory::{MemoryBudget, MemoryHold};
pub use net::{
    EgressError, EgressPolicy, InProcess, Localhost, Loopback, Network, NetworkQuotas, NetworkSpec,
    NoLoopback, Resolver, SystemResolver, TlsClient, TlsError, Upstream, UpstreamBody,
};
pub use output::{LineSplitter, Output, OutputSink, StdStream};
pub use plugin::{CallError, CallFuture, CallLimits, Dynamic, Plugin};
pub use prepare::{Exports, PrepareError, Prepared};
pub use spec::{ContainerSpec, Mount};

/// The engine underneath, for `bindgen!` and the types it speaks of.
pub use wasmtime;
