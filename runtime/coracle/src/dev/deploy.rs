//! Bringing what was built to Coracle, as anybody would: push, register, update the service, wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::project::Definition;
use crate::apply::canonical;
use crate::client::ApiClient;
use crate::images::push_bytes;
use crate::ps::{describe_tasks, last_segment, list_tasks};

/// How often a deployment is looked at. It is over in less than a hundred of these.
const POLL: Duration = Duration::from_millis(4);
/// How long a component may take to start: an interpreter is compiled for a quarter of a minute.
const START: Duration = Duration::from_secs(180);

/// Keeps one service, or runs one task after the other.
pub(super) struct Deployer {
    client: ApiClient,
    /// The task definition that was deployed last, to see whether another one says the same.
    last: Option<Value>,
    /// The revision that answers, by name.
    serves: Option<String>,
    /// Services that were made.
    services: BTreeMap<String, ()>,
}

/// What has become of a deployment.
pub(super) enum Deployed {
    /// Nothing is different from what was deployed before.
    Same,
    /// The service answers with it.
    Serves { revision: String, service: String, is_first: bool },
    /// The task has run to its end.
    Ran { revision: String, exit: String },
}

impl Deployer {
    pub(super) fn new(client: ApiClient) -> Self {
        Self { client, last: None, serves: None, services: BTreeMap::new() }
    }

    /// What is the case when nothing new comes of a change, as a half of a sentence.
    pub(super) fn what_goes_on(&self) -> String {
        match &self.serves {
            Some(revision) => format!("{revision} goes on answering"),
            None => "waiting for a change".to_owned(),
        }
    }

