//! What neighbours that spin do to others: latency of the hello service at a fixed rate, on an idle
//! machine and beside tasks in endless loops.

use std::time::Duration;

use coracle_fixtures::{command, example_hello};

use crate::load::{Outcome, fixed_rate};
use crate::peers::{Coracle, coracle_binary};

/// Requests per second, far below what the service can do.
const RATE: u32 = 100;
/// How long each stretch is.
const STRETCH: Duration = Duration::from_secs(10);
/// How many tasks spin, 256 units each.
const SPINNERS: u32 = 50;

pub(crate) async fn run() -> anyhow::Result<()> {
    println!(
        "\nNoisy neighbours: hello at {RATE} requests/s, alone and beside {SPINNERS} tasks in endless loops (256 units each)"
    );
    let dir = tempfile::tempdir()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), 2)?;
    let load = || fixed_rate(coracle.router, "hello.default.localhost", RATE, STRETCH);
    load().await?;
    println!("  {:<12}{:>10}{:>10}{:>10}", "", "p50 µs", "p99 µs", "max µs");
    let idle = load().await?;
    print_row("alone", &idle);
    coracle.run_tasks("spinner", command(), &["spin"], SPINNERS)?;
    let busy = load().await?;
    print_row("beside", &busy);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    let ratio = busy.latency.value_at_quantile(0.99) as f64 / idle.latency.value_at_quantile(0.99) as f64;
    println!("  p99 beside / alone: {ratio:.2}");
    Ok(())
}

fn print_row(what: &str, outcome: &Outcome) {
    let quantile = |q: f64| outcome.latency.value_at_quantile(q);
    println!("  {what:<12}{:>10}{:>10}{:>10}", quantile(0.5), quantile(0.99), outcome.latency.max());
}
