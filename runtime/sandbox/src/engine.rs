//! The engine: compiler settings and the pool, one per process.

use crate::host::{HostFunctions, HostState, linkers};
use crate::maps;
use crate::prepare::{Imports, PrepareError, Prepared};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;
use wasmtime::component;
use wasmtime::{Config, Enabled, Inlining, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// How an [`Engine`] is made. The default fits machines from a laptop to a server.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Instances that live at the same time, over all containers; further ones wait. The default is 4000. With the
    /// kernel's default `vm.max_map_count`, up to 5900 begin as copy-on-write images of their memory; more, up to
    /// 10,700, are copied, which makes each of them slower to create. Where that or the address space allows fewer,
    /// the engine makes do with fewer: see [`EngineStats::capacity`].
    pub max_instances: u32,
    /// The largest linear memory, in bytes. 64 KiB to 4 GiB; the default is 4 GiB, which costs address space but
    /// no memory, and lets compiled code do without bounds checks.
    pub max_instance_memory: u64,
    /// After how much fuel a busy guest is looked at: whether it is to stop, owes CPU time, or others wait. What a
    /// nanosecond burns depends on the program, 10 to 20 fuel; the default of 1,000,000 is 50 to 100 µs, and costs
    /// about 1 %. A unit of fuel is one instruction of WebAssembly, but for those that only mark blocks or drop values,
    /// which are free, and those that move many bytes or table elements, which cost one for each of them besides.
    pub fuel_slice: u64,
    /// Linear memory, in bytes, that a freed slot of the pool keeps for its next use instead of returning it to
    /// the kernel.
    pub memory_keep_resident: usize,
    /// The same for tables.
    pub table_keep_resident: usize,
    /// How deep guests may recurse, in bytes of stack.
    pub max_wasm_stack: usize,
    /// Whether what guests compute is measured and limited.
    pub metering: Metering,
    /// Functions are compiled into their callers as long as the two together are no larger than this, in values of the
    /// compiler's intermediate code; 0, the default: never. It makes metering cheaper, because each call in metered code
    /// stores the fuel and loads it again: with 250 a JSON parser takes 131 % instead of 147 % of its time without
    /// metering, a sort 124 % instead of 133 %. But all functions' intermediate code is in memory at once: a JavaScript
    /// engine of 12 MB takes more than 4 GiB to compile, and everything a third more time. (wasmtime's own 2000: 124 %
    /// and 121 %, four times the time and twice and a half the machine code.) How much fuel a program uses does not
    /// depend on it; a trap in a function that was compiled into its caller names the caller.
    pub inline_up_to: u32,
}

/// Whether guests can be interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metering {
    /// Guests consume fuel: they give way to others after every slice, can be stopped at any moment, and keep to
    /// their CPU budgets and fuel limits.
    #[default]
    Fuel,
    /// Guests run up to 30 % faster, and nothing stops one that computes: no CPU budget, no fuel limit, and no
    /// time-out while it does not call the host. Memory, files and network are limited all the same. Only for
    /// guests that are trusted not to loop, such as plugins of one's own.
    None,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            max_instances: 4000,
            max_instance_memory: 4 << 30,
            fuel_slice: 1_000_000,
            memory_keep_resident: 2 << 20,
            table_keep_resident: 512 << 10,
            max_wasm_stack: 512 << 10,
            metering: Metering::Fuel,
            inline_up_to: 0,
        }
    }
}

/// A pool smaller than this is not worth having.
const SMALLEST_POOL: u32 = 16;

/// User space has 47 bits of addresses on x86-64 (48 on most arm64 kernels); an eighth is left to the rest.
const ADDRESS_SPACE: u64 = (1 << 47) / 8 * 7;

/// Inaccessible addresses behind every memory, for accesses whose bounds are not checked.
const GUARD: u64 = 32 << 20;

/// Tables per instance slot of the pool. Most components have two: the program's own, and one of the glue that
/// makes a component of a module. They are 160 KiB of addresses each.
pub(crate) const TABLES_PER_SLOT: u32 = 4;

/// Why no engine could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses the configuration, or the machine can't give even the smallest pool its address space.
    #[error("cannot start the WebAssembly engine: {0}")]
    Unusable(String),
}

/// The compiler, the pool of instances, and everything linked once. Clones share it.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    config: EngineConfig,
    plain: Runtime,
    /// Made when the first component needs it.
    concurrent: OnceLock<Result<Runtime, EngineError>>,
    /// One permit per instance slot of the pool; both flavours' instances take theirs here.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) capacity: u32,
    /// Fuel of one slice; `None` without metering.
    pub(crate) fuel_slice: Option<u64>,
}

