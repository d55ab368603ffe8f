//! What neighbours do to others that spin, leak or flood logs: latency of the hello service at a fixed rate, alone
//! and beside each kind, in turns.

use std::time::Duration;

use coracle_fixtures::{command, example_hello};
use serde_json::json;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::containers::Neighbours;
use crate::load::fixed_rate;
use crate::peers::{Coracle, coracle_binary, poll};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::turns::{Pair, Side, conclude};

/// Requests per second, far below what the service can do.
const RATE: u32 = 100;
/// Connections: enough that none has to wait for another's answer, unless that takes a third of a second.
const CONNECTIONS: usize = 32;
/// What the service is asked by.
const HOST: &str = "hello.default.localhost";

/// A kind of neighbour.
struct Noise {
    name: &'static str,
    label: &'static str,
    args: &'static [&'static str],
    tasks: u32,
}

/// Each a service, so that tasks that die of what they do are started again.
const NOISES: &[Noise] = &[
    Noise { name: "spin", label: "beside 50 that spin", args: &["spin"], tasks: 50 },
    Noise { name: "leak", label: "beside 20 that leak memory", args: &["hog"], tasks: 20 },
    Noise { name: "flood", label: "beside 20 that flood their log", args: &["flood"], tasks: 20 },
];

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let stretch = context.pick(Duration::from_millis(300), Duration::from_secs(6));
    let settle = context.pick(Duration::from_millis(50), Duration::from_secs(1));
    let dir = Directory::new()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), 2)?;
    for noise in NOISES {
        coracle.register_logging(noise.name, command(), noise.args, "256", "64")?;
        coracle.ecs(
            "CreateService",
            &json!({ "serviceName": noise.name, "taskDefinition": noise.name, "desiredCount": 0, "launchType": "FARGATE" }),
        )?;
    }
    let coracle = &coracle;
    let stretch_of = move |noise: Option<&'static Noise>| async move {
        if let Some(noise) = noise {
            set_count(coracle, noise.name, noise.tasks)?;
        }
        tokio::time::sleep(settle).await;
        let outcome = fixed_rate(coracle.router, HOST, CONNECTIONS, RATE, stretch).await;
        if let Some(noise) = noise {
            set_count(coracle, noise.name, 0)?;
            poll("the neighbours' end", || {
                let found = coracle.ecs("DescribeServices", &json!({ "services": [noise.name] })).ok()?;
                let service = &found["services"][0];
                (service["runningCount"] == 0 && service["pendingCount"] == 0).then_some(())
            })?;
        }
        Ok(outcome?.into_latency())
    };
    let load = format!("GET / of a service of two tasks at {RATE}/s");
    let mut sides =
        vec![Side::new(Row::new("alone", "alone", Whose::Bound, &load[..]), move || stretch_of(None))];
    for noise in NOISES {
        let command =
            format!("{load}; a service of {} tasks `command {}`", noise.tasks, noise.args.join(" "));
        let row = Row::new(noise.name, noise.label, Whose::Ours, command)
            .with_settings("FARGATE: 256 CPU units and 64 MiB each");
        sides.push(Side::new(row, move || stretch_of(Some(noise))));
    }
    fixed_rate(coracle.router, HOST, CONNECTIONS, RATE, settle).await?;
    context.interleave(&mut sides, context.pick(1, 3)).await;
    let table = Table::new(
        "neighbours",
        format!("hello at {RATE} requests/s, alone and beside bad neighbours"),
        "From the moment a request was due to the last byte of its answer. The bar is the median, the line goes to the \
         99th percentile; ratios are of medians.",
        Unit::Seconds,
    );
    let pairs: Vec<Pair> = NOISES.iter().map(|noise| Pair::new(noise.name, "alone")).collect();
    let mut findings = Findings { tables: vec![conclude(table, sides, &pairs)], ..Findings::default() };
    match tokio::task::block_in_place(Neighbours::start) {
        Ok(neighbours) => findings.tables.push(containers(context, &neighbours, stretch, settle).await),
        Err(error) => findings.leave_out("the same in containers", format!("{error:#}")),
    }
    Ok(findings)
}

/// The same with containers: one serves, and others spin under limits of the kernel.
async fn containers(
    context: &Context,
    neighbours: &Neighbours,
    stretch: Duration,
    settle: Duration,
) -> Table {
    let spinners = context.pick(2, 50);
    let load = format!("GET / of a container of hello at {RATE}/s");
    let measure = move |count: usize| async move {
        let _spinning = tokio::task::block_in_place(|| neighbours.spin(count))?;
        tokio::time::sleep(settle).await;
        let load = fixed_rate(neighbours.address, "localhost", CONNECTIONS, RATE, stretch);
        Ok(load.await?.into_latency())
    };
    let alone = Row::new("alone", "a container, alone", Whose::Bound, &load[..])
        .with_settings("crun, seccomp, one CPU, 64 MiB; the host's network");
    let beside = Row::new(
        "spin",
        format!("beside {spinners} that spin"),
        Whose::Peer,
        format!("{load}; {spinners} × spin"),
    )
    .with_settings("crun, seccomp, a quarter of a CPU and 64 MiB each");
    let mut sides = vec![Side::new(alone, move || measure(0)), Side::new(beside, move || measure(spinners))];
    context.interleave(&mut sides, context.pick(1, 3)).await;
    let table = Table::new(
        "containers",
        format!("hello in a container at {RATE} requests/s, alone and beside containers that spin"),
        "From the moment a request was due to the last byte of its answer. Limits by cgroups (CPU quota).",
        Unit::Seconds,
    );
    conclude(table, sides, &[Pair::new("spin", "alone")])
}

fn set_count(coracle: &Coracle, service: &str, count: u32) -> anyhow::Result<()> {
    coracle.ecs("UpdateService", &json!({ "service": service, "desiredCount": count })).map(drop)
}
