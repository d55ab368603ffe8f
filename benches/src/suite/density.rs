//! How many idle instances of hello a GiB of memory holds, and what one takes beside an idle container of the same
//! program.

use std::time::Instant;

use coracle_fixtures::{example_hello, http};
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig};

use crate::bench::Context;
use crate::proc::pss;
use crate::report::{Findings, Row, Side, Table, Unit};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let wanted: u32 = context.pick(500, 10_000);
    let config = EngineConfig { max_instances: wanted + 100, ..EngineConfig::default() };
    let engine = Engine::new(&config)?;
    let spec = || ContainerSpec { max_concurrency: 2 * wanted, ..ContainerSpec::default() };
    let hello = Container::new(&engine.prepare_bytes(&std::fs::read(example_hello())?)?, spec())?;
    let wanted = wanted.min(engine.stats().capacity);
    drop(hello.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?);

    let mut table = Table::new(
        "each",
        "Memory of one that waits",
        "Proportional set size (PSS) of all processes it needs, divided by how many there are. What the kernel keeps \
         for each (namespaces, cgroups, sockets) is in none of them, which flatters containers. Goal: an instance \
         under 64 KiB.",
        Unit::Bytes,
    );
    let me = std::process::id();
    let (before, maps, begun) = (pss(me)?, mappings()?, Instant::now());
    let mut live = Vec::new();
    for _ in 0..wanted {
        live.push(hello.instantiate().await.map_err(|exit| anyhow::anyhow!("after {}: {exit}", live.len()))?);
    }
    let to_create = begun.elapsed() / wanted;
    let row = Row::new(
        "idle",
        "component, idle instance",
        Side::Ours,
        format!("{wanted} × Container::instantiate"),
    );
    let row =
        finish(row, before, maps, wanted)?.with_extra("to create", Unit::Seconds, to_create.as_secs_f64());
    let each = row.measure.as_ref().map_or(f64::INFINITY, |measure| measure.value);
    table.rows.push(row);
    drop(live);

    // The same many in the middle of a request, each with a stack in use.
    let waiting = Container::new(&engine.prepare_bytes(&std::fs::read(http())?)?, spec())?;
    // Measured from the beginning: what the pool has kept of the idle ones is in use again.
    let calls: Vec<_> = (0..wanted)
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
    let command = format!("{wanted} × Container::handle(GET /slow)");
    let row = Row::new("busy", "component, within a request", Side::Ours, command);
    table.rows.push(finish(row, before, maps, wanted)?);
    waiting.kill();

    crate::containers::density(context, &mut table, &mut findings).await?;

    let mut gib = Table::new(
        "gib",
        "How many wait in one GiB",
        "One GiB divided by the memory of one, but no more than one process can have: the engine's pool is bounded by \
         the address space, and by vm.max_map_count.",
        Unit::Count,
    )
    .higher_is_better();
    let most = f64::from(
        Engine::new(&EngineConfig { max_instances: 1 << 20, ..EngineConfig::default() })?.stats().capacity,
    );
    for row in &table.rows {
        let Some(measure) = &row.measure else { continue };
        let fit = (GIB / measure.value).floor();
        let fit = if row.side == Side::Ours { fit.min(most) } else { fit };
        gib.rows
            .push(Row::new(&row.id[..], &row.label[..], row.side, &row.command[..]).with_turns(vec![fit]));
    }
    findings.notes.push(format!(
        "{wanted} instances were alive at once in one process; its pool could hold {most:.0}, which is where the count \
         in one GiB ends ({:.0} would fit by memory).",
        (GIB / each).floor()
    ));
    findings.tables = vec![table, gib];
    Ok(findings)
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn finish(row: Row, before: u64, maps_before: usize, count: u32) -> anyhow::Result<Row> {
    let bytes = pss(std::process::id())?.saturating_sub(before) as f64 / f64::from(count);
    let maps = mappings()?.saturating_sub(maps_before) as f64 / f64::from(count);
    Ok(row.with_turns(vec![bytes]).with_extra("mappings", Unit::Count, maps))
}

fn mappings() -> anyhow::Result<usize> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count())
}
