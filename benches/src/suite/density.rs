//! How many idle instances of hello a GiB of memory holds, and what one takes beside an idle container of the same
//! program. Instances are made until the GiB is really used, or the kernel allows no more of them to one process.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_fixtures::{example_hello, http};
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig};

use crate::bench::Context;
use crate::proc::pss;
use crate::report::{Findings, Row, Side, Table, Unit};

const GIB: u64 = 1 << 30;
/// Bytes of an idle instance that are aimed at.
const IDLE: f64 = 64.0 * 1024.0;
/// How many are made before memory is looked at again: to look takes as long as hundreds of them.
const STEP: u32 = 250;

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let mut each = Table::new(
        "each",
        "Memory of one that waits",
        "What each further one adds to the proportional set size (PSS) of all processes that are needed, so that what \
         all of them share is in none. What the kernel keeps for each (namespaces, cgroups, sockets) is in none either, \
         which flatters containers.",
        Unit::Bytes,
    );
    let mut gib = Table::new(
        "gib",
        "How many wait in one GiB",
        "Components: as many as were alive at once, in one process, when a GiB was used or the kernel's limit reached. \
         Others: one GiB divided by the memory of one.",
        Unit::Count,
    )
    .higher_is_better();

    context.progress("idle instances");
    let idle = fill_with_idle(context).await?;
    let command = format!("{} × Container::instantiate", idle.count);
    let row = Row::new("idle", "component, idle instance", Side::Ours, command);
    let created = idle.to_create.as_secs_f64() / f64::from(idle.count);
    let row = context.with_goal(idle.row(row), IDLE).with_extra("to create", Unit::Seconds, created);
    gib.rows.push(idle.row_of_count(&row));
    each.rows.push(row);
    findings.notes.push(idle.note("idle"));

    context.progress("instances within a request");
    let busy = fill_with_busy(context).await?;
    let command = format!("{} × Container::handle(GET /slow)", busy.count);
    let row = busy.row(Row::new("busy", "component, within a request", Side::Ours, command));
    gib.rows.push(busy.row_of_count(&row));
    each.rows.push(row);
    findings.notes.push(busy.note("waiting within a request"));

    crate::containers::density(context, &mut each, &mut findings).await?;
    for row in each.rows.iter().filter(|row| row.side != Side::Ours) {
        let Some(measure) = &row.measure else { continue };
        let fit = (precise(GIB) / measure.value).floor();
        let row = Row::new(&row.id[..], &row.label[..], row.side, &row.command[..]);
        gib.rows.push(row.with_turns(vec![fit]));
    }
    findings.tables = vec![each, gib];
    Ok(findings)
}

/// Instances that were alive at once.
struct Filled {
    count: u32,
    /// What they took together.
    bytes: u64,
    /// Mappings of the process that are theirs.
    mappings: usize,
    /// How long it took to make them.
    to_create: Duration,
    /// How many the engine's pool holds.
    capacity: u32,
    /// How many were wanted at most.
    wanted: u32,
}

impl Filled {
    fn each(&self) -> f64 {
        precise(self.bytes) / f64::from(self.count)
    }

    fn row(&self, row: Row) -> Row {
        let mappings = precise(self.mappings as u64) / f64::from(self.count);
        row.with_turns(vec![self.each()]).with_extra("mappings", Unit::Count, mappings)
    }

    fn row_of_count(&self, row: &Row) -> Row {
        let count = f64::from(self.count);
        Row::new(&row.id[..], &row.label[..], row.side, &row.command[..]).with_turns(vec![count])
    }

    /// What ended it, and what else would have. `what` is what they do.
    fn note(&self, what: &str) -> String {
        let (count, took) = (self.count, Unit::Bytes.show(precise(self.bytes)));
        let fit = Unit::Count.show((precise(GIB) / self.each()).floor());
        if self.bytes >= GIB {
            return format!("One GiB was filled: {count} instances, {what}, took {took}.");
        }
        if self.count < self.capacity {
            return format!("{count} instances, {what}, took {took}; by that, {fit} fit in one GiB.");
        }
        if self.capacity == self.wanted {
            return format!("A quick run makes {count} instances, {what}; by memory, {fit} fit in one GiB.");
        }
        format!(
            "The end of the engine's pool came before the GiB was full: one process holds {count} instances here, which \
             took {took} {what}; by memory alone, {fit} would fit. What ends the pool is how many mappings the kernel \
             allows a process (vm.max_map_count = {}), and with more of these the 47 bits of addresses, of which every \
             instance reserves 4 GiB.",
            max_map_count()
        )
    }
}

