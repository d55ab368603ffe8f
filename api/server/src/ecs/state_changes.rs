//! What container agents of ECS report. A node of ours reports by a channel of its own, and nobody else knows
//! better than it: a report that says what is known already is acknowledged, any other one is refused.

use coracle_protocol::ecs::state_change::{AttachmentStateChanges, StateChange, acknowledged};
use coracle_protocol::ecs::task_network::attachment_id;
use coracle_protocol::names::Named as _;
use coracle_protocol::{ApiError, Members};
use coracle_types::{ContainerStatus, LastStatus, Task};
use serde_json::Value;

use super::reference;
use crate::api::{Api, Caller};

/// SubmitTaskStateChange and SubmitContainerStateChange.
pub(super) fn of_task(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = StateChange::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let key = reference::task_key(&cluster, &request.task)?;
    let task = reference::task(&state, &key)
        .ok_or_else(|| ApiError::InvalidParameter("The referenced task was not found.".to_owned()))?;
    let known = match (&request.container, &request.status) {
        (None, None) => true,
        (None, Some(status)) => {
            let status = LastStatus::of_name(status).ok_or_else(|| no_status(status))?;
            status <= task.last_status
        }
        (Some(name), status) => is_known(&task, name, status.as_deref())?,
    };
    if known { Ok(acknowledged()) } else { Err(not_an_agent()) }
}

/// Whether a container of a task is as far as `status`.
fn is_known(task: &Task, name: &str, status: Option<&str>) -> Result<bool, ApiError> {
    let container =
        task.containers.iter().find(|container| container.name.as_str() == name).ok_or_else(|| {
            ApiError::InvalidParameter(format!(
                "The task has no container {:?}.",
                name.chars().take(300).collect::<String>()
            ))
        })?;
    let Some(status) = status else { return Ok(true) };
    let status = ContainerStatus::of_name(status).ok_or_else(|| no_status(status))?;
    let rank = |status| match status {
        ContainerStatus::Pending => 0,
        ContainerStatus::Running => 1,
        ContainerStatus::Stopped => 2,
    };
    Ok(rank(status) <= rank(container.status))
}

fn no_status(given: &str) -> ApiError {
    ApiError::InvalidParameter(format!("Invalid status: {:?}.", given.chars().take(100).collect::<String>()))
}

fn not_an_agent() -> ApiError {
    ApiError::Client(
        "The state of a task changes only by what the agent of its container instance reports.".to_owned(),
    )
}

/// SubmitAttachmentStateChanges.
pub(super) fn of_attachments(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = AttachmentStateChanges::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    for (arn, status) in &request.attachments {
        let id = arn.rsplit('/').next().unwrap_or(arn);
        let task = state.tasks_in(&cluster).find(|task| attachment_id(task.id) == id).ok_or_else(|| {
            ApiError::InvalidParameter(format!(
                "The attachment {:?} was not found.",
                arn.chars().take(300).collect::<String>()
            ))
        })?;
        match status.as_str() {
            "ATTACHED" if task.last_status > LastStatus::Provisioning => {}
            "DETACHED" | "DELETED" if task.last_status == LastStatus::Stopped => {}
            "ATTACHED" | "DETACHED" | "DELETED" => return Err(not_an_agent()),
            other => return Err(no_status(other)),
        }
    }
    Ok(acknowledged())
}
