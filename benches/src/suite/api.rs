//! The API's speed, over real connections that are kept: calls that read and calls that write, each write on the disk
//! before it is answered; from RunTask to the first thing the component does, also through official clients; and a
//! service that goes from no task to a thousand and back.

mod run_task;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use coracle_fixtures::example_hello;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::load::ask;
use crate::peers::{Coracle, coracle_binary};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, conclude, latencies};

/// Clients at once, each with a connection of its own.
const CLIENTS: usize = 16;
/// Tasks of the service that grows.
const TASKS: u32 = 1000;
/// Calls per second that are aimed at, whether they read or write.
const RATE: f64 = 5000.0;
/// Seconds in which all tasks of the service run, or are gone.
const THOUSAND: f64 = 2.0;

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let dir = Directory::new()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), 2)?;
    let mut findings = Findings::default();
    findings.tables.extend(rates(context, coracle.api).await?);
    run_task::measure(context, &coracle, &mut findings).await?;
    findings.tables.push(thousand(context, &coracle, example_hello()).await?);
    Ok(findings)
}

/// A request as SDKs send it, unsigned.
fn request(target: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: {target}\r\n\
         content-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ecs(operation: &str, body: &str) -> String {
    request(&format!("AmazonEC2ContainerServiceV20141113.{operation}"), body)
}

/// What a client asks for next, by its own number and that of the request.
type Ask = fn(usize, u64) -> String;

async fn rates(context: &Context, api: SocketAddr) -> anyhow::Result<[Table; 2]> {
    let calls: [(&str, &str, Ask); 4] = [
        ("describe-services", "DescribeServices", |_, _| {
            ecs("DescribeServices", r#"{"services":["hello"]}"#)
        }),
        ("list-tasks", "ListTasks", |_, _| ecs("ListTasks", r#"{"family":"hello"}"#)),
        ("create-cluster", "CreateCluster, written", |client, number| {
            ecs("CreateCluster", &format!(r#"{{"clusterName":"c{client}-{number}"}}"#))
        }),
        ("register", "RegisterTaskDefinition, written", |client, number| {
            let containers = r#"[{"name":"main","image":"hello"}]"#;
            let body = format!(r#"{{"family":"f{client}-{number}","containerDefinitions":{containers}}}"#);
            ecs("RegisterTaskDefinition", &body)
        }),
    ];
    let stretch = context.pick(Duration::from_millis(150), Duration::from_secs(3));
    let mut sides: Vec<Side<'_>> = calls
        .into_iter()
        .map(|(id, label, next)| {
            let row =
                Row::new(id, label, Whose::Ours, format!("{CLIENTS} clients, each one call after the other"))
                    .with_settings(
                        "unsigned, keep-alive, audit log on, every write synced before its answer",
                    );
            let row = context.with_goal(row, RATE);
            // So that no turn writes what another has written.
            let mut turn = 0;
            Side::new(row, move || {
                turn += 1;
                let first = turn << 40;
                async move { closed_loop(api, stretch, next, first).await }
            })
        })
        .collect();
    context.interleave(&mut sides, context.pick(1, 5)).await;
    let mut took = Table::new(
        "api-latency",
        format!("How long an API call takes, with {CLIENTS} clients at once"),
        "In the same closed loop: from sending a request to its whole answer. With so many clients on so few \
         processors it is mostly waiting for the others.",
        Unit::Seconds,
    )
    .linear();
    took.rows = latencies(&sides);
    let rate = Table::new(
        "api-rate",
        format!("API calls per second, {CLIENTS} clients"),
        "A closed loop over the loopback, clients on the same processors; every answer must be 200.",
        Unit::PerSecond,
    )
    .higher_is_better()
    .linear();
    Ok([conclude(rate, sides, &[]), took])
}

/// All clients at once for so long.
async fn closed_loop(api: SocketAddr, stretch: Duration, next: Ask, first: u64) -> anyhow::Result<Turn> {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(async move {
                let mut connection = Connection::new(api);
                let mut times = Times::default();
                let mut number = first;
                while begun.elapsed() < stretch {
                    let sent = Instant::now();
                    connection.ask(&next(client, number)).await?;
                    times.record(sent.elapsed());
                    number += 1;
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut all = Times::default();
    for client in clients {
        all.add(&client.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "fewer calls than a float has digits")]
    let rate = all.count() as f64 / begun.elapsed().as_secs_f64();
    Ok(Turn { times: Some(all), ..Turn::of_figure(rate, "200") })
}

/// A connection that is kept.
pub(super) struct Connection {
    api: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn new(api: SocketAddr) -> Self {
        Self { api, stream: None, buffer: Vec::with_capacity(4096) }
    }

    /// The body of an answer that must be 200.
    async fn ask(&mut self, request: &str) -> anyhow::Result<Vec<u8>> {
        ask(&mut self.stream, self.api, request, &mut self.buffer).await
    }

    /// Calls an operation of ECS.
    pub(super) async fn ecs(&mut self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask(&ecs(operation, &body.to_string())).await?)?)
    }
}

async fn thousand(context: &Context, coracle: &Coracle, component: &Path) -> anyhow::Result<Table> {
    let tasks = context.pick(20, TASKS);
    coracle.register("many", component, &[], "256", "64")?;
    let mut connection = Connection::new(coracle.api);
    let service = json!({ "serviceName": "many", "taskDefinition": "many", "desiredCount": 0, "launchType": "FARGATE" });
    connection.ecs("CreateService", &service).await?;
    let settings = "HTTP components of 256 CPU units on one node, warm artifact";
    let up =
        Row::new("up", format!("0 to {tasks} tasks RUNNING"), Whose::Ours, "UpdateService --desired-count")
            .with_settings(settings);
    let down =
        Row::new("down", format!("{tasks} to 0 tasks"), Whose::Ours, "UpdateService --desired-count 0")
            .with_settings(settings);
    let (up, down) = (context.with_goal(up, THOUSAND), context.with_goal(down, THOUSAND));
    let api = coracle.api;
    let mut sides = vec![
        Side::new(up, move || async move { Ok(Turn::of_figure(scale(api, tasks).await?, "")) }),
        Side::new(down, move || async move { Ok(Turn::of_figure(scale(api, 0).await?, "")) }),
    ];
    context.interleave(&mut sides, context.pick(1, 3)).await;
    let table = Table::new(
        "thousand-tasks",
        format!("A service from 0 to {tasks} tasks and back"),
        "From UpdateService to the first DescribeServices that counts so many as RUNNING and none as PENDING, asked \
         every 5 ms.",
        Unit::Seconds,
    )
    .linear();
    Ok(conclude(table, sides, &[]))
}

/// Gives the service so many tasks; how many seconds that took.
async fn scale(api: SocketAddr, tasks: u32) -> anyhow::Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let mut connection = Connection::new(api);
    let begun = Instant::now();
    connection.ecs("UpdateService", &json!({ "service": "many", "desiredCount": tasks })).await?;
    loop {
        let found = connection.ecs("DescribeServices", &json!({ "services": ["many"] })).await?;
        let service = &found["services"][0];
        let (running, pending) = (&service["runningCount"], &service["pendingCount"]);
        if *running == tasks && *pending == 0 {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(service["status"] == "ACTIVE", "the service is gone: {found}");
        if begun.elapsed() > PATIENCE {
            bail!("after {PATIENCE:?} there are {running} of {tasks} tasks: {}", service["events"][0]);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
