//! Bringing what was built to Coracle, as anybody would: push, register, update the service, wait.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::project::Definition;
use crate::apply::{canonical, registry_name};
use crate::client::ApiClient;
use crate::images::push_bytes;
use crate::ps::{describe_tasks, how_it_stopped, last_segment, list_tasks, newest_stopped};

/// How often a deployment is looked at: soon enough for whoever waits, and seldom enough not to slow it down.
const POLL: Duration = Duration::from_millis(10);
/// How seldom a task is looked at that runs for long.
const LONGEST_POLL: Duration = Duration::from_millis(500);
/// How long a component may take to start: an interpreter is compiled for a quarter of a minute.
const START: Duration = Duration::from_secs(180);

/// Keeps one service, or runs one task after the other.
pub(super) struct Deployer {
    client: ApiClient,
    /// The task definition that was deployed last, to see whether another one says the same.
    last: Option<Value>,
    /// The revision that answers, by name.
    serves: Option<String>,
}

/// What has become of a deployment.
pub(super) enum Deployed {
    /// Nothing is different from what was deployed before.
    Same,
    /// The service answers with it.
    Serves { revision: String, service: String, is_first: bool },
    /// The task has been started.
    Runs { revision: String, task: Value },
}

impl Deployer {
    pub(super) fn new(client: ApiClient) -> Self {
        Self { client, last: None, serves: None }
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
        let found = self.client.ecs("DescribeServices", &json!({ "services": [family] })).await?;
        if found["services"][0]["status"] != "ACTIVE" {
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
        self.end_older_tasks(family, arn).await?;
        let is_first = self.serves.replace(revision.clone()).is_none();
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

    /// Ends the tasks that are replaced, once their requests have ended. A rolling deployment would by itself, after it has
    /// seen the new one run for a second; until then every other request would still meet what was just changed.
    async fn end_older_tasks(&self, service: &str, arn: &str) -> anyhow::Result<()> {
        let cluster = Value::from("default");
        let arns = list_tasks(&self.client, &cluster, json!({ "serviceName": service })).await?;
        let mut older = describe_tasks(&self.client, &cluster, &arns).await?;
        older.retain(|task| task["taskDefinitionArn"] != arn);
        for task in older {
            let stop = json!({ "task": task["taskArn"], "reason": "A newer version answers" });
            self.client.ecs("StopTask", &stop).await?;
        }
        Ok(())
    }

    /// Why the newest stopped task of a revision stopped.
    async fn why_it_stopped(&self, arn: &str) -> anyhow::Result<String> {
        let cluster = Value::from("default");
        let arns = list_tasks(&self.client, &cluster, json!({ "desiredStatus": "STOPPED" })).await?;
        let mut tasks = describe_tasks(&self.client, &cluster, &arns).await?;
        tasks.retain(|task| task["taskDefinitionArn"] == arn);
        let newest = newest_stopped(tasks).context("no task of it has stopped")?;
        Ok(how_it_stopped(&newest))
    }

    async fn run(&mut self, arn: &str, request: &Value) -> anyhow::Result<Deployed> {
        self.serves = None;
        let answer = self.client.ecs("RunTask", &launch(arn, request)).await?;
        let task = answer["tasks"][0]["taskArn"].clone();
        if task.is_null() {
            bail!("the task cannot be placed: {}", answer["failures"]);
        }
        Ok(Deployed::Runs { revision: last_segment(arn).to_owned(), task })
    }

    /// Waits for the end of a task, and says how it ended.
    pub(super) async fn task_end(&self, task: &Value) -> anyhow::Result<String> {
        let mut poll = POLL;
        loop {
            let answer = self.client.ecs("DescribeTasks", &json!({ "tasks": [task] })).await?;
            let found = &answer["tasks"][0];
            if found["lastStatus"] == "STOPPED" {
                return Ok(how_it_stopped(found));
            }
            tokio::time::sleep(poll).await;
            poll = (poll * 3 / 2).min(LONGEST_POLL);
        }
    }

    /// Ends a task that runs, and forgets what it was of: that has not run yet.
    pub(super) async fn stop_task(&mut self, task: &Value) -> anyhow::Result<()> {
        self.last = None;
        let body = json!({ "task": task, "reason": "The project has changed" });
        self.client.ecs("StopTask", &body).await.map(drop)
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
    let name = registry_name(name)?;
    let pushed = push_bytes(client, &name, bytes)
        .await
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(format!("{name}@{}", pushed["digest"].as_str().unwrap_or_default()))
}
