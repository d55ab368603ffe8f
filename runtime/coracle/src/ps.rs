//! `coracle ps`: the tasks, as ECS answers for them.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::PsArgs;
use crate::client::ApiClient;
use crate::images::now_seconds;
use crate::output::{note, say};
use crate::table::{Table, age};

/// DescribeTasks takes this many at most.
const DESCRIBE_TASKS_MAX: usize = 100;

pub(crate) async fn ps(args: &PsArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.api)?;
    let clusters = match &args.cluster {
        Some(cluster) => vec![Value::from(cluster.as_str())],
        None => client.ecs_pages("ListClusters", "clusterArns", json!({})).await?,
    };
    let states: &[&str] = if args.all { &["RUNNING", "STOPPED"] } else { &["RUNNING"] };
    let mut tasks = Vec::new();
    for cluster in &clusters {
        for state in states {
            let arns = list_tasks(&client, cluster, json!({ "desiredStatus": state })).await?;
            tasks.extend(describe_tasks(&client, cluster, &arns).await?);
        }
    }
    tasks.sort_by(|a, b| sort_key(a).partial_cmp(&sort_key(b)).unwrap_or(std::cmp::Ordering::Equal));
    if args.api.json {
        say!("{:#}", Value::Array(tasks))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "TASK",
        "CLUSTER",
        "GROUP",
        "DEFINITION",
        "STATUS",
        "CREATED",
        "CPU",
        "MEMORY",
        "REASON",
    ]);
    for task in &tasks {
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let last = |name: &str| last_segment(task[name].as_str().unwrap_or_default()).to_owned();
        table.row([
            last("taskArn").chars().take(12).collect(),
            last("clusterArn"),
            text("group"),
            last("taskDefinitionArn"),
            status(task),
            format!("{} ago", age(now_seconds() - task["createdAt"].as_f64().unwrap_or_default())),
            text("cpu"),
            text("memory"),
            text("stoppedReason"),
        ]);
    }
    if table.is_empty() {
        note!("no tasks{}", if args.all { "" } else { " are running; --all shows those that have stopped" });
    } else {
        say!("{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ARNs of a cluster's tasks, filtered by the members of `filter`.
pub(crate) async fn list_tasks(
    client: &ApiClient,
    cluster: &Value,
    mut filter: Value,
) -> anyhow::Result<Vec<Value>> {
    filter["cluster"] = cluster.clone();
    client.ecs_pages("ListTasks", "taskArns", filter).await
}

/// The descriptions of tasks of one cluster.
pub(crate) async fn describe_tasks(
    client: &ApiClient,
    cluster: &Value,
    arns: &[Value],
) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for some in arns.chunks(DESCRIBE_TASKS_MAX) {
        let mut answer = client.ecs("DescribeTasks", &json!({ "cluster": cluster, "tasks": some })).await?;
        if let Value::Array(tasks) = answer["tasks"].take() {
            all.extend(tasks);
        }
    }
    Ok(all)
}

/// Why a task stopped, with the exit codes and reasons of its containers.
pub(crate) fn how_it_stopped(task: &Value) -> String {
    let reason = task["stoppedReason"].as_str().unwrap_or("it stopped for no reason given").to_owned();
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

/// The one that stopped last.
pub(crate) fn newest_stopped(tasks: Vec<Value>) -> Option<Value> {
    let at = |task: &Value| task["stoppedAt"].as_f64().unwrap_or_default();
    tasks.into_iter().max_by(|one, other| at(one).total_cmp(&at(other)))
}

/// What stands behind the last slash of an ARN.
pub(crate) fn last_segment(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn sort_key(task: &Value) -> (String, String, f64) {
    let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
    (text("clusterArn"), text("group"), task["createdAt"].as_f64().unwrap_or_default())
}

/// The state, with the exit codes of what has stopped.
fn status(task: &Value) -> String {
    let state = task["lastStatus"].as_str().unwrap_or_default();
    let codes: Vec<String> = task["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["exitCode"].as_i64())
        .map(|code| code.to_string())
        .collect();
    if codes.is_empty() { state.to_owned() } else { format!("{state} ({})", codes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_task_says_why_in_one_line() {
        let task = json!({
            "stoppedReason": "Essential container in task exited", "stoppedAt": 2.5,
            "containers": [
                {"name": "web", "exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"},
                {"name": "job", "exitCode": 0}, {"name": "never"},
            ],
        });
        let expected = "Essential container in task exited (web exited with 137: OutOfMemoryError: Container killed due \
                        to memory usage, job exited with 0)";
        assert_eq!(how_it_stopped(&task), expected);
        let reason = "CannotPullContainerError: no image";
        let pulled =
            json!({"stoppedReason": reason, "stoppedAt": 1, "containers": [{"name": "a", "reason": reason}]});
        assert_eq!(how_it_stopped(&pulled), reason);
        assert_eq!(newest_stopped(vec![pulled, task.clone()]), Some(task));
    }
}
