//! `coracle logs`: what a service's tasks, or one task, wrote, through the CloudWatch Logs API.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::LogsArgs;
use crate::client::{ApiClient, ApiError};
use crate::ps::{describe_tasks, last_segment, list_tasks};

/// How often `--follow` asks for more.
const POLL: Duration = Duration::from_millis(500);
/// Events already printed are remembered this far back, because two can share a millisecond.
const OVERLAP_MS: i64 = 5_000;

/// The log streams of some tasks: group to streams.
type Streams = BTreeMap<String, BTreeSet<String>>;

pub(crate) async fn logs(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.api)?;
    let mut printed: BTreeMap<String, i64> = BTreeMap::new();
    let mut since = 0;
    loop {
        let tasks = find_tasks(&client, args).await?;
        let streams = find_streams(&client, &tasks).await?;
        let mut events = Vec::new();
        for (group, streams) in &streams {
            events.extend(read(&client, group, streams, since).await?);
        }
        events.sort_by_key(|event| event["timestamp"].as_i64());
        for event in &events {
            let timestamp = event["timestamp"].as_i64().unwrap_or_default();
            let id = event["eventId"].as_str().unwrap_or_default().to_owned();
            if printed.insert(id, timestamp).is_none() {
                print_event(args, event, tasks.len() > 1);
            }
            since = since.max(timestamp - OVERLAP_MS);
        }
        printed.retain(|_, timestamp| *timestamp >= since);
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn print_event(args: &LogsArgs, event: &Value, with_task: bool) {
    let message = event["message"].as_str().unwrap_or_default();
    if args.api.json {
        println!("{event}");
    } else if with_task {
        let stream = event["logStreamName"].as_str().unwrap_or_default();
        println!("{:.12} | {message}", last_segment(stream));
    } else {
        println!("{message}");
    }
}

/// The tasks meant: a service's, running and stopped, or the one whose id begins so.
async fn find_tasks(client: &ApiClient, args: &LogsArgs) -> anyhow::Result<Vec<Value>> {
    let cluster = Value::from(args.cluster.as_str());
    let mut arns = Vec::new();
    for state in ["RUNNING", "STOPPED"] {
        arns.extend(list_tasks(client, &cluster, json!({ "desiredStatus": state })).await?);
    }
    let id = last_segment(&args.subject);
    let is_id = id.len() >= 4 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        let matching: Vec<Value> = arns
            .iter()
            .filter(|arn| last_segment(arn.as_str().unwrap_or_default()).starts_with(id))
            .cloned()
            .collect();
        if !matching.is_empty() {
            return describe_tasks(client, &cluster, &matching).await;
        }
    }
    let group = format!("service:{id}");
    let mut tasks = describe_tasks(client, &cluster, &arns).await?;
    tasks.retain(|task| task["group"] == group.as_str() || task["group"] == args.subject.as_str());
    if tasks.is_empty() && !args.follow {
        bail!(
            "no service or task {:?} has run in cluster {:?}; `coracle ps --all` shows what has",
            args.subject,
            args.cluster
        );
    }
    Ok(tasks)
}

/// Where the containers of these tasks wrote. The rule is ECS's: the group that `awslogs-group`
/// names, the stream `PREFIX/CONTAINER/TASK`, or the container's runtime id when there is no prefix.
async fn find_streams(client: &ApiClient, tasks: &[Value]) -> anyhow::Result<Streams> {
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    for task in tasks {
        let definition = task["taskDefinitionArn"].as_str().unwrap_or_default();
        groups.entry(definition).or_default();
        wanted.insert(last_segment(task["taskArn"].as_str().unwrap_or_default()).to_owned());
        for container in task["containers"].as_array().into_iter().flatten() {
            wanted.extend(container["runtimeId"].as_str().map(str::to_owned));
        }
    }
    for (definition, names) in &mut groups {
        let answer = client.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": definition })).await?;
        let definition = &answer["taskDefinition"];
        for container in definition["containerDefinitions"].as_array().into_iter().flatten() {
            let named = container["logConfiguration"]["options"]["awslogs-group"].as_str();
            let family = definition["family"].as_str().unwrap_or_default();
            names.insert(named.map_or_else(|| format!("/ecs/{family}"), str::to_owned));
        }
    }
    let mut found = Streams::new();
    for group in groups.into_values().flatten() {
        let mut body = json!({ "logGroupName": group });
        loop {
            let page = match client.cloudwatch_logs("DescribeLogStreams", &body).await {
                Ok(page) => page,
                // Nothing has been written to it yet.
                Err(error) if is_not_found(&error) => break,
                Err(error) => return Err(error).context("cannot list the log streams"),
            };
            for stream in page["logStreams"].as_array().into_iter().flatten() {
                let name = stream["logStreamName"].as_str().unwrap_or_default();
                if wanted.contains(last_segment(name)) {
                    found.entry(group.clone()).or_default().insert(name.to_owned());
                }
            }
            match page.get("nextToken") {
                Some(token @ Value::String(_)) => body["nextToken"] = token.clone(),
                _ => break,
            }
        }
    }
    Ok(found)
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|error| error.name == "ResourceNotFoundException")
}

/// FilterLogEvents takes this many stream names at most.
const FILTER_STREAMS_MAX: usize = 100;

async fn read(
    client: &ApiClient,
    group: &str,
    streams: &BTreeSet<String>,
    since: i64,
) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    let streams: Vec<&String> = streams.iter().collect();
    for some in streams.chunks(FILTER_STREAMS_MAX) {
        let mut body = json!({ "logGroupName": group, "logStreamNames": some, "startTime": since });
        loop {
            let mut page = client.cloudwatch_logs("FilterLogEvents", &body).await?;
            if let Value::Array(items) = page["events"].take() {
                events.extend(items);
            }
            match page["nextToken"].take() {
                token @ Value::String(_) => body["nextToken"] = token,
                _ => break,
            }
        }
    }
    Ok(events)
}
