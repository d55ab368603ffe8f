//! What metering costs: the same programs as wasmtime compiles them by default, without metering, and as engines of
//! other settings do, the product's among them.

use std::time::Duration;

use coracle_fixtures::work;
use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig, Exit, Metering, Prepared};

use crate::bench::Context;
use crate::report::{Findings, Row, Side, Table, Unit};

/// Programs, and rounds that take about a quarter of a second.
const PROGRAMS: &[(&str, u32)] =
    &[("hash", 600), ("sort", 40), ("regex", 40), ("json", 250), ("interpreter", 12)];

/// A setting of the engine.
struct Variant {
    id: &'static str,
    label: &'static str,
    config: EngineConfig,
}

/// The first is the one the others are compared with, the second the product's.
fn variants() -> Vec<Variant> {
    let product = EngineConfig { max_instances: 16, ..EngineConfig::default() };
    let variant = |id, label, config| Variant { id, label, config };
    vec![
        variant("none", "not metered", EngineConfig { metering: Metering::None, ..product.clone() }),
        variant("product", "metered, as in the product", product.clone()),
        variant(
            "inlined",
            "metered, inlined up to 250",
            EngineConfig { inline_up_to: 250, ..product.clone() },
        ),
        variant(
            "inlined-more",
            "metered, inlined up to 2000",
            EngineConfig { inline_up_to: 2000, ..product.clone() },
        ),
        variant("10k", "metered, slices of 10k fuel", EngineConfig { fuel_slice: 10_000, ..product.clone() }),
        variant(
            "100k",
            "metered, slices of 100k fuel",
            EngineConfig { fuel_slice: 100_000, ..product.clone() },
        ),
        variant("10M", "metered, slices of 10M fuel", EngineConfig { fuel_slice: 10_000_000, ..product }),
    ]
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let runs = context.pick(1, 5);
    let wasm = std::fs::read(work())?;
    let mut variants = variants();
    variants.truncate(context.pick(2, variants.len()));
    let prepared = variants
        .iter()
        .map(|variant| -> anyhow::Result<Prepared> {
            Ok(Engine::new(&variant.config)?.prepare_bytes(&wasm)?)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(
        "programs",
        "CPU time of metered programs, of that without metering",
        format!(
            "The least of {runs} runs each, in turns, because what makes a run slow is not the program. 100 %: as \
             wasmtime compiles it by default, where nothing stops it."
        ),
        Unit::Share,
    )
    .linear();
    for &(program, rounds) in context.pick(&PROGRAMS[..2], PROGRAMS) {
        let rounds = context.pick(1, rounds);
        let mut times = vec![Duration::MAX; variants.len()];
        for turn in 0..runs {
            context.progress(&format!("{program}, turn {}", turn + 1));
            for (prepared, least) in prepared.iter().zip(&mut times) {
                *least = once(prepared, program, rounds).await?.min(*least);
            }
        }
        let base = times[0].as_secs_f64();
        for (variant, time) in variants.iter().zip(&times).skip(1) {
            let Variant { id, label, config } = variant;
            let command = format!(
                "`work {program} {rounds}`, {:?} with fuel_slice {} and inline_up_to {}",
                config.metering, config.fuel_slice, config.inline_up_to
            );
            let row = Row::new(format!("{program}/{id}"), format!("{program}, {label}"), Side::Ours, command);
            table.rows.push(row.with_turns(vec![time.as_secs_f64() / base]).with_extra(
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
