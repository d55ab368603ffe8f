//! `coracle demo`: starts Coracle, deploys an example service of three tasks through the API, sends
//! it requests through the router, shows which task answered each, and leaves it running.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use coracle_types::AccountId;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use crate::cli::{ApiArgs, DemoArgs, UpArgs};
use crate::client::ApiClient;
use crate::config::UpConfig;
use crate::images::push_bytes;
use crate::output::{note, say};
use crate::temporary::Temporary;
use crate::up::{Coracle, Signals, port};

/// `examples/hello`, built with this binary.
const HELLO: &[u8] = include_bytes!(env!("CORACLE_EXAMPLE_HELLO"));
/// What `examples/hello` is deployed as.
const TASK_DEFINITION: &str = include_str!("../../../examples/hello/task-definition.json");
/// How many tasks the service keeps.
const TASKS: u64 = 3;
/// How many requests are shown.
const REQUESTS: usize = 9;
/// How long the tasks get to start. The first start compiles.
const START: Duration = Duration::from_secs(60);

pub(crate) async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    let temporary = args.data_dir.is_none().then(|| Temporary::new("coracle-demo"));
    let up = UpArgs {
        data_dir: args.data_dir.clone().or_else(|| Some(temporary.as_ref()?.path().to_owned())),
        api: Some(args.api.unwrap_or_else(|| free_or([127, 0, 0, 1], 4566))),
        router: Some(args.router.unwrap_or_else(|| free_or([127, 0, 0, 1], 8080))),
        account_id: Some(AccountId::default().to_string()),
        ..UpArgs::default()
    };
    let coracle = Coracle::start(UpConfig::resolve(&up)?).await?;
    let shown = tokio::select! {
        shown = show(&coracle, !args.exit) => shown,
        _ = stop.wait() => Ok(()),
    };
    if !args.exit {
        note!("Stopping; Ctrl-C again to stop at once.");
    }
    coracle.stop_unless(&mut stop).await?;
    shown.map(|()| ExitCode::SUCCESS)
}

/// The usual port if nobody has it, else any.
pub(crate) fn free_or(host: [u8; 4], port: u16) -> SocketAddr {
    let usual = SocketAddr::from((host, port));
    if std::net::TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::from((host, 0)) }
}

/// Shows everything; ends by itself only if it is not to `stay`.
async fn show(coracle: &Coracle, stay: bool) -> anyhow::Result<()> {
    say!("Coracle is up: API {}, router {}\n", coracle.api, coracle.router)?;
    deploy(coracle).await?;
    requests(coracle).await?;
    if stay {
        say_next(coracle)?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn deploy(coracle: &Coracle) -> anyhow::Result<()> {
    let client = ApiClient::new(&ApiArgs { api: coracle.api.clone(), region: None, json: false })?;
    say!("$ coracle push hello.wasm hello:latest")?;
    let pushed = push_bytes(&client, "hello:latest", HELLO.to_vec()).await?;
    say!("  {}", pushed["digest"].as_str().unwrap_or_default())?;

    say!("$ aws ecs register-task-definition --cli-input-json file://examples/hello/task-definition.json")?;
    let definition: serde_json::Value = serde_json::from_str(TASK_DEFINITION)?;
    let registered = client.ecs("RegisterTaskDefinition", &definition).await?;
    let arn = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default();
    say!("  {arn}")?;

    say!(
        "$ aws ecs create-service --service-name hello --task-definition hello --desired-count {TASKS} \\\n    \
         --launch-type FARGATE --network-configuration \"awsvpcConfiguration={{subnets=[subnet-local]}}\""
    )?;
    let begun = Instant::now();
    let existing = client.ecs("DescribeServices", &json!({ "services": ["hello"] })).await?;
    if existing["services"]
        .as_array()
        .is_some_and(|found| found.iter().any(|service| service["status"] == "ACTIVE"))
    {
        client
            .ecs(
                "UpdateService",
                &json!({ "service": "hello", "taskDefinition": arn, "desiredCount": TASKS }),
            )
            .await?;
    } else {
        let body = json!({
            "serviceName": "hello",
            "taskDefinition": arn,
            "desiredCount": TASKS,
            "launchType": "FARGATE",
            "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-local"] } },
        });
        client.ecs("CreateService", &body).await?;
    }
    wait_until_steady(&client).await?;
    say!("  {TASKS} tasks RUNNING after {} ms, compilation included\n", begun.elapsed().as_millis())?;
    Ok(())
}

async fn wait_until_steady(client: &ApiClient) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let answer = client.ecs("DescribeServices", &json!({ "services": ["hello"] })).await?;
        let service = &answer["services"][0];
        let steady = service["deployments"].as_array().is_some_and(|deployments| deployments.len() == 1);
        if steady && service["runningCount"] == TASKS {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the service did not start; its newest event: {}", service["events"][0]["message"]);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn requests(coracle: &Coracle) -> anyhow::Result<()> {
    let url = format!("http://hello.default.localhost:{}/", port(&coracle.router));
    say!("$ curl {url}   ({REQUESTS} times)")?;
    let http = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut by_task: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        // Not every resolver knows *.localhost, so the address and the host are given apart.
        let request = http::Request::get(format!("{}/", coracle.router))
            .header(http::header::HOST, url.trim_start_matches("http://").trim_end_matches('/'))
            .body(Empty::new())?;
        let begun = Instant::now();
        let response = http.request(request).await.context("the router did not answer")?;
        let status = response.status();
        let task =
            response.headers().get("x-coracle-task").and_then(|task| task.to_str().ok()).unwrap_or("nobody");
        let task = task.to_owned();
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        say!("  {status}  task {task:.12}  {:>6} µs  {}", begun.elapsed().as_micros(), text.trim())?;
        if !status.is_success() {
            bail!("the service answered {status}: {}", text.trim());
        }
        *by_task.entry(task).or_default() += 1;
    }
    say!("\n{REQUESTS} requests, a fresh instance each, answered by {} tasks:", by_task.len())?;
    for (task, count) in by_task {
        say!("  {task}  {count}")?;
    }
    Ok(())
}

fn say_next(coracle: &Coracle) -> std::io::Result<()> {
    say!(
        "\nIt stays up until Ctrl-C. Try, in another terminal:\n\
         \x20 curl http://hello.default.localhost:{port}/\n\
         \x20 curl -H 'X-Coracle-Service: default/hello' {router}/\n\
         \x20 export AWS_ENDPOINT_URL={api} AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any\n\
         \x20 aws ecs describe-services --services hello\n\
         \x20 aws ecs update-service --service hello --desired-count 5\n\
         \x20 {binary} ps\n\
         \x20 {binary} logs -f hello",
        port = port(&coracle.router),
        router = coracle.router,
        api = coracle.api,
        binary = std::env::args().next().unwrap_or_else(|| "coracle".to_owned()),
    )
}
