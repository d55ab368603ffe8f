//! From an artifact on disk to a component that can serve, and to its first answer.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use coracle_fixtures::example_hello;
use coracle_sandbox::{ArtifactCache, Container, ContainerSpec, Engine, EngineConfig};
use http_body_util::{BodyExt as _, Empty};

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::report::{Findings, Measure, Row, Side, Table, Unit};
use crate::stats::Times;

/// Names further components, with colons between: an interpreter in WebAssembly is the interesting one.
const MORE: &str = "CORACLE_BENCH_COMPONENTS";

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let more = std::env::var(MORE).unwrap_or_default();
    let mut components = vec![example_hello().to_owned()];
    components.extend(more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
    let table = |id, title, measured| Table::new(id, title, measured, Unit::Seconds);
    let mut tables = [
        table(
            "compile",
            "Compiling a component",
            "Once, in this process: from the file's bytes to an artifact on disk.",
        ),
        table(
            "load",
            "Loading a component's artifact",
            "From a warm page cache: authenticated, mapped, linked and type-checked.",
        ),
        table(
            "answer",
            "From an artifact on disk to the first answer",
            "Loading included. Goal: under 100 ms for an interpreter of 18 MB.",
        ),
    ];
    let dir = Directory::new()?;
    for component in components {
        let what = || component.display().to_string();
        let times = measure(&component, dir.path(), context).await.with_context(what)?;
        let name = component.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let size = std::fs::metadata(&component)?.len() as f64;
        for (table, turns) in tables.iter_mut().zip(&times) {
            if let Some(measure) = measure_of(turns) {
                let mut row =
                    Row::new(&name[..], &name[..], Side::Ours, format!("ArtifactCache::prepare({})", what()));
                row.measure = Some(measure);
                // hello is what a node starts a thousand of.
                if table.id == "load" && component == example_hello() {
                    row = context.with_goal(row, 1e-3);
                }
                table.rows.push(row.with_extra("size", Unit::Bytes, size));
            }
        }
    }
    let mut findings = Findings { tables: tables.into(), ..Findings::default() };
    if more.is_empty() {
        findings
            .leave_out("interpreters", format!("name components, such as one by componentize-py, in {MORE}"));
    }
    Ok(findings)
}

fn measure_of(turns: &[Times]) -> Option<Measure> {
    let mut all = Times::default();
    turns.iter().for_each(|turn| all.add(turn));
    let medians = turns.iter().filter(|turn| turn.count() > 0).map(Times::median).collect();
    Measure::of_turns(medians, (all.count() > 0).then(|| all.summary()))
}

/// Compilation, loads and first answers.
async fn measure(component: &Path, dir: &Path, context: &Context) -> anyhow::Result<[Vec<Times>; 3]> {
    let engine = Engine::new(&EngineConfig::default())?;
    let digest = component.display().to_string();
    let begun = Instant::now();
    let prepared = ArtifactCache::open(engine.clone(), dir)?.prepare(&digest, component).await?;
    let compiled = [begun.elapsed()].into_iter().collect();
    let serves = prepared.exports().http;
    drop(prepared);

    let (mut all_loads, mut all_answers) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(1, 5) {
        let (mut loads, mut answers) = (Times::default(), Times::default());
        for _ in 0..context.pick(2, 20) {
            // A cache of its own: the last one remembers what is in use.
            let cache = ArtifactCache::open(engine.clone(), dir)?;
            let begun = Instant::now();
            let prepared = cache.prepare(&digest, component).await?;
            loads.record(begun.elapsed());
            anyhow::ensure!(cache.stats().disk_hits == 1, "it was compiled again");
            if serves {
                let container = Container::new(&prepared, ContainerSpec::default())?;
                let request = http::Request::get("/").header("host", "x").body(Empty::new())?;
                container.handle(request).await?.into_body().collect().await?;
                answers.record(begun.elapsed());
            }
        }
        all_loads.push(loads);
        all_answers.push(answers);
    }
    Ok([vec![compiled], all_loads, all_answers])
}
