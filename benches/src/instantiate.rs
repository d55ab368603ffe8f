//! Creating an instance of hello and dropping it, in a loop on one thread: with Coracle's limits (fuel,
//! memory budget, every bound on host memory), and the same pool and component on bare wasmtime
//! without any.

use std::time::Instant;

use coracle_fixtures::example_hello;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
use hdrhistogram::Histogram;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Instances per turn.
const COUNT: usize = 20_000;
/// Turns, one with limits and one without after the other.
const TURNS: usize = 5;

pub(crate) fn run() -> anyhow::Result<()> {
    println!("\nInstance creation and removal, hello, one thread (goal: median under 30 µs with limits)");
    let wasm = std::fs::read(example_hello())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limited = Limited::new(&wasm)?;
    let bare = Bare::new(&wasm)?;
    runtime.block_on(async {
        limited.turn(COUNT / 10).await?;
        bare.turn(COUNT / 10).await?;
        println!("  {:<6}{:<22}{:>10}{:>10}{:>10}", "turn", "", "p50 µs", "p99 µs", "mean µs");
        let mut ratios = Vec::new();
        for turn in 1..=TURNS {
            let with = limited.turn(COUNT).await?;
            let without = bare.turn(COUNT).await?;
            print_row(turn, "with limits", &with);
            print_row(turn, "without", &without);
            ratios.push(median(&with) / median(&without));
        }
        ratios.sort_by(f64::total_cmp);
        println!("  with / without: median {:.2}", ratios[TURNS / 2]);
        Ok(())
    })
}

fn print_row(turn: usize, what: &str, nanos: &Histogram<u64>) {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of microseconds")]
    let p99 = nanos.value_at_quantile(0.99) as f64 / 1000.0;
    println!(
        "  {turn:<6}{what:<22}{:>10.1}{p99:>10.1}{:>10.1}",
        median(nanos) / 1000.0,
        nanos.mean() / 1000.0
    );
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of microseconds")]
fn median(nanos: &Histogram<u64>) -> f64 {
    nanos.value_at_quantile(0.5) as f64
}

fn record(nanos: &mut Histogram<u64>, begun: Instant) -> anyhow::Result<()> {
    nanos.record(u64::try_from(begun.elapsed().as_nanos())?)?;
    Ok(())
}

/// Coracle's sandbox, with a cap on everything.
struct Limited(Container);

impl Limited {
    fn new(wasm: &[u8]) -> anyhow::Result<Self> {
        let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(wasm)?;
        let spec = ContainerSpec {
            cpu: CpuBudget::capped(16 * 1024),
            memory: MemoryBudget::new(512 << 20),
            fuel_per_request: Some(1 << 40),
            ..ContainerSpec::default()
        };
        Ok(Self(Container::new(&prepared, spec)?))
    }

    async fn turn(&self, count: usize) -> anyhow::Result<Histogram<u64>> {
        let mut nanos = Histogram::new(3)?;
        for _ in 0..count {
            let begun = Instant::now();
            self.0.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?;
            record(&mut nanos, begun)?;
        }
        Ok(nanos)
    }
}

/// wasmtime as it comes, with the same pool.
struct Bare {
    engine: wasmtime::Engine,
    pre: ProxyPre<State>,
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: NoHooks,
}

/// Everything as the trait's defaults have it.
struct NoHooks;

impl WasiHttpHooks for NoHooks {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

/// The head of an answer with its body, and what drives its connection.
type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl Bare {
    fn new(wasm: &[u8]) -> anyhow::Result<Self> {
        let ours = EngineConfig::default();
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(ours.max_instances);
        pool.total_memories(ours.max_instances);
        pool.total_tables(ours.max_instances * 4);
        pool.total_stacks(ours.max_instances);
        pool.linear_memory_keep_resident(ours.memory_keep_resident);
        pool.table_keep_resident(ours.table_keep_resident);
        pool.pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        config.concurrency_support(false);
        let build = || -> wasmtime::Result<Self> {
            let engine = wasmtime::Engine::new(&config)?;
            let mut linker = Linker::<State>::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
            let pre = ProxyPre::new(linker.instantiate_pre(&Component::new(&engine, wasm)?)?)?;
            Ok(Self { engine, pre })
        };
        build().map_err(|error| anyhow::anyhow!("bare wasmtime: {error:#}"))
    }

    async fn turn(&self, count: usize) -> anyhow::Result<Histogram<u64>> {
        let mut nanos = Histogram::new(3)?;
        for _ in 0..count {
            let begun = Instant::now();
            let (wasi, http, table) = (WasiCtx::builder().build(), WasiHttpCtx::new(), ResourceTable::new());
            let state = State { wasi, http, table, hooks: NoHooks };
            let mut store = Store::new(&self.engine, state);
            let created = self.pre.instantiate_async(&mut store).await;
            created.map_err(|error| anyhow::anyhow!("bare wasmtime: {error:#}"))?;
            drop(store);
            record(&mut nanos, begun)?;
        }
        Ok(nanos)
    }
}
