//! How the machine is divided among tasks with CPU shares when all of them want all of it, and what one gets that is
//! alone.

use std::time::Duration;

use coracle_fixtures::command;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Prepared};
use serde_json::json;

use crate::report;

/// How long each case is watched.
const WATCH: Duration = Duration::from_secs(5);
/// How long they may take to find their balance.
const SETTLE: Duration = Duration::from_millis(500);
/// Shares of the tasks that contend. Each spins in as many instances as there are processors.
const CASES: &[&[u32]] = &[&[512, 512], &[256, 768], &[128, 256, 512, 1024], &[2, 1024], &[1024]];

pub(crate) async fn run() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "\nFairness: endless loops under CPU shares on {cores} processors, {} s (goal: within 10 %)",
        WATCH.as_secs()
    );
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&std::fs::read(command())?)?;
    println!(
        "  {:<28}{:>10}{:>12}{:>12}{:>10}",
        "shares of all", "shares", "target %", "measured %", "error %"
    );
    let mut results = Vec::new();
    for case in CASES {
        let used = measure(&prepared, case, cores).await?;
        let (all_used, all_shares) = (used.iter().sum::<f64>(), case.iter().sum::<u32>());
        for (shares, used) in case.iter().zip(&used) {
            // Of what the guests got together: what else the machine does is none of their business.
            let (target, measured) = (f64::from(*shares) / f64::from(all_shares), used / all_used);
            println!(
                "  {:<28}{shares:>10}{:>12.1}{:>12.1}{:>+10.1}",
                format!("{case:?}"),
                target * 100.0,
                measured * 100.0,
                (measured / target - 1.0) * 100.0
            );
            results.push(json!({ "case": case, "shares": shares, "target": target, "measured": measured }));
        }
        println!("  {:<28}together {:.2} of {cores} processors", "", all_used / WATCH.as_secs_f64());
    }
    report::write("fairness", &json!(results))
}

/// CPU seconds that each task used.
async fn measure(prepared: &Prepared, case: &[u32], instances: usize) -> anyhow::Result<Vec<f64>> {
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
    let before: Vec<_> = tasks.iter().map(|(_, cpu)| cpu.used()).collect();
    tokio::time::sleep(WATCH).await;
    let used =
        tasks.iter().zip(before).map(|((_, cpu), before)| (cpu.used() - before).as_secs_f64()).collect();
    tasks.iter().for_each(|(container, _)| container.kill());
    Ok(used)
}