/// The two configurations machine code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flavour {
    /// WASI 0.2 and core modules. One call at a time in a store, which is 7 % faster.
    Plain,
    /// The component model's async features: WASI 0.3, and components that use nothing but its built-ins.
    Concurrent,
}

/// One flavour of the engine: wasmtime's engine with its pool, and what components and modules may import.
pub(crate) struct Runtime {
    pub(crate) wasmtime: wasmtime::Engine,
    /// What code for it has to be compiled with.
    pub(crate) settings: CompileSettings,
    pub(crate) components: component::Linker<HostState>,
    pub(crate) modules: wasmtime::Linker<HostState>,
}

/// What an engine holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Instances alive now.
    pub live_instances: u32,
    /// Instances the pool has room for.
    pub capacity: u32,
    /// Bytes that free slots keep resident for their next use.
    pub idle_resident_bytes: u64,
}

impl Engine {
    /// Makes an engine. Takes a few milliseconds, mostly for reserving the pool's addresses.
    ///
    /// # Errors
    /// When wasmtime refuses the configuration, or no pool fits the machine's address space.
    pub fn new(config: &EngineConfig) -> Result<Engine, EngineError> {
        let (plain, capacity) = Runtime::new(config, Flavour::Plain)?;
        Ok(Engine(Arc::new(Inner {
            config: config.clone(),
            plain,
            concurrent: OnceLock::new(),
            slots: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            fuel_slice: (config.metering == Metering::Fuel).then_some(config.fuel_slice.max(1)),
        })))
    }

    /// Compiles and links a component or a core module without any cache. Blocks for as long as compiling takes: from
    /// a tenth of a second for a small Rust program to half a minute for an interpreter, on one core; all cores are
    /// used.
    ///
    /// # Errors
    /// When the bytes are nothing that can be run here; the error says why.
    pub fn prepare_bytes(&self, wasm: &[u8]) -> Result<Prepared, PrepareError> {
        Prepared::compile(self, wasm, &Imports::Wasi)
    }

    /// The same, for a component that also imports functions of the embedder's.
    ///
    /// # Errors
    /// As [`prepare_bytes`](Self::prepare_bytes), and when the host functions can't be linked.
    pub fn prepare_with(&self, wasm: &[u8], host: &HostFunctions) -> Result<Prepared, PrepareError> {
        Prepared::compile(self, wasm, &Imports::Host(host))
    }

    /// The same, for a component that also imports what others export: its containers have to be linked, see
    /// [`ContainerSpec::links`](crate::ContainerSpec::links).
    ///
    /// # Errors
    /// As [`prepare_bytes`](Self::prepare_bytes), and when it imports what can't be linked, such as a resource.
    pub fn prepare_open(&self, wasm: &[u8]) -> Result<Prepared, PrepareError> {
        Prepared::compile(self, wasm, &Imports::Open)
    }

    /// One flavour; the second is made on first use.
    pub(crate) fn runtime(&self, flavour: Flavour) -> Result<&Runtime, EngineError> {
        match flavour {
            Flavour::Plain => Ok(&self.0.plain),
            Flavour::Concurrent => self
                .0
                .concurrent
                .get_or_init(|| Runtime::new(&self.0.config, flavour).map(|(runtime, _)| runtime))
                .as_ref()
                .map_err(Clone::clone),
        }
    }

    /// A snapshot of the pool.
    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats { live_instances: 0, capacity: self.0.capacity, idle_resident_bytes: 0 };
        let concurrent = self.0.concurrent.get().and_then(|runtime| runtime.as_ref().ok());
        for runtime in std::iter::once(&self.0.plain).chain(concurrent) {
            let Some(metrics) = runtime.wasmtime.pooling_allocator_metrics() else { continue };
            // A component counts as one instance, a module too, and a module is also one core instance.
            let live = metrics.component_instances();
            stats.live_instances += u32::try_from(live).unwrap_or(u32::MAX);
            stats.idle_resident_bytes +=
                (metrics.unused_memory_bytes_resident() + metrics.unused_table_bytes_resident()) as u64;
        }
        stats
    }
}

impl Runtime {
    /// Answers how many instances its pool has room for, too.
    fn new(config: &EngineConfig, flavour: Flavour) -> Result<(Runtime, u32), EngineError> {
        let unusable = |error: wasmtime::Error| EngineError::Unusable(format!("{error:#}"));
        let (wasmtime, settings, capacity) = with_largest_possible_pool(config, flavour)?;
        let components = linkers::components(&wasmtime, flavour).map_err(unusable)?;
        let modules = linkers::modules(&wasmtime).map_err(unusable)?;
        Ok((Runtime { wasmtime, settings, components, modules }, capacity))
    }
}

