//! From an artifact on disk to a component that can serve, and to its first answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coracle_fixtures::example_hello;
use coracle_sandbox::{ArtifactCache, Container, ContainerSpec, Engine, EngineConfig};
use serde_json::json;

use crate::report;

/// Loads of each; the median counts.
const LOADS: usize = 21;
/// Names further components, with colons between: an interpreter in WebAssembly is the interesting one.
const MORE: &str = "CORACLE_BENCH_COMPONENTS";

pub(crate) async fn run() -> anyhow::Result<()> {
    println!(
        "\nArtifacts: from a warm cache (goal: hello under 1 ms, an interpreter's first answer under 100 ms)"
    );
    let more = std::env::var(MORE).unwrap_or_default();
    let mut components = vec![example_hello().to_owned()];
    components.extend(more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
    if more.is_empty() {
        println!("  (only hello; name others, such as one by componentize-py, in {MORE})");
    }
    println!(
        "  {:<24}{:>10}{:>12}{:>12}{:>18}",
        "component", "MB", "compile s", "load ms", "first answer ms"
    );
    let dir = tempfile::tempdir()?;
    let mut results = Vec::new();
    for component in components {
        let result = measure(&component, dir.path()).await;
        results.push(result.with_context(|| component.display().to_string())?);
    }
    report::write("artifact", &json!(results))
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
async fn measure(component: &Path, dir: &Path) -> anyhow::Result<serde_json::Value> {
    let engine = Engine::new(&EngineConfig::default())?;
    let digest = component.display().to_string();
    let begun = Instant::now();
    let prepared = ArtifactCache::open(engine.clone(), dir)?.prepare(&digest, component).await?;
    let compiled = begun.elapsed();
    let serves = prepared.exports().http;
    drop(prepared);

    let (mut loads, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..LOADS {
        // A cache of its own: the last one remembers what is in use.
        let cache = ArtifactCache::open(engine.clone(), dir)?;
        let begun = Instant::now();
        let prepared = cache.prepare(&digest, component).await?;
        loads.push(begun.elapsed());
        anyhow::ensure!(cache.stats().disk_hits == 1, "it was compiled again");
        if serves {
            let container = Container::new(&prepared, ContainerSpec::default())?;
            let request = http::Request::get("/").header("host", "x").body(http_body_util::Empty::new())?;
            container.handle(request).await?;
            answers.push(begun.elapsed());
        }
    }
    let name = component.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let megabytes = std::fs::metadata(component)?.len() as f64 / 1e6;
    let (load, answer) = (median(&mut loads), median(&mut answers));
    println!(
        "  {name:<24}{megabytes:>10.1}{:>12.2}{:>12.2}{:>18.2}",
        compiled.as_secs_f64(),
        load.as_secs_f64() * 1e3,
        answer.as_secs_f64() * 1e3
    );
    Ok(json!({
        "component": name, "bytes": megabytes * 1e6, "compile_s": compiled.as_secs_f64(),
        "load_s": load.as_secs_f64(), "first_answer_s": answer.as_secs_f64(),
    }))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
