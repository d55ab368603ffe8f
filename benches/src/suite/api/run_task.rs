//! From RunTask to the first instruction: asked for plainly, and through official clients, which are programs of their
//! own.

use std::ffi::OsString;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use coracle_fixtures::command;
use serde_json::{Value, json};

use super::Connection;
use crate::bench::Context;
use crate::cleanup;
use crate::peers::{Coracle, find, poll, sources};
use crate::report::{Extra, Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, conclude};

/// Seconds from RunTask to the component's first instruction.
const GOAL: f64 = 2e-3;
/// The task definition whose tasks print the time they begin at.
const FAMILY: &str = "now";

/// Who asks for tasks.
enum Client {
    /// A plain connection of this process.
    Plain,
    /// A program that takes the endpoint, the family and a number of tasks, and prints a line for each of them.
    Program { program: OsString, arguments: Vec<OsString> },
}

/// What tasks took that were started one after the other.
#[derive(Default)]
struct Starts {
    /// From calling RunTask to what the task does first of all, by the machine's clock.
    first: Times,
    /// From calling RunTask to its answer.
    answered: Times,
    /// From calling DescribeClusters to its answer.
    described: Times,
}

pub(super) async fn measure(
    context: &Context,
    coracle: &Coracle,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    coracle.register_logging(FAMILY, command(), &[FAMILY], "256", "64")?;
    // The first one compiles.
    Client::Plain.start(coracle, 1).await?;
    let mut clients = vec![("warm", "warm, asked plainly", Client::Plain)];
    match rust_sdk() {
        Ok(client) => clients.push(("warm-rust-sdk", "warm, through the AWS SDK for Rust", client)),
        Err(error) => findings.leave_out("RunTask through the AWS SDK for Rust", format!("{error:#}")),
    }
    match boto3() {
        Ok(client) => clients.push(("warm-boto3", "warm, through boto3", client)),
        Err(error) => findings.leave_out("RunTask through boto3", format!("{error:#}")),
    }
    let table = Table::new(
        "run-task",
        "From RunTask to the first instruction",
        "From calling RunTask to the time the component reads first of all, by the machine's clock. The answer says \
         RUNNING or how it ended, and so comes a little later. What DescribeClusters takes, which does next to nothing, \
         is what the client and HTTP take by themselves.",
        Unit::Seconds,
    )
    .linear();
    // Nobody has the component in memory.
    let cold = vec![("first-instruction", "from its artifact on disk, asked plainly", Client::Plain)];
    let cold = rows(context, coracle, cold, "its artifact in the cache").await;
    hold(coracle)?;
    let warm = rows(context, coracle, clients, "another task of the component runs").await;
    findings.tables.push(conclude(table, cold.into_iter().chain(warm).collect(), &[]));
    Ok(())
}

/// What it takes these clients, in turns.
async fn rows<'a>(
    context: &Context,
    coracle: &'a Coracle,
    clients: Vec<(&str, &str, Client)>,
    where_from: &str,
) -> Vec<Side<'a>> {
    let tasks = context.pick(2, 40);
    let mut beside: Vec<Arc<Mutex<Starts>>> = Vec::new();
    let mut sides: Vec<Side<'a>> = clients
        .into_iter()
        .map(|(id, label, client)| {
            let row = Row::new(id, label, Whose::Ours, "RunTask of a command")
                .with_settings(format!("{where_from}; the commit synced before the task starts; logs on"));
            let (client, all) = (Arc::new(client), Arc::new(Mutex::new(Starts::default())));
            beside.push(Arc::clone(&all));
            Side::new(context.with_goal(row, GOAL), move || {
                let (client, all) = (Arc::clone(&client), Arc::clone(&all));
                async move {
                    let starts = client.start(coracle, tasks).await?;
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.answered.add(&starts.answered);
                    all.described.add(&starts.described);
                    Ok(Turn::of_times(starts.first, "RUNNING"))
                }
            })
        })
        .collect();
    context.interleave(&mut sides, context.pick(1, 5)).await;
    for (side, all) in sides.iter_mut().zip(beside) {
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let named = [("RunTask to its answer", &all.answered), ("DescribeClusters alone", &all.described)];
        side.row_mut().extras.extend(named.map(|(name, times)| Extra {
            name: name.to_owned(),
            unit: Unit::Seconds,
            value: times.median(),
        }));
    }
    sides
}

