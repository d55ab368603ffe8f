//! Task protection: a service leaves a protected task alone when it scales in or deploys.

use std::time::Duration;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task_protection::{self as wire, GetTaskProtection, UpdateTaskProtection};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, Changes, DesiredStatus, Resource, State, Task, TaskKey};
use serde_json::Value;

use super::reference;
use crate::api::{Api, Caller};

fn arn(api: &Api, key: &TaskKey) -> String {
    Arn::new(api.account(), Resource::Task(key.cluster.clone(), key.id)).to_string()
}

fn shown(api: &Api, task: &Task) -> Value {
    wire::protected_task(
        &arn(api, &task.key()),
        task.protected_until.filter(|_| task.is_protected(api.now())),
    )
}

/// The task, if it is one that can be protected.
fn protectable(api: &Api, state: &State, key: &TaskKey) -> Result<Task, Failure> {
    let task = reference::task(state, key).ok_or_else(|| Failure::missing(arn(api, key)))?;
    if task.service().is_some() && task.desired_status == DesiredStatus::Running {
        return Ok(Task::clone(&task));
    }
    let detail = match task.service() {
        None => "The specified task isn't part of an Amazon ECS service.",
        Some(_) => "The specified task is stopping or stopped.",
    };
    Err(Failure {
        arn: Some(arn(api, key)),
        reason: "TASK_NOT_VALID".to_owned(),
        detail: Some(detail.to_owned()),
    })
}

/// UpdateTaskProtection.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateTaskProtection::decode(members)?;
    let (_, (tasks, failures)) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, Some(&request.cluster))?;
            let (mut changes, mut tasks, mut failures) = (Changes::new(), Vec::new(), Vec::new());
            for given in &request.tasks {
                match protectable(api, state, &reference::task_key(&cluster, given)?) {
                    Ok(mut task) => {
                        let until = |minutes| api.now().after(Duration::from_secs(60 * u64::from(minutes)));
                        task.protected_until = request.minutes.map(until);
                        task.version += 1;
                        tasks.push(shown(api, &task));
                        changes.put(task);
                    }
                    Err(failure) => failures.push(failure),
                }
            }
            Ok((changes, (tasks, failures)))
        })
        .await?;
    Ok(wire::protected_tasks(tasks, failures))
}

/// GetTaskProtection.
pub(super) fn get(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = GetTaskProtection::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, Some(&request.cluster))?;
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    if request.tasks.is_empty() {
        let now = api.now();
        tasks.extend(
            state.tasks_in(&cluster).filter(|task| task.is_protected(now)).map(|task| shown(api, task)),
        );
    }
    for given in &request.tasks {
        match protectable(api, &state, &reference::task_key(&cluster, given)?) {
            Ok(task) => tasks.push(shown(api, &task)),
            Err(failure) => failures.push(failure),
        }
    }
    Ok(wire::protected_tasks(tasks, failures))
}