/// Tries the pool that was asked for, then ever smaller ones: small machines and `ulimit -v` allow less.
fn with_largest_possible_pool(
    config: &EngineConfig,
    flavour: Flavour,
) -> Result<(wasmtime::Engine, CompileSettings, u32), EngineError> {
    let fit = maps::fit(config.max_instances.min(most_instances()), SMALLEST_POOL);
    let mut pool = PoolSize {
        instances: match flavour {
            Flavour::Plain => fit.instances,
            Flavour::Concurrent => fit.concurrent,
        },
        max_memory: config.max_instance_memory.clamp(64 << 10, FULL_RESERVATION).next_multiple_of(64 << 10),
        reservation: FULL_RESERVATION,
    };
    loop {
        let compile = CompileSettings {
            flavour,
            metered: config.metering == Metering::Fuel,
            inline_up_to: config.inline_up_to,
            reservation: pool.reservation,
            max_wasm_stack: config.max_wasm_stack,
            images: fit.images,
        };
        let error = match wasmtime::Engine::new(&with_pool(compile.config(), config, pool)) {
            Ok(engine) => return Ok((engine, compile, pool.instances)),
            Err(error) => format!("{error:#}"),
        };
        pool = pool.smaller().ok_or_else(|| EngineError::Unusable(error.clone()))?;
        tracing::warn!(?pool, "the pool of instances does not fit, trying a smaller one: {error}");
    }
}

/// How much address space the pool takes.
#[derive(Clone, Copy, Debug)]
struct PoolSize {
    instances: u32,
    /// The largest linear memory, at most `reservation`.
    max_memory: u64,
    /// Addresses reserved for each memory. A memory with all 4 GiB needs no bounds checks, whatever its limit.
    reservation: u64,
}

const FULL_RESERVATION: u64 = 4 << 30;

/// A quarter more memories than instances, because garbage-collected heaps are memories too.
fn most_instances() -> u32 {
    u32::try_from(ADDRESS_SPACE / (FULL_RESERVATION + GUARD) / 5 * 4).unwrap_or(u32::MAX)
}

impl PoolSize {
    /// First fewer instances, then smaller memories, then still fewer instances.
    fn smaller(self) -> Option<PoolSize> {
        let PoolSize { instances, max_memory, reservation } = self;
        if instances > 256 {
            Some(PoolSize { instances: (instances / 2).max(256), ..self })
        } else if reservation > 64 << 20 {
            let reservation = reservation / 2;
            Some(PoolSize { reservation, max_memory: max_memory.min(reservation), ..self })
        } else if instances > SMALLEST_POOL {
            Some(PoolSize { instances: (instances / 2).max(SMALLEST_POOL), ..self })
        } else {
            None
        }
    }
}

/// Everything machine code depends on: the part of the configuration that a compiler needs, which has no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompileSettings {
    pub(crate) flavour: Flavour,
    /// Whether guests consume fuel.
    pub(crate) metered: bool,
    /// See [`EngineConfig::inline_up_to`].
    pub(crate) inline_up_to: u32,
    /// Bytes of addresses reserved for each linear memory.
    pub(crate) reservation: u64,
    /// How deep guests may recurse, in bytes of stack.
    pub(crate) max_wasm_stack: usize,
    /// Whether linear memories begin as copy-on-write images: see [`maps`].
    pub(crate) images: bool,
}

impl CompileSettings {
    /// An engine that compiles and can't instantiate.
    pub(crate) fn compiler(&self) -> wasmtime::Result<wasmtime::Engine> {
        wasmtime::Engine::new(&self.config())
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        serde_json::json!({
            "concurrent": self.flavour == Flavour::Concurrent,
            "metered": self.metered,
            "inline_up_to": self.inline_up_to,
            "reservation": self.reservation,
            "max_wasm_stack": self.max_wasm_stack,
            "images": self.images,
        })
    }

    pub(crate) fn from_json(settings: &serde_json::Value) -> Option<Self> {
        let concurrent = settings["concurrent"].as_bool()?;
        Some(CompileSettings {
            flavour: if concurrent { Flavour::Concurrent } else { Flavour::Plain },
            metered: settings["metered"].as_bool()?,
            inline_up_to: u32::try_from(settings["inline_up_to"].as_u64()?).ok()?,
            reservation: settings["reservation"].as_u64()?,
            max_wasm_stack: usize::try_from(settings["max_wasm_stack"].as_u64()?).ok()?,
            images: settings["images"].as_bool()?,
        })
    }

