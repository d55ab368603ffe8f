//! How many instances of hello live in one process, and what each holds resident.

use coracle_fixtures::{example_hello, http};
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig};
use serde_json::json;
use std::time::Instant;

use crate::report;

/// Bytes of a page: what /proc/self/statm counts in on the machines this runs on.
const PAGE: u64 = 4096;
/// How many are to live at once.
const INSTANCES: u32 = 10_000;

pub(crate) async fn run() -> anyhow::Result<()> {
    println!("\nDensity: {INSTANCES} live instances in one process (goal: no error, under 64 KiB each)");
    let config = EngineConfig { max_instances: INSTANCES + 100, ..EngineConfig::default() };
    let engine = Engine::new(&config)?;
    let spec = || ContainerSpec { max_concurrency: 2 * INSTANCES, ..ContainerSpec::default() };
    let hello = Container::new(&engine.prepare_bytes(&std::fs::read(example_hello())?)?, spec())?;
    println!("  the pool has room for {} instances", engine.stats().capacity);

    drop(hello.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?);
    let (resident, maps, begun) = (resident()?, mappings()?, Instant::now());
    let mut live = Vec::new();
    for _ in 0..INSTANCES.min(engine.stats().capacity) {
        live.push(hello.instantiate().await.map_err(|exit| anyhow::anyhow!("after {}: {exit}", live.len()))?);
    }
    let took = begun.elapsed();
    let created = row("created, idle", live.len(), resident, maps)?;
    println!("  {:.1} µs to create each", took.as_secs_f64() * 1e6 / live.len() as f64);
    drop(live);

    // The same many in the middle of a request, each with a stack in use.
    let waiting = Container::new(&engine.prepare_bytes(&std::fs::read(http())?)?, spec())?;
    let calls: Vec<_> = (0..INSTANCES.min(engine.stats().capacity))
        .map(|_| {
            let waiting = waiting.clone();
            tokio::spawn(async move {
                let request = ::http::Request::get("/slow?ms=600000").header("host", "x");
                waiting.handle(request.body(http_body_util::Empty::new())?).await?;
                anyhow::Ok(())
            })
        })
        .collect();
    while (waiting.stats().instances_live as usize) < calls.len() {
        if let Some(failed) = calls.iter().position(tokio::task::JoinHandle::is_finished) {
            let mut calls = calls;
            calls.swap_remove(failed).await??;
            anyhow::bail!("a request that was to wait was answered");
        }
        tokio::task::yield_now().await;
    }
    let busy = row("within a request", calls.len(), resident, maps)?;
    waiting.kill();
    report::write(
        "density",
        &json!({ "idle": created, "in_request": busy, "capacity": engine.stats().capacity }),
    )
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn row(
    what: &str,
    count: usize,
    resident_before: u64,
    maps_before: usize,
) -> anyhow::Result<serde_json::Value> {
    let (bytes, maps) =
        (resident()?.saturating_sub(resident_before), mappings()?.saturating_sub(maps_before));
    let (each, maps_each) = (bytes as f64 / count as f64, maps as f64 / count as f64);
    println!(
        "  {what:<18}{count:>8} live{:>10.1} KiB resident and {maps_each:.2} mappings each",
        each / 1024.0
    );
    Ok(json!({ "live": count, "resident_bytes_each": each, "mappings_each": maps_each }))
}

/// Bytes of memory this process has resident.
fn resident() -> anyhow::Result<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?.split(' ').nth(1).unwrap_or("0").parse()?;
    Ok(pages * PAGE)
}

fn mappings() -> anyhow::Result<usize> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count())
}
