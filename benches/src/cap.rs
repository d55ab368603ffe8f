//! How exactly a CPU cap is kept: guests in endless loops under 128 to 2048 units, measured by the
//! operating system's own accounting of the whole process, which also counts what metering costs.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use coracle_fixtures::command;
use coracle_sandbox::{Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Prepared};
use rustix::time::{ClockId, clock_gettime};

/// How long each cap is watched.
const WATCH: Duration = Duration::from_secs(5);
/// CPU units, and how many instances spin under them.
const CASES: &[(u32, usize)] = &[(128, 1), (256, 1), (512, 1), (1024, 1), (256, 4), (1024, 2), (2048, 4)];

pub(crate) async fn run() -> anyhow::Result<()> {
    println!(
        "\nCPU caps: endless loops, CPU time of the process over {} s (goal: within 5 %)",
        WATCH.as_secs()
    );
    let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&std::fs::read(command())?)?;
    println!("  {:<8}{:>10}{:>12}{:>12}{:>10}", "units", "instances", "target %", "measured %", "error %");
    for &(units, instances) in CASES {
        let measured = measure(&prepared, units, instances).await?;
        let target = f64::from(units) / 10.24;
        let error = (measured / target - 1.0) * 100.0;
        println!("  {units:<8}{instances:>10}{target:>12.1}{measured:>12.2}{error:>+10.1}");
    }
    Ok(())
}

/// Percent of one core that the process used while the guests spun.
async fn measure(prepared: &Prepared, units: u32, instances: usize) -> anyhow::Result<f64> {
    let budget = CpuBudget::capped(units);
    let spec = ContainerSpec {
        args: vec!["command".into(), "spin".into()],
        cpu: budget,
        run_timeout: Some(WATCH),
        ..ContainerSpec::default()
    };
    let container = Container::new(prepared, spec)?;
    let (begun, before) = (Instant::now(), process_cpu());
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
    Ok((process_cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0)
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
