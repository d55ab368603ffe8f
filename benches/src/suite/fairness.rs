//! How the machine is divided among tasks with CPU shares when all of them want all of it, and what one gets that is
//! alone.

use std::time::{Duration, Instant};

use coracle_fixtures::command;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Prepared};

use crate::bench::Context;
use crate::report::{Findings, Row, Side, Table, Unit};

/// How long they may take to find their balance.
const SETTLE: Duration = Duration::from_millis(500);
/// Shares of the tasks that contend. Each spins in as many instances as there are processors.
const CASES: &[&[u32]] = &[&[512, 512], &[256, 768], &[128, 256, 512, 1024], &[2, 1024], &[1024]];

#[expect(clippy::cast_precision_loss, reason = "a few processors")]
pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let cores = std::thread::available_parallelism()?.get();
    let watch = context.pick(Duration::from_millis(200), Duration::from_secs(4));
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&std::fs::read(command())?)?;
    let mut table = Table::new(
        "shares",
        "CPU a task gets under contention, of what its share entitles it to",
        format!(
            "Endless loops under CPU shares on {cores} processors: what each task got of what all got together, divided \
             by its part of the shares. 100 % is fair; the goal is to be within 10 %."
        ),
        Unit::Share,
    )
    .no_direction()
    .linear();
    let mut whole = Table::new(
        "together",
        "What the tasks get together, of the machine",
        "CPU time of all of them, divided by that of all processors.",
        Unit::Share,
    )
    .higher_is_better()
    .linear();
    for case in context.pick(&CASES[..1], CASES) {
        let mut turns: Vec<Vec<f64>> = vec![Vec::new(); case.len()];
        let mut together = Vec::new();
        // Turns are of a millisecond: in four seconds, a five-hundredth of the machine is 16 of them.
        let (all_shares, least) = (case.iter().sum::<u32>(), case.iter().min().copied().unwrap_or(1));
        let watch = if least * 100 < all_shares { watch * 5 } else { watch };
        for turn in 0..context.pick(1, 3) {
            context.progress(&format!("shares {case:?}, turn {}", turn + 1));
            let (used, watched) = measure(&prepared, case, cores, watch).await?;
            let all_used = used.iter().sum::<f64>();
            for ((shares, used), turns) in case.iter().zip(&used).zip(&mut turns) {
                // Of what the guests got together: what else the machine does is none of their business.
                turns.push((used / all_used) / (f64::from(*shares) / f64::from(all_shares)));
            }
            together.push(all_used / watched.as_secs_f64() / cores as f64);
        }
        let command =
            format!("{cores} × `command spin` in each, under CpuBudget::shares of {case:?}, {watch:?}");
        let names = case.iter().map(u32::to_string).collect::<Vec<_>>().join(":");
        // One that is alone gets all of what it gets.
        let contended = case.iter().zip(turns).filter(|_| case.len() > 1);
        for (place, (shares, turns)) in contended.enumerate() {
            let label = format!("{shares} of {names}");
            let id = format!("{names}/{place}");
            table.rows.push(Row::new(id, label, Side::Ours, &command[..]).with_turns(turns));
        }
        whole.rows.push(Row::new(&names[..], names.clone(), Side::Ours, command).with_turns(together));
    }
    Ok(Findings { tables: vec![table, whole], ..Findings::default() })
}

/// CPU seconds that each task used, and how long was watched: a timer that is late counts.
async fn measure(
    prepared: &Prepared,
    case: &[u32],
    instances: usize,
    watch: Duration,
) -> anyhow::Result<(Vec<f64>, Duration)> {
    let mut tasks = Vec::new();
    for shares in case {
        let cpu = CpuBudget::shares(*shares);
        let args = vec!["command".into(), "spin".into()];
        let spec = ContainerSpec { args, cpu: cpu.clone(), ..ContainerSpec::default() };
        let container = Container::new(prepared, spec)?;
        for _ in 0..instances {
            let container = container.clone();
            tokio::spawn(async move { container.run().await });
        }
        tasks.push((container, cpu));
    }
    tokio::time::sleep(SETTLE).await;
    let begun = Instant::now();
    let before: Vec<_> = tasks.iter().map(|(_, cpu)| cpu.used()).collect();
    tokio::time::sleep(watch).await;
    let watched = begun.elapsed();
    let used =
        tasks.iter().zip(before).map(|((_, cpu), before)| (cpu.used() - before).as_secs_f64()).collect();
    tasks.iter().for_each(|(container, _)| container.kill());
    Ok((used, watched))
}
