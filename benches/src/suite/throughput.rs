//! Requests per second through Coracle's router to the hello service, and for `wasmtime serve` with
//! the same component: in turns in one run (A B A B …), a fresh instance for each request on both
//! sides. Latency at a fixed rate below what the slower one can do.

use std::net::SocketAddr;
use std::time::Duration;

use coracle_fixtures::example_hello;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::load::{closed_loop, fixed_rate};
use crate::peers::{Coracle, coracle_binary, find, wasmtime_serve};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::turns::{Side, all_pairs, conclude};

/// Connections, as many as the figures in wasmtime's own script.
const CONNECTIONS: usize = 32;
/// How many tasks the service has.
const TASKS: u32 = 2;

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let dir = Directory::new()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), TASKS)?;
    let ours =
        Row::new("coracle", "coracle up, router", Whose::Ours, "coracle up; GET / of a service of two tasks")
            .with_settings("defaults: every limit on, access log off, a fresh instance for each request");
    let mut servers = vec![Server { row: ours, address: coracle.router, host: "hello.default.localhost" }];
    let peer = match find("wasmtime") {
        Some(binary) => Some(wasmtime_serve(&binary, example_hello())?),
        None => {
            findings.leave_out("wasmtime serve", "wasmtime is not installed; benches/setup.sh installs it");
            None
        }
    };
    if let Some((_, address)) = &peer {
        let row = Row::new("wasmtime", "wasmtime serve", Whose::Peer, "wasmtime serve -S cli hello.wasm")
            .with_settings(
                "its defaults: pooling allocator, a fresh instance for each request, no limits, no log",
            );
        servers.push(Server { row, address: *address, host: "localhost" });
    }
    let tables = rate_and_latency(context, servers, CONNECTIONS, "hello").await?;
    findings.tables.extend(tables);
    Ok(findings)
}

/// What answers requests.
pub(super) struct Server {
    pub(super) row: Row,
    pub(super) address: SocketAddr,
    pub(super) host: &'static str,
}

/// How long turns are and how many.
fn turns(context: &Context) -> (usize, Duration) {
    context.pick((1, Duration::from_millis(150)), (5, Duration::from_secs(4)))
}

/// Two tables: requests per second in a closed loop, and latency at half of what the slowest server did, or less.
pub(super) async fn rate_and_latency(
    context: &Context,
    servers: Vec<Server>,
    connections: usize,
    what: &str,
) -> anyhow::Result<Vec<Table>> {
    let (count, stretch) = turns(context);
    for server in &servers {
        closed_loop(server.address, server.host, connections, stretch / 4).await?;
    }
    let mut sides: Vec<Side<'_>> = servers
        .iter()
        .map(|server| {
            Side::new(server.row.clone(), move || async move {
                Ok(closed_loop(server.address, server.host, connections, stretch).await?.into_rate())
            })
        })
        .collect();
    context.interleave(&mut sides, count).await;
    let slowest = sides
        .iter()
        .flat_map(|side| side.done().iter().map(|turn| turn.figure))
        .fold(f64::INFINITY, f64::min);
    let table = Table::new(
        format!("{what}-rate").as_str(),
        format!("{what}: requests per second, {connections} connections"),
        "Closed loop: each connection sends its next request when the last one is answered. Client and server share \
         the machine.",
        Unit::PerSecond,
    )
    .higher_is_better()
    .linear();
    let pairs = all_pairs(&sides);
    let rate_table = conclude(table, sides, &pairs);

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of requests")]
    let rate = (slowest / 2.0).clamp(10.0, 100_000.0) as u32;
    let mut sides: Vec<Side<'_>> = servers
        .iter()
        .map(|server| {
            Side::new(server.row.clone(), move || async move {
                Ok(fixed_rate(server.address, server.host, rate, stretch).await?.into_latency())
            })
        })
        .collect();
    context.interleave(&mut sides, count).await;
    let table = Table::new(
        format!("{what}-latency").as_str(),
        format!("{what}: latency at {rate} requests/s"),
        "A fixed rate, half of what the slowest of them did in a closed loop. From the moment a request was due to the \
         last byte of its answer.",
        Unit::Seconds,
    );
    let pairs = all_pairs(&sides);
    let latency_table = conclude(table, sides, &pairs);
    Ok(vec![rate_table, latency_table])
}
