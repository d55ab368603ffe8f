//! What metering costs: the same programs on an engine that meters and on one that doesn't, and with slices of
//! several sizes.

use std::time::Duration;

use coracle_fixtures::work;
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig, Exit, Metering, Prepared};

use crate::bench::Context;
use crate::report::{Findings, Row, Side, Table, Unit};

/// Programs, and rounds that take about a quarter of a second.
const PROGRAMS: &[(&str, u32)] =
    &[("hash", 600), ("sort", 40), ("regex", 40), ("json", 250), ("interpreter", 12)];
/// Fuel per slice.
const SLICES: &[u64] = &[10_000, 100_000, 1_000_000, 10_000_000];

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let runs = context.pick(1, 5);
    let wasm = std::fs::read(work())?;
    let prepare = |metering, fuel_slice| -> anyhow::Result<Prepared> {
        let config = EngineConfig { max_instances: 16, metering, fuel_slice, ..EngineConfig::default() };
        Ok(Engine::new(&config)?.prepare_bytes(&wasm)?)
    };
    let slices = context.pick(&SLICES[2..3], SLICES);
    let without = prepare(Metering::None, 1)?;
    let metered =
        slices.iter().map(|slice| prepare(Metering::Fuel, *slice)).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(
        "programs",
        "CPU time of metered programs, of that without metering",
        format!("The least of {runs} runs each, in turns, because what makes a run slow is not the program. 100 %: free."),
        Unit::Share,
    )
    .linear();
    for &(program, rounds) in context.pick(&PROGRAMS[..2], PROGRAMS) {
        let rounds = context.pick(1, rounds);
        let (mut base, mut costs) = (Vec::new(), vec![Vec::new(); metered.len()]);
        for turn in 0..runs {
            context.progress(&format!("{program}, turn {}", turn + 1));
            base.push(once(&without, program, rounds).await?);
            for (prepared, costs) in metered.iter().zip(&mut costs) {
                costs.push(once(prepared, program, rounds).await?);
            }
        }
        let least = |times: &[Duration]| times.iter().min().copied().unwrap_or_default().as_secs_f64();
        let base = least(&base);
        for (slice, costs) in slices.iter().zip(&costs) {
            let label = format!("{program}, slices of {}k fuel", slice / 1000);
            let command = format!("`work {program} {rounds}`, Metering::Fuel with fuel_slice {slice}");
            let row = Row::new(format!("{program}/{slice}"), label, Side::Ours, command);
            table.rows.push(row.with_turns(vec![least(costs) / base]).with_extra(
                "without",
                Unit::Seconds,
                base,
            ));
        }
    }
    Ok(Findings { tables: vec![table], ..Findings::default() })
}

/// The CPU time of a run, creation of the instance included.
async fn once(prepared: &Prepared, program: &str, rounds: u32) -> anyhow::Result<Duration> {
    let args = vec!["work".to_owned(), program.to_owned(), rounds.to_string()];
    let container = Container::new(prepared, ContainerSpec { args, ..ContainerSpec::default() })?;
    match container.run().await {
        Exit::Code(0) => Ok(container.stats().cpu_time),
        exit => anyhow::bail!("{program}: {exit}"),
    }
}