    /// wasmtime's knobs, and why they stand as they do. Throughput figures are of one hello component, a fresh
    /// instance per request, on 2 cores: the default configuration answered 12,800 requests/s.
    pub(crate) fn config(&self) -> Config {
        let mut wasmtime = Config::new();

        // Fuel is the one way of metering: it is deterministic, and cost no more than epochs (5–47 % against 17–40 % on
        // real programs). Each operator costs one, as by default. To make free what is no instruction
        // of the machine (constants, and moves to and from locals) would save 3 to 4 %, because blocks of nothing else
        // need not be counted; but a call or a branch may pass a thousand values, and a guest of such could not be
        // interrupted for a thousand times as long.
        wasmtime.consume_fuel(self.metered);
        wasmtime.cranelift_opt_level(OptLevel::Speed);
        if self.inline_up_to > 0 {
            wasmtime.compiler_inlining(Inlining::Yes);
            inline_up_to(&mut wasmtime, self.inline_up_to);
        }
        wasmtime.parallel_compilation(true);
        wasmtime.signals_based_traps(true);
        // A trap names its function; 32 frames are enough to get past any panic machinery.
        wasmtime.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
        wasmtime.generate_address_map(true);
        // WASI 0.2 needs no concurrency in a store, and pays 7 % for having it.
        wasmtime.concurrency_support(self.flavour == Flavour::Concurrent);

        wasmtime.max_wasm_stack(self.max_wasm_stack);
        // Host functions run on the same stack, above what the guest may use.
        wasmtime.async_stack_size(self.max_wasm_stack + (1536 << 10));
        // Stacks never leave their pool's instances, and wasm can't read below its stack pointer: zeroing them
        // between uses would only cost page faults.
        wasmtime.async_stack_zeroing(false);

        wasmtime.memory_reservation(self.reservation);
        wasmtime.memory_guard_size(GUARD);
        wasmtime.memory_init_cow(self.images);
        wasmtime
    }
}

#[expect(unsafe_code, reason = "wasmtime has no other way to set what limits its inlining")]
fn inline_up_to(wasmtime: &mut Config, instructions: u32) {
    // SAFETY: wasmtime can't check what flags of Cranelift mean for its machine code. This one is not Cranelift's but its
    // own, and only says which calls are worth inlining; how they are inlined is the same for all.
    unsafe {
        wasmtime.cranelift_flag_set("wasmtime_inlining_sum_size_threshold", &instructions.to_string());
    }
}

/// The pool on top of what the compiler needs.
fn with_pool(mut wasmtime: Config, config: &EngineConfig, size: PoolSize) -> Config {
    let PoolSize { instances, max_memory, .. } = size;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances);
    pool.total_stacks(instances);
    pool.total_memories(instances + instances / 4);
    pool.total_gc_heaps(instances / 4);
    pool.total_tables(instances.saturating_mul(TABLES_PER_SLOT));
    // Only a counter; components may be made of dozens of modules.
    pool.total_core_instances(u32::MAX);
    pool.max_memory_size(usize::try_from(max_memory).unwrap_or(usize::MAX));
    pool.max_memories_per_module(8);
    pool.max_tables_per_module(8);
    pool.max_component_instance_size(4 << 20);
    // Page faults and madvise are what a fresh instance costs. Kept pages are cleared by memset instead, and with
    // PAGEMAP_SCAN (Linux 6.7) only the dirty ones: 23,900 requests/s together; either alone does little.
    pool.linear_memory_keep_resident(config.memory_keep_resident);
    pool.table_keep_resident(config.table_keep_resident);
    pool.pagemap_scan(Enabled::Auto);
    wasmtime.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_shrink_until_nothing_is_left_to_give() {
        assert!(most_instances() < 32_768, "47 bits of addresses hold 32,768 times 4 GiB");
        let mut size = PoolSize { instances: 4000, max_memory: 1 << 30, reservation: FULL_RESERVATION };
        while let Some(smaller) = size.smaller() {
            assert!(smaller.instances < size.instances || smaller.reservation < size.reservation);
            assert!(smaller.max_memory <= smaller.reservation);
            size = smaller;
        }
        assert_eq!((size.instances, size.max_memory), (SMALLEST_POOL, 64 << 20));
    }

    #[test]
    fn a_small_pool_works() {
        let config =
            EngineConfig { max_instances: 1, max_instance_memory: 16 << 20, ..EngineConfig::default() };
        let engine = Engine::new(&config).unwrap();
        assert_eq!(
            engine.stats(),
            EngineStats { live_instances: 0, capacity: SMALLEST_POOL, idle_resident_bytes: 0 }
        );
    }
}
