//! Creating an instance of hello and dropping it, in a loop on one thread: with Coracle's limits (fuel,
//! memory budget, every bound on host memory), and the same pool and component on bare wasmtime
//! without any.

use std::sync::Arc;
use std::time::Instant;

use coracle_fixtures::example_hello;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::bench::Context;
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Pair, Side, Turn, conclude};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let count = context.pick(200, 20_000);
    let wasm = std::fs::read(example_hello())?;
    let limited = Arc::new(Limited::new(&wasm)?);
    let bare = Arc::new(Bare::new(&wasm)?);
    let ours =
        Row::new("limited", "Coracle, every limit on", Whose::Ours, "Container::instantiate, then drop")
            .with_settings("fuel, CPU cap, memory budget, bounds on all that the host holds for the guest");
    let mut sides = vec![
        Side::new(context.with_goal(ours, 30e-6), || {
            on_one_thread(Arc::clone(&limited), count, |limited, count| Box::pin(limited.turn(count)))
        }),
        Side::new(
            Row::new(
                "bare",
                "bare wasmtime, no limits",
                Whose::Bound,
                "ProxyPre::instantiate_async, then drop",
            )
            .with_settings("the same pool, keep-residents and component; no fuel, no limiter"),
            || on_one_thread(Arc::clone(&bare), count, |bare, count| Box::pin(bare.turn(count))),
        ),
    ];
    // Once without counting: pools are filled, and lazy things made.
    limited.turn(count / 10).await?;
    bare.turn(count / 10).await?;
    context.interleave(&mut sides, context.pick(1, 5)).await;
    let table = Table::new(
        "hello",
        "Creating and removing an instance of hello",
        "One thread, in a loop: from asking for an instance until it is gone again, without entering it.",
        Unit::Seconds,
    )
    .linear();
    let table = conclude(table, sides, &[Pair::new("limited", "bare")]);
    Ok(Findings { tables: vec![table], ..Findings::default() })
}

/// A turn on a runtime of one thread, away from the others.
pub(crate) async fn on_one_thread<T: Send + Sync + 'static>(
    side: Arc<T>,
    count: usize,
    turn: for<'a> fn(&'a T, usize) -> futures_util::future::BoxFuture<'a, anyhow::Result<Times>>,
) -> anyhow::Result<Turn> {
    let times = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(turn(&side, count))
    });
    Ok(Turn::of_times(times.await??, "instances"))
}

/// Coracle's sandbox, with a cap on everything.
pub(crate) struct Limited(Container);

impl Limited {
    pub(crate) fn new(wasm: &[u8]) -> anyhow::Result<Self> {
        let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(wasm)?;
        let spec = ContainerSpec {
            cpu: CpuBudget::capped(16 * 1024),
            memory: MemoryBudget::new(512 << 20),
            fuel_per_request: Some(1 << 40),
            ..ContainerSpec::default()
        };
        Ok(Self(Container::new(&prepared, spec)?))
    }

    pub(crate) fn container(&self) -> &Container {
        &self.0
    }

    /// Creates instances and drops them.
    pub(crate) async fn turn(&self, count: usize) -> anyhow::Result<Times> {
        let mut times = Times::default();
        for _ in 0..count {
            let begun = Instant::now();
            self.0.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?;
            times.record(begun.elapsed());
        }
        Ok(times)
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

    async fn turn(&self, count: usize) -> anyhow::Result<Times> {
        let mut times = Times::default();
        for _ in 0..count {
            let begun = Instant::now();
            let (wasi, http, table) = (WasiCtx::builder().build(), WasiHttpCtx::new(), ResourceTable::new());
            let state = State { wasi, http, table, hooks: NoHooks };
            let mut store = Store::new(&self.engine, state);
            let created = self.pre.instantiate_async(&mut store).await;
            created.map_err(|error| anyhow::anyhow!("bare wasmtime: {error:#}"))?;
            drop(store);
            times.record(begun.elapsed());
        }
        Ok(times)
    }
}
