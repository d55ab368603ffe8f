//! Requests per second through Coracle's router, and for `wasmtime serve` with the same component: in turns in one run
//! (A B A B …), with the same number of requests an instance on both sides. Between them and what a machine can do
//! at all stands a bare hyper server that gives the same answer. Latency at a fixed rate below what the slowest can do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use coracle_fixtures::{example_hello, p3_http};
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::load::{closed_loop, fixed_rate};
use crate::peers::{Coracle, coracle_binary, find, wasmtime_serve_with};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::median;
use crate::suite::proxy::{announce, part};
use crate::turns::{Side, added, all_pairs, conclude};

/// Connections, as many as the figures in wasmtime's own script.
const CONNECTIONS: usize = 32;
/// How many tasks the service has.
const TASKS: u32 = 2;

/// One way to give requests to instances, the same for both.
struct Manner {
    /// The beginning of its tables' names.
    name: &'static str,
    component: &'static Path,
    /// What the component answers to `GET /`.
    answer: &'static str,
    /// Of the task definition's container.
    labels: &'static [(&'static str, &'static str)],
    /// Of `wasmtime serve`.
    options: &'static [&'static str],
    /// How many requests an instance serves.
    instances: &'static str,
    /// How many times the rate of `wasmtime serve` is aimed at.
    goal: f64,
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let manners = [
        Manner {
            name: "hello",
            component: example_hello(),
            answer: "Hello from Coracle!\n",
            labels: &[],
            options: &[],
            instances: "a fresh instance for each request",
            goal: 2.5,
        },
        Manner {
            name: "reuse",
            component: example_hello(),
            answer: "Hello from Coracle!\n",
            labels: &[("coracle.instance-reuse", "128")],
            options: &["--max-instance-reuse-count", "128"],
            instances: "128 requests an instance, one after the other",
            goal: 1.5,
        },
        Manner {
            name: "p3",
            component: p3_http(),
            answer: "hello from 0.3\n",
            labels: &[],
            options: &[],
            instances: "wasi:http 0.3, 128 requests an instance, up to 16 at once",
            goal: 1.0,
        },
    ];
    for manner in &manners {
        compare(context, manner, &mut findings).await?;
    }
    Ok(findings)
}

async fn compare(context: &Context, manner: &Manner, findings: &mut Findings) -> anyhow::Result<()> {
    let Manner { name, component, instances, .. } = *manner;
    let dir = Directory::new()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy_labelled("hello", component, TASKS, manner.labels)?;
    let ours =
        Row::new("coracle", "coracle up, router", Whose::Ours, "coracle up; GET / of a service of two tasks")
            .with_settings(format!("every limit on, access log off; {instances}"));
    let mut servers = vec![Server { row: ours, address: coracle.router, host: "hello.default.localhost" }];
    let peer = match find("wasmtime") {
        Some(binary) => Some(wasmtime_serve_with(&binary, component, manner.options)?),
        None => {
            findings.leave_out(
                format!("{name}: wasmtime serve"),
                "wasmtime is not installed; benches/setup.sh installs it",
            );
            None
        }
    };
    if let Some((_, address)) = &peer {
        let command = ["wasmtime serve -S cli", &manner.options.join(" "), "<component>"].join(" ");
        let row = Row::new("wasmtime", "wasmtime serve", Whose::Peer, command)
            .with_settings(format!("pooling allocator, no limits, no log; {instances}"));
        servers.push(Server { row, address: *address, host: "localhost" });
    }
    let (_bound, address) = part(HYPER, &[manner.answer])?;
    let row = Row::new("hyper", "bare hyper", Whose::Bound, "GET /")
        .with_settings("the same bytes from a constant: no component, no router");
    servers.push(Server { row, address, host: "localhost" });
    let mut tables = rate_and_latency(context, servers, CONNECTIONS, name, Ways::Apart).await?;
    for ratio in tables.iter_mut().take(1).flat_map(|rates| &mut rates.ratios) {
        ratio.goal = (ratio.to == "wasmtime").then_some(manner.goal);
    }
    findings.tables.extend(tables);
    Ok(())
}

/// The part that is a bare hyper server.
pub(super) const HYPER: &str = "hyper";

/// Answers every request by `body`, through hyper and nothing else.
pub(super) async fn bare_hyper(body: String) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    let body = Bytes::from(body);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let service = service_fn(move |_| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone()))))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// What answers requests.
pub(super) struct Server {
    pub(super) row: Row,
    pub(super) address: SocketAddr,
    pub(super) host: &'static str,
}

/// How long turns are and how many.
fn turns(context: &Context) -> (usize, Duration) {
    context.pick((1, Duration::from_millis(100)), (5, Duration::from_secs(2)))
}

/// How servers stand to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    /// Each answers by itself. Latency is measured at half of what the slowest does, or less.
    Apart,
    /// All stand before the one with this id, and ours first of all. Latency is measured at half of what ours does, and
    /// there is a table more: what each adds to the 99th percentile of the one behind it.
    Before(&'static str),
}

/// What the router may add to the 99th percentile, in seconds.
const MAY_ADD: f64 = 300e-6;

/// Two tables: requests per second in a closed loop, and latency at a fixed rate; and a third, see [`Ways`].
pub(super) async fn rate_and_latency(
    context: &Context,
    servers: Vec<Server>,
    connections: usize,
    what: &str,
    ways: Ways,
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
    let rates = |side: &Side<'_>| side.done().iter().map(|turn| turn.figure).collect::<Vec<f64>>();
    let (most, half_of) = match ways {
        Ways::Apart => {
            let slowest = sides.iter().flat_map(rates).fold(f64::INFINITY, f64::min);
            (slowest, "the slowest of them")
        }
        Ways::Before(_) => {
            let ours = sides.first().and_then(|side| median(&rates(side)));
            (ours.unwrap_or(0.0), "Coracle's router")
        }
    };
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
    let rate = (most / 2.0).clamp(10.0, 100_000.0) as u32;
    let mut sides: Vec<Side<'_>> = servers
        .iter()
        .map(|server| {
            Side::new(server.row.clone(), move || async move {
                let load = fixed_rate(server.address, server.host, connections, rate, stretch);
                Ok(load.await?.into_latency())
            })
        })
        .collect();
    context.interleave(&mut sides, count).await;
    let table = Table::new(
        format!("{what}-latency").as_str(),
        format!("{what}: latency at {rate} requests/s"),
        format!(
            "A fixed rate, half of what {half_of} did in a closed loop, over the same {connections} connections. From the \
             moment a request was due to the last byte of its answer."
        ),
        Unit::Seconds,
    );
    let added_table = match ways {
        Ways::Apart => None,
        Ways::Before(behind) => {
            let mut table = Table::new(
                format!("{what}-added").as_str(),
                format!("{what}: what is added to the 99th percentile at {rate} requests/s"),
                "The 99th percentile of the latencies above, less that of asking the target itself at the same rate in the \
                 same turn.",
                Unit::Seconds,
            )
            .linear();
            table.rows = added(&sides, behind, 0.99);
            for row in table.rows.iter_mut().filter(|row| row.side == Whose::Ours) {
                *row = context.with_goal(row.clone(), MAY_ADD);
            }
            Some(table)
        }
    };
    let pairs = all_pairs(&sides);
    let latency_table = conclude(table, sides, &pairs);
    Ok([rate_table, latency_table].into_iter().chain(added_table).collect())
}
