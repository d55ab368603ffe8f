//! How exactly a CPU cap is kept: guests in endless loops under 128 to 2048 units, measured by the
//! operating system's own accounting of the whole process, which also counts what metering costs.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use coracle_fixtures::command;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Prepared};

use crate::bench::Context;
use crate::proc::own_cpu_time;
use crate::report::{Findings, Row, Side, Table, Unit};

/// CPU units, and how many instances spin under them.
const CASES: &[(u32, usize)] = &[(128, 1), (256, 1), (512, 1), (1024, 1), (256, 4), (1024, 2), (2048, 4)];

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let watch = context.pick(Duration::from_millis(200), Duration::from_secs(4));
    let cases = context.pick(&CASES[..2], CASES);
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&std::fs::read(command())?)?;
    let mut table = Table::new(
        "caps",
        "CPU an endless loop gets, of what its cap allows",
        "CPU time of the whole process by the kernel's clock, which also counts what metering costs, divided by the \
         cap. 100 % is right; the goal is to be within 5 %.",
        Unit::Share,
    )
    .no_direction()
    .linear();
    for &(units, instances) in cases {
        let mut turns = Vec::new();
        for turn in 0..context.pick(1, 3) {
            context.progress(&format!("{units} units, turn {}", turn + 1));
            turns.push(measure(&prepared, units, instances, watch).await? / (f64::from(units) / 1024.0));
        }
        let label = match instances {
            1 => format!("{units} units"),
            _ => format!("{units} units, {instances} instances"),
        };
        let command = format!("{instances} × `command spin` under CpuBudget::capped({units}) for {watch:?}");
        table
            .rows
            .push(Row::new(format!("{units}x{instances}"), label, Side::Ours, command).with_turns(turns));
    }
    Ok(Findings { tables: vec![table], ..Findings::default() })
}

/// The share of one core that the process used while the guests spun.
async fn measure(prepared: &Prepared, units: u32, instances: usize, watch: Duration) -> anyhow::Result<f64> {
    let budget = CpuBudget::capped(units);
    let spec = ContainerSpec {
        args: vec!["command".into(), "spin".into()],
        cpu: budget,
        run_timeout: Some(watch),
        ..ContainerSpec::default()
    };
    let container = Container::new(prepared, spec)?;
    let (begun, before) = (Instant::now(), own_cpu_time());
    let spinners: Vec<_> = (0..instances)
        .map(|_| {
            let container = container.clone();
            tokio::spawn(async move { container.run().await })
        })
        .collect();
    for spinner in spinners {
        let exit = spinner.await?;
        if !matches!(exit, coracle_sandbox::Exit::TimedOut { .. }) {
            return Err(anyhow!("the endless loop ended: {exit}"));
        }
    }
    Ok((own_cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64())
}
