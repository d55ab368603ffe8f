//! What metering costs: the same programs on an engine that meters and on one that doesn't, and with slices of
//! several sizes.

use coracle_fixtures::work;
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig, Exit, Metering, Prepared};
use serde_json::json;
use std::time::Duration;

use crate::report;

/// Programs, and rounds that take about a quarter of a second.
const PROGRAMS: &[(&str, u32)] =
    &[("hash", 600), ("sort", 40), ("regex", 40), ("json", 250), ("interpreter", 12)];
/// Runs of each; the fastest counts, because what makes one slow is not the program.
const RUNS: usize = 5;
/// Fuel per slice.
const SLICES: &[u64] = &[10_000, 100_000, 1_000_000, 10_000_000];

pub(crate) async fn run() -> anyhow::Result<()> {
    println!("\nMetering: CPU time of real programs with fuel against without, best of {RUNS}");
    let wasm = std::fs::read(work())?;
    let prepare = |metering, fuel_slice| -> anyhow::Result<Prepared> {
        let config = EngineConfig { max_instances: 16, metering, fuel_slice, ..EngineConfig::default() };
        Ok(Engine::new(&config)?.prepare_bytes(&wasm)?)
    };
    let without = prepare(Metering::None, 1)?;
    let metered =
        SLICES.iter().map(|slice| prepare(Metering::Fuel, *slice)).collect::<Result<Vec<_>, _>>()?;
    print!("  {:<14}{:>12}", "", "without ms");
    SLICES.iter().for_each(|slice| print!("{:>14}", format!("{}k fuel", slice / 1000)));
    println!("   (a slice)");
    let mut results = Vec::new();
    for &(program, rounds) in PROGRAMS {
        let base = best(&without, program, rounds).await?;
        print!("  {program:<14}{:>12.1}", base.as_secs_f64() * 1000.0);
        let mut costs = Vec::new();
        for (slice, prepared) in SLICES.iter().zip(&metered) {
            let cost = best(prepared, program, rounds).await?.as_secs_f64() / base.as_secs_f64();
            print!("{:>14}", format!("{:+.1} %", (cost - 1.0) * 100.0));
            costs.push(json!({ "fuel_slice": slice, "ratio": cost }));
        }
        println!();
        results.push(json!({ "program": program, "unmetered_s": base.as_secs_f64(), "metered": costs }));
    }
    report::write("metering", &json!(results))
}

/// The least CPU time of several runs, creation of the instance included.
async fn best(prepared: &Prepared, program: &str, rounds: u32) -> anyhow::Result<Duration> {
    let args = vec!["work".to_owned(), program.to_owned(), rounds.to_string()];
    let container = Container::new(prepared, ContainerSpec { args, ..ContainerSpec::default() })?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let before = container.stats().cpu_time;
        match container.run().await {
            Exit::Code(0) => best = best.min(container.stats().cpu_time - before),
            exit => anyhow::bail!("{program}: {exit}"),
        }
    }
    Ok(best)
}
