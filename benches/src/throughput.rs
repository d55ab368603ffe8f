//! Requests per second through Coracle's router to the hello service, and for `wasmtime serve` with
//! the same component: in turns in one run (A B A B …), a fresh instance for each request on both
//! sides.

use std::net::SocketAddr;
use std::time::Duration;

use coracle_fixtures::example_hello;

use crate::load::{Outcome, closed_loop};
use crate::peers::{Coracle, coracle_binary, find, wasmtime_serve};

/// Connections, as many as the figures in wasmtime's own script.
const CONNECTIONS: usize = 32;
/// How long one turn is.
const TURN: Duration = Duration::from_secs(4);
/// How many turns each gets.
const TURNS: usize = 5;
/// How many tasks the service has.
const TASKS: u32 = 2;

pub(crate) async fn run() -> anyhow::Result<()> {
    println!("\nThroughput: GET / of hello, {CONNECTIONS} connections, a fresh instance for each request");
    let dir = tempfile::tempdir()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), TASKS)?;
    let ours = (coracle.router, "hello.default.localhost");
    let peer = match find("wasmtime") {
        Some(binary) => Some(wasmtime_serve(&binary, example_hello())?),
        None => {
            println!("  `wasmtime` is not installed: its row is left out. benches/setup.sh installs it.");
            None
        }
    };
    let theirs = peer.as_ref().map(|(_, address)| (*address, "localhost"));
    warm_up(ours).await?;
    if let Some(theirs) = theirs {
        warm_up(theirs).await?;
    }
    let mut ratios = Vec::new();
    println!(
        "  {:<6}{:<18}{:>12}{:>10}{:>10}{:>10}",
        "turn", "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs"
    );
    for turn in 1..=TURNS {
        let a = one_turn(ours).await?;
        print_row(turn, "coracle", &a);
        if let Some(theirs) = theirs {
            let b = one_turn(theirs).await?;
            print_row(turn, "wasmtime serve", &b);
            ratios.push(a.requests_per_second / b.requests_per_second);
        }
    }
    if !ratios.is_empty() {
        ratios.sort_by(f64::total_cmp);
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "  ratio coracle / wasmtime serve: median {:.2} (each pair: {})",
            ratios[ratios.len() / 2],
            each.join(", ")
        );
    }
    Ok(())
}

async fn warm_up((address, host): (SocketAddr, &str)) -> anyhow::Result<()> {
    closed_loop(address, host, CONNECTIONS, Duration::from_secs(1)).await.map(|_| ())
}

async fn one_turn((address, host): (SocketAddr, &str)) -> anyhow::Result<Outcome> {
    closed_loop(address, host, CONNECTIONS, TURN).await
}

fn print_row(turn: usize, who: &str, outcome: &Outcome) {
    let quantile = |q: f64| outcome.latency.value_at_quantile(q);
    println!(
        "  {turn:<6}{who:<18}{:>12.0}{:>10}{:>10}{:>10}",
        outcome.requests_per_second,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999)
    );
}