/// What the process had before.
struct Before {
    bytes: u64,
    mappings: usize,
}

impl Before {
    fn now() -> anyhow::Result<Self> {
        Ok(Self { bytes: pss(std::process::id())?, mappings: mappings()? })
    }

    /// How much has come since, in bytes.
    fn grown(&self) -> anyhow::Result<u64> {
        Ok(pss(std::process::id())?.saturating_sub(self.bytes))
    }
}

/// A container of this component in an engine of its own that has the largest pool this process can have, and how many
/// instances that holds.
async fn roomy(context: &Context, component: &Path) -> anyhow::Result<(Container, u32, u32)> {
    let wanted = context.pick(500, 1 << 20);
    let engine = Engine::new(&EngineConfig { max_instances: wanted, ..EngineConfig::default() })?;
    let spec = ContainerSpec { max_concurrency: wanted, ..ContainerSpec::default() };
    let container = Container::new(&engine.prepare_bytes(&std::fs::read(component)?)?, spec)?;
    // What is made when it is first needed is there from now on.
    drop(container.instantiate().await.map_err(|exit| anyhow::anyhow!("{exit}"))?);
    Ok((container, engine.stats().capacity, wanted))
}

async fn fill_with_idle(context: &Context) -> anyhow::Result<Filled> {
    let (hello, capacity, wanted) = roomy(context, example_hello()).await?;
    let before = Before::now()?;
    let (mut live, mut to_create, mut count) = (Vec::new(), Duration::ZERO, 0);
    while count < capacity && before.grown()? < GIB {
        let begun = Instant::now();
        for _ in 0..STEP.min(capacity - count) {
            live.push(hello.instantiate().await.map_err(|exit| anyhow::anyhow!("after {count}: {exit}"))?);
            count += 1;
        }
        to_create += begun.elapsed();
    }
    let (bytes, mappings) = (before.grown()?, mappings()?.saturating_sub(before.mappings));
    Ok(Filled { count, bytes, mappings, to_create, capacity, wanted })
}

/// Instances in the middle of a request, each with a stack in use.
async fn fill_with_busy(context: &Context) -> anyhow::Result<Filled> {
    let (waiting, capacity, wanted) = roomy(context, http()).await?;
    let before = Before::now()?;
    let (mut calls, mut count) = (Vec::new(), 0);
    let begun = Instant::now();
    while count < capacity && before.grown()? < GIB {
        for _ in 0..STEP.min(capacity - count) {
            let waiting = waiting.clone();
            calls.push(tokio::spawn(async move {
                let request = ::http::Request::get("/slow?ms=600000").header("host", "x");
                waiting.handle(request.body(http_body_util::Empty::new())?).await?;
                anyhow::Ok(())
            }));
            count += 1;
        }
        while waiting.stats().instances_live < count {
            if let Some(failed) = calls.iter().position(tokio::task::JoinHandle::is_finished) {
                calls.swap_remove(failed).await??;
                anyhow::bail!("a request that was to wait was answered");
            }
            tokio::task::yield_now().await;
        }
    }
    let (bytes, mappings) = (before.grown()?, mappings()?.saturating_sub(before.mappings));
    let filled = Filled { count, bytes, mappings, to_create: begun.elapsed(), capacity, wanted };
    waiting.kill();
    // Until the last one is gone, and with it the engine.
    for call in calls {
        let _killed = call.await?;
    }
    Ok(filled)
}

#[expect(clippy::cast_precision_loss, reason = "gigabytes at most")]
fn precise(number: u64) -> f64 {
    number as f64
}

fn mappings() -> anyhow::Result<usize> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count())
}

fn max_map_count() -> String {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default().trim().to_owned()
}
