//! Tasks that are there: StopTask, DescribeTasks, ListTasks.

use std::sync::Arc;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task::{self as wire, DescribeTasks, DesiredFilter, ListTasks, StopTask};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, Changes, DesiredStatus, Resource, State, StopCode, Task, TaskKey, TaskStop};
use serde_json::Value;

use super::reference;
use super::settle::{is_stopped, settle};
use crate::api::{Api, Caller};

/// A task as it is answered.
pub(super) fn shown(api: &Api, state: &State, task: &Task, with_tags: bool) -> Value {
    let definition = state.task_definitions.get(&task.task_definition);
    wire::task(api.account(), task, definition.map(|found| &*found.value), with_tags)
}

/// StopTask.
pub(super) async fn stop(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = StopTask::decode(members)?;
    let not_found = || ApiError::InvalidParameter("The referenced task was not found.".to_owned());
    let (state, key) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let key = reference::task_key(&cluster, &request.task)?;
            let mut task = Task::clone(&*reference::task(state, &key).ok_or_else(not_found)?);
            let mut changes = Changes::new();
            if task.desired_status != DesiredStatus::Stopped {
                let reason = request.reason.clone().unwrap_or_else(|| "Task stopped by user".to_owned());
                task.stop(TaskStop { code: StopCode::UserInitiated, reason }, api.now());
                changes.put(task);
            }
            Ok((changes, key))
        })
        .await?;
    let state = settle(api, state, std::slice::from_ref(&key), is_stopped).await;
    let task = reference::task(&state, &key).ok_or_else(not_found)?;
    Ok(wire::one(shown(api, &state, &task, true)))
}

/// DescribeTasks.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeTasks::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let with_tags = request.include.iter().any(|include| include == "TAGS");
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for given in &request.tasks {
        let key = reference::task_key(&cluster, given)?;
        match reference::task(&state, &key) {
            Some(task) => tasks.push(shown(api, &state, &task, with_tags)),
            None => {
                let arn = Arn::new(api.account(), Resource::Task(key.cluster, key.id)).to_string();
                failures.push(Failure::missing(arn));
            }
        }
    }
    Ok(wire::tasks(tasks, failures))
}

/// ListTasks.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListTasks::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let service = request.service_name.as_deref().map(|given| reference::service(&state, &cluster, given));
    let service = service.transpose()?;
    let node =
        request.container_instance.as_deref().map(|given| reference::node_id(&cluster, given)).transpose()?;
    let desired = match request.desired_status {
        DesiredFilter::Running => Some(DesiredStatus::Running),
        DesiredFilter::Stopped => Some(DesiredStatus::Stopped),
        DesiredFilter::Pending => None,
    };
    let wanted = |task: &Task| {
        Some(task.desired_status) == desired
            && service.as_ref().is_none_or(|service| task.service() == Some(&service.id.name))
            && request
                .daemon_name
                .as_deref()
                .is_none_or(|daemon| task.service().and_then(|name| name.daemon()) == Some(daemon))
            && request.family.as_deref().is_none_or(|family| task.task_definition.family.as_str() == family)
            && request.started_by.as_ref().is_none_or(|by| task.started_by.as_ref() == Some(by))
            && request.launch_type.is_none_or(|launch_type| task.launch_type == launch_type)
            && node.is_none_or(|node| task.node.is_some_and(|(on, _)| on == node))
    };
    // The narrowest of what is known without looking through the whole cluster. A node's index has no STOPPED
    // tasks.
    let candidates: Box<dyn Iterator<Item = &Arc<Task>>> = match (&service, node) {
        (Some(service), _) => Box::new(state.tasks_of(&service.id)),
        (None, Some(node)) if desired == Some(DesiredStatus::Running) => {
            Box::new(state.tasks_on(node).filter(|task| task.cluster == cluster))
        }
        _ => match (&request.started_by, request.family.as_deref().map(str::parse)) {
            (Some(starter), _) => Box::new(state.tasks_started_by(&cluster, starter)),
            (None, Some(Ok(family))) => Box::new(state.tasks_of_family(&cluster, &family)),
            (None, Some(Err(_))) => Box::new(std::iter::empty()),
            (None, None) => Box::new(state.tasks_in(&cluster)),
        },
    };
    let keys = candidates.filter(|task| wanted(task)).map(|task| task.key());
    let parse = |text: &str| Some(TaskKey { cluster: cluster.clone(), id: text.parse().ok()? });
    let page = request.page.of("tasks", keys, TaskKey::clone, |key| key.id.to_string(), parse)?;
    let arns = page
        .items
        .into_iter()
        .map(|key| Arn::new(api.account(), Resource::Task(key.cluster, key.id)).to_string());
    Ok(wire::list_tasks(arns.collect(), page.next))
}
