//! What is allocated for one request: how often, and how much, with the allocator itself counting.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coracle_fixtures::example_hello;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
use http_body_util::{BodyExt as _, Empty};
use mimalloc::MiMalloc;

use crate::bench::Context;
use crate::report::{Findings, Row, Side, Table, Unit};

/// The allocator of `coracle`, which counts while the bench `allocs` asks it to. Otherwise it only looks at a flag that nobody
/// writes: what the other benches measure in this process pays nothing for it.
pub struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator can't be written without it")]
// SAFETY: everything is handed on to another allocator as it came; counting has no influence on it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are the callee's demands.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

fn note(size: usize) {
    if IS_COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
    }
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let requests = context.pick(50, 1000);
    let wasm = std::fs::read(example_hello())?;
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&wasm)?;
    let spec = |instance_reuse| ContainerSpec {
        instance_reuse,
        env: (0..50).map(|n| (format!("NAME_{n}"), "value".repeat(10))).collect(),
        cpu: CpuBudget::capped(16 * 1024),
        memory: MemoryBudget::new(512 << 20),
        ..ContainerSpec::default()
    };
    let container = Container::new(&prepared, spec(None))?;
    let whole = count(requests, || request(&container)).await?;
    let reusing = Container::new(&prepared, spec(Some(u32::MAX)))?;
    let reused = count(requests, || request(&reusing)).await?;
    let instance = count(requests, || async {
        container.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?;
        Ok(())
    });
    let instance = instance.await?;
    let measured = "hello, 50 environment variables; the allocator itself counts. The first two are of a fresh instance for \
                    each request.";
    let mut often = Table::new("count", "Allocations for one request", measured, Unit::Count).linear();
    let mut bytes = Table::new("bytes", "Bytes allocated for one request", measured, Unit::Bytes).linear();
    for (id, label, command, (allocations, size)) in [
        ("request", "request and answer", "Container::handle(GET /), body collected", whole),
        ("instance", "of these, the instance", "Container::instantiate, then drop", instance),
        ("reused", "request to a reused instance", "Container::handle(GET /), body collected", reused),
    ] {
        let row = || Row::new(id, label, Side::Ours, command);
        often.rows.push(row().with_turns(vec![allocations]));
        bytes.rows.push(row().with_turns(vec![size]));
    }
    Ok(Findings { tables: vec![often, bytes], ..Findings::default() })
}

async fn request(container: &Container) -> anyhow::Result<()> {
    let request = http::Request::get("/").header("host", "x").body(Empty::new())?;
    container.handle(request).await?.into_body().collect().await?;
    Ok(())
}

/// Allocations and bytes of one call, on average.
#[expect(clippy::cast_precision_loss, reason = "millions")]
async fn count<F: Future<Output = anyhow::Result<()>>>(
    calls: u32,
    call: impl Fn() -> F,
) -> anyhow::Result<(f64, f64)> {
    // Pools are filled, and lazy things made.
    for _ in 0..calls / 5 {
        call().await?;
    }
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    IS_COUNTING.store(true, Ordering::Relaxed);
    for _ in 0..calls {
        call().await?;
    }
    IS_COUNTING.store(false, Ordering::Relaxed);
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let each = |after: u64, before: u64| (after - before) as f64 / f64::from(calls);
    Ok((each(allocations, before.0), each(bytes, before.1)))
}
