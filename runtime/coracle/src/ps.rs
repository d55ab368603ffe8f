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
