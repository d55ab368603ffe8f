//! `coracle logs`: what a service's tasks, or one task, wrote, through the CloudWatch Logs API.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::LogsArgs;
use crate::client::{ApiClient, ApiError};
use crate::output::{note, say};
use crate::ps::{describe_tasks, last_segment, list_tasks};
use crate::up::Signals;

/// How often `--follow` asks for more.
const POLL: Duration = Duration::from_millis(500);
/// Events already printed are remembered this far back, because two can share a millisecond.
const OVERLAP_MS: i64 = 5_000;

/// The log streams of some tasks: group to streams.
type Streams = BTreeMap<String, BTreeSet<String>>;

pub(crate) async fn logs(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    tokio::select! {
        printed = print(args) => printed.map(|()| ExitCode::SUCCESS),
        // That is how following ends.
        signal = stop.wait() => Ok(if args.follow { ExitCode::SUCCESS } else { signal.exit_code() }),
    }
}

async fn print(args: &LogsArgs) -> anyhow::Result<()> {
    let client = ApiClient::new(&args.api)?;
    let mut printed = Printed::default();
    let mut said_waiting = false;
    loop {
        let tasks = find_tasks(&client, args).await?;
        if tasks.is_empty() && !std::mem::replace(&mut said_waiting, true) {
            note!(
                "no service or task {:?} has run in cluster {:?} yet; waiting for one",
                args.subject,
                args.cluster
            );
        }
        let mut merged = Merged::new(find_streams(&client, &tasks).await?, printed.since);
        while let Some(event) = merged.next(&client).await? {
            if printed.is_new(&event) {
                print_event(args, &event, tasks.len() > 1)?;
            }
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What has been printed, as far back as is asked for again.
#[derive(Default)]
struct Printed {
    /// Timestamps and ids of events, none before `since`.
    events: BTreeSet<(i64, String)>,
    since: i64,
}

impl Printed {
    fn is_new(&mut self, event: &Value) -> bool {
        let timestamp = event["timestamp"].as_i64().unwrap_or_default();
        let id = event["eventId"].as_str().unwrap_or_default().to_owned();
        let is_new = self.events.insert((timestamp, id));
        self.since = self.since.max(timestamp - OVERLAP_MS);
        while self.events.first().is_some_and(|(timestamp, _)| *timestamp < self.since) {
            self.events.pop_first();
        }
        is_new
    }
}

fn print_event(args: &LogsArgs, event: &Value, with_task: bool) -> std::io::Result<()> {
    let message = event["message"].as_str().unwrap_or_default();
    if args.api.json {
        say!("{event}")
    } else if with_task {
        let stream = event["logStreamName"].as_str().unwrap_or_default();
        say!("{:.12} | {message}", last_segment(stream))
    } else {
        say!("{message}")
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
    let name = error.downcast_ref::<ApiError>().and_then(|error| error.name.as_deref());
    name == Some("ResourceNotFoundException")
}

/// FilterLogEvents takes this many stream names at most.
const FILTER_STREAMS_MAX: usize = 100;

/// The events of all streams in order of time, read page by page: logs may be longer than memory.
struct Merged(Vec<Cursor>);

/// A place in the events of some streams of one group.
struct Cursor {
    /// The request for the next page; None after the last.
    next: Option<Value>,
    page: VecDeque<Value>,
}

impl Merged {
    fn new(streams: Streams, since: i64) -> Self {
        let mut cursors = Vec::new();
        for (group, streams) in streams {
            let streams: Vec<String> = streams.into_iter().collect();
            for some in streams.chunks(FILTER_STREAMS_MAX) {
                let request = json!({ "logGroupName": group, "logStreamNames": some, "startTime": since });
                cursors.push(Cursor { next: Some(request), page: VecDeque::new() });
            }
        }
        Self(cursors)
    }

    async fn next(&mut self, client: &ApiClient) -> anyhow::Result<Option<Value>> {
        for cursor in &mut self.0 {
            cursor.fill(client).await?;
        }
        let timestamp = |cursor: &Cursor| cursor.page.front().and_then(|event| event["timestamp"].as_i64());
        let earliest =
            self.0.iter_mut().filter(|cursor| !cursor.page.is_empty()).min_by_key(|c| timestamp(c));
        Ok(earliest.and_then(|cursor| cursor.page.pop_front()))
    }
}

impl Cursor {
    /// Makes sure that the page has an event, unless there are no more.
    async fn fill(&mut self, client: &ApiClient) -> anyhow::Result<()> {
        while self.page.is_empty()
            && let Some(mut request) = self.next.take()
        {
            let mut page = client.cloudwatch_logs("FilterLogEvents", &request).await?;
            if let Value::Array(events) = page["events"].take() {
                self.page = events.into();
            }
            if let token @ Value::String(_) = page["nextToken"].take() {
                request["nextToken"] = token;
                self.next = Some(request);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_printed_once_and_forgotten_when_they_are_not_asked_for_again() {
        let event = |timestamp: i64, id: &str| json!({ "timestamp": timestamp, "eventId": id });
        let mut printed = Printed::default();
        assert!(printed.is_new(&event(1_000, "a")));
        assert!(printed.is_new(&event(1_000, "b")));
        assert!(!printed.is_new(&event(1_000, "a")));
        for n in 0..100 {
            assert!(printed.is_new(&event(2_000 + n * 1_000, "c")));
        }
        assert_eq!(printed.since, 101_000 - OVERLAP_MS);
        assert!(printed.events.len() <= 6, "{:?}", printed.events);
    }
}