    /// Deploys, and resolves when it runs or has failed to.
    pub(super) async fn deploy(&mut self, definition: Definition) -> anyhow::Result<Deployed> {
        let Definition { mut request, components } = definition;
        let family = request["family"].as_str().unwrap_or_default().to_owned();
        for container in request["containerDefinitions"].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let Some(path) = components.get(name) else { continue };
            let image = push(&self.client, path, &format!("{family}/{name}")).await?;
            container["image"] = image.into();
        }
        let content = canonical(&request)?;
        if self.last.as_ref() == Some(&content) {
            return Ok(Deployed::Same);
        }
        let registered = self.client.ecs("RegisterTaskDefinition", &request).await?;
        let arn = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned();
        let is_service = request["containerDefinitions"].as_array().into_iter().flatten().any(|container| {
            container["portMappings"].as_array().is_some_and(|mappings| !mappings.is_empty())
        });
        // Also after a failure: the same would fail again.
        self.last = Some(content);
        if is_service { self.serve(&family, &arn, &request).await } else { self.run(&arn, &request).await }
    }

    async fn serve(&mut self, family: &str, arn: &str, request: &Value) -> anyhow::Result<Deployed> {
        let is_first = self.services.insert(family.to_owned(), ()).is_none();
        if is_first {
            let mut body = launch(arn, request);
            body["serviceName"] = family.into();
            body["desiredCount"] = 1.into();
            // One that does not start gives way to the one that did.
            body["deploymentConfiguration"] = json!({
                "minimumHealthyPercent": 100, "maximumPercent": 200,
                "deploymentCircuitBreaker": {
                    "enable": true, "rollback": true, "thresholdConfiguration": { "type": "COUNT", "value": 1 },
                },
            });
            self.client.ecs("CreateService", &body).await?;
        } else {
            let body = json!({ "service": family, "taskDefinition": arn });
            self.client.ecs("UpdateService", &body).await?;
        }
        let revision = last_segment(arn).to_owned();
        self.wait_until_it_answers(family, arn).await?;
        self.serves = Some(revision.clone());
        Ok(Deployed::Serves { revision, service: family.to_owned(), is_first })
    }

    async fn wait_until_it_answers(&self, service: &str, arn: &str) -> anyhow::Result<()> {
        let revision = last_segment(arn);
        let deadline = Instant::now() + START;
        loop {
            let answer = self.client.ecs("DescribeServices", &json!({ "services": [service] })).await?;
            let deployments = answer["services"][0]["deployments"].as_array().cloned().unwrap_or_default();
            let ours = deployments.iter().find(|one| one["taskDefinition"] == arn);
            let ours_failed = ours.is_none_or(|ours| {
                ours["rolloutState"] == "FAILED" || ours["failedTasks"].as_u64().unwrap_or_default() > 0
            });
            if ours.is_some_and(|ours| ours["runningCount"].as_u64().unwrap_or_default() > 0) {
                return Ok(());
            }
            if ours_failed {
                let why = self.why_it_stopped(arn).await.unwrap_or_default();
                bail!("{revision} does not start: {why}");
            }
            if Instant::now() > deadline {
                let event = &answer["services"][0]["events"][0]["message"];
                bail!("{revision} has not started within {} s; the newest event: {event}", START.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Why the newest stopped task of a revision stopped.
    async fn why_it_stopped(&self, arn: &str) -> anyhow::Result<String> {
        let cluster = Value::from("default");
        let arns = list_tasks(&self.client, &cluster, json!({ "desiredStatus": "STOPPED" })).await?;
        let mut tasks = describe_tasks(&self.client, &cluster, &arns).await?;
        tasks.retain(|task| task["taskDefinitionArn"] == arn);
        let at = |task: &Value| task["stoppedAt"].as_f64().unwrap_or_default();
        let newest = tasks.into_iter().max_by(|one, other| at(one).total_cmp(&at(other)));
        let newest = newest.context("no task of it has stopped")?;
        Ok(how_it_ended(&newest))
    }

    async fn run(&mut self, arn: &str, request: &Value) -> anyhow::Result<Deployed> {
        self.serves = None;
        let answer = self.client.ecs("RunTask", &launch(arn, request)).await?;
        let task = answer["tasks"][0]["taskArn"].clone();
        if task.is_null() {
            bail!("the task cannot be placed: {}", answer["failures"]);
        }
        loop {
            let answer = self.client.ecs("DescribeTasks", &json!({ "tasks": [task] })).await?;
            let task = answer["tasks"][0].clone();
            if task["lastStatus"] == "STOPPED" {
                let revision = last_segment(arn).to_owned();
                return Ok(Deployed::Ran { revision, exit: how_it_ended(&task) });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The members of CreateService and RunTask that say how tasks of a definition are launched.
fn launch(arn: &str, request: &Value) -> Value {
    let wanted = request["requiresCompatibilities"].as_array().into_iter().flatten();
    let is_fargate = wanted.into_iter().any(|one| one == "FARGATE");
    let mut body = json!({ "taskDefinition": arn, "launchType": if is_fargate { "FARGATE" } else { "EC2" } });
    if request["networkMode"] == "awsvpc" || (is_fargate && request["networkMode"].is_null()) {
        body["networkConfiguration"] = json!({ "awsvpcConfiguration": { "subnets": ["subnet-local"] } });
    }
    body
}

/// Puts a component into the registry and gives the image's name.
async fn push(client: &ApiClient, path: &Path, name: &str) -> anyhow::Result<String> {
    let bytes = tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))?;
    let name = name.to_lowercase();
    let pushed = push_bytes(client, &name, bytes)
        .await
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(format!("{name}@{}", pushed["digest"].as_str().unwrap_or_default()))
}

/// The stopped reason, and the exit codes and reasons of containers.
fn how_it_ended(task: &Value) -> String {
    let reason = task["stoppedReason"].as_str().unwrap_or("it has stopped").to_owned();
    let containers = task["containers"].as_array().into_iter().flatten();
    let details = containers.filter_map(|container| {
        let name = container["name"].as_str()?;
        let why = container["reason"].as_str().filter(|why| !reason.contains(why));
        match (container["exitCode"].as_i64(), why) {
            (Some(code), Some(why)) => Some(format!("{name} exited with {code}: {why}")),
            (Some(code), None) => Some(format!("{name} exited with {code}")),
            (None, Some(why)) => Some(format!("{name}: {why}")),
            (None, None) => None,
        }
    });
    let details: Vec<String> = details.collect();
    if details.is_empty() { reason } else { format!("{reason} ({})", details.join(", ")) }
}