/// Starts a task of the component that goes on running.
fn hold(coracle: &Coracle) -> anyhow::Result<()> {
    coracle.register("hold", command(), &["sleep-forever"], "256", "64")?;
    let order = json!({ "taskDefinition": "hold", "launchType": "FARGATE" });
    let task = coracle.ecs("RunTask", &order)?["tasks"][0]["taskArn"].clone();
    poll("the task that goes on running", || {
        let found = coracle.ecs("DescribeTasks", &json!({ "tasks": [task] })).ok()?;
        (found["tasks"][0]["lastStatus"] == "RUNNING").then_some(())
    })
}

/// The program that asks through the AWS SDK for Rust, if it has been built.
fn rust_sdk() -> anyhow::Result<Client> {
    const PROGRAM: &str = "coracle-bench-aws-sdk";
    let built = sources().map(|root| root.join("benches/sdks/rust/target/release").join(PROGRAM));
    let program = built.filter(|path| path.is_file()).or_else(|| find(PROGRAM));
    let program = program.context("it is built by benches/setup.sh, and has not been")?;
    Ok(Client::Program { program: program.into(), arguments: Vec::new() })
}

/// The script that asks through boto3, if Python has that.
fn boto3() -> anyhow::Result<Client> {
    const HOW: &str = "python3 -m pip install boto3, or benches/setup.sh, installs it";
    let program = find("python3").with_context(|| format!("there is no python3; {HOW}"))?;
    let found = cleanup::output(Command::new(&program).args(["-c", "import boto3"]))?;
    if !found.status.success() {
        bail!("python3 has no module boto3; {HOW}");
    }
    let arguments = ["-c", include_str!("../../../sdks/boto3_run_task.py")].map(OsString::from).to_vec();
    Ok(Client::Program { program: program.into(), arguments })
}

impl Client {
    /// Runs so many tasks, one after the other, that print the time.
    async fn start(&self, coracle: &Coracle, tasks: u32) -> anyhow::Result<Starts> {
        let mut starts = Starts::default();
        match self {
            Self::Plain => {
                for _ in 0..tasks {
                    plainly(coracle, &mut starts).await?;
                }
            }
            Self::Program { program, arguments } => {
                let mut command = Command::new(program);
                // The first one opens the connection; it does not count.
                let tasks = (tasks + 1).to_string();
                command.args(arguments).args([&format!("http://{}", coracle.api), FAMILY, &tasks[..]]);
                let output = tokio::task::block_in_place(|| cleanup::output(&mut command))?;
                if !output.status.success() {
                    bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
                }
                for line in String::from_utf8(output.stdout)?.lines().skip(1) {
                    take(coracle, line, &mut starts).with_context(|| format!("it printed {line:?}"))?;
                }
            }
        }
        Ok(starts)
    }
}

/// Runs a task over a new connection, on which something else was asked before.
async fn plainly(coracle: &Coracle, starts: &mut Starts) -> anyhow::Result<()> {
    let mut connection = Connection::new(coracle.api);
    connection.ecs("DescribeClusters", &json!({})).await?;
    let begun = Instant::now();
    connection.ecs("DescribeClusters", &json!({})).await?;
    starts.described.record(begun.elapsed());
    let order = json!({ "taskDefinition": FAMILY, "launchType": "FARGATE" });
    let (begun, called) = (Instant::now(), UNIX_EPOCH.elapsed()?);
    let answer = connection.ecs("RunTask", &order).await?;
    starts.answered.record(begun.elapsed());
    let arn = answer["tasks"][0]["taskArn"].as_str().with_context(|| format!("RunTask: {answer}"))?;
    starts.first.record(began_at(coracle, arn)?.saturating_sub(called));
    Ok(())
}

/// Takes in a line of a client's.
fn take(coracle: &Coracle, line: &str, starts: &mut Starts) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let mut next = || words.next().context("too few words");
    let mut micros = || anyhow::Ok(Duration::from_micros(next()?.parse()?));
    let (described, called, answered) = (micros()?, micros()?, micros()?);
    starts.described.record(described);
    starts.answered.record(answered);
    starts.first.record(began_at(coracle, next()?)?.saturating_sub(called));
    Ok(())
}

/// The time a task printed, since 1970.
fn began_at(coracle: &Coracle, arn: &str) -> anyhow::Result<Duration> {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let query = json!({ "logGroupName": Coracle::LOG_GROUP, "logStreamName": format!("bench/main/{id}") });
    let printed = poll("what the task printed", || {
        let found: Value = coracle.call("Logs_20140328.GetLogEvents", &query).ok()?;
        found["events"][0]["message"].as_str()?.trim().parse().ok()
    })?;
    Ok(Duration::from_micros(printed))
}
