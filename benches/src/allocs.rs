//! What is allocated for one request: how often, and how much, with the allocator itself counting.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_fixtures::example_hello;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, MemoryBudget};
use http_body_util::{BodyExt as _, Empty};
use serde_json::json;

use crate::report;

/// The system's allocator, counting.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator can't be written without it")]
// SAFETY: everything is handed on to the system's allocator as it came; counting has no influence on it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are the callee's demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Requests before counting, so that pools are filled and lazy things made, and while counting.
const WARM_UP: u64 = 200;
const REQUESTS: u64 = 1000;

pub(crate) async fn run() -> anyhow::Result<()> {
    println!("\nAllocations per request: hello, a fresh instance each");
    let wasm = std::fs::read(example_hello())?;
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&wasm)?;
    let spec = ContainerSpec {
        env: (0..50).map(|n| (format!("NAME_{n}"), "value".repeat(10))).collect(),
        cpu: CpuBudget::capped(16 * 1024),
        memory: MemoryBudget::new(512 << 20),
        ..ContainerSpec::default()
    };
    let container = Container::new(&prepared, spec)?;
    let whole = count(|| async {
        let request = http::Request::get("/").header("host", "x").body(Empty::new())?;
        container.handle(request).await?.into_body().collect().await?;
        Ok(())
    });
    let whole = whole.await?;
    let instance = count(|| async {
        container.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?;
        Ok(())
    });
    let instance = instance.await?;
    println!("  {:<28}{:>14}{:>12}", "", "allocations", "bytes");
    for (what, (allocations, bytes)) in [("request and answer", whole), ("of these, the instance", instance)]
    {
        println!("  {what:<28}{allocations:>14.1}{bytes:>12.0}");
    }
    report::write(
        "allocs",
        &json!({
            "request": { "allocations": whole.0, "bytes": whole.1 },
            "instance": { "allocations": instance.0, "bytes": instance.1 },
        }),
    )
}

/// Allocations and bytes of one call, on average.
#[expect(clippy::cast_precision_loss, reason = "millions")]
async fn count<F: Future<Output = anyhow::Result<()>>>(call: impl Fn() -> F) -> anyhow::Result<(f64, f64)> {
    for _ in 0..WARM_UP {
        call().await?;
    }
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    for _ in 0..REQUESTS {
        call().await?;
    }
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let each = |after: u64, before: u64| (after - before) as f64 / REQUESTS as f64;
    Ok((each(allocations, before.0), each(bytes, before.1)))
}
