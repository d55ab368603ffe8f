//! ExecuteCommand: whether a command can be run, and the session it is run in.

use coracle_protocol::ecs::execute_command::{self as wire, ExecuteCommand};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Container, ContainerStatus, LastStatus, Task};
use serde_json::Value;

use super::reference;
use crate::api::{Api, Caller};
use crate::exec::ExecCommand;

/// ExecuteCommand.
pub(super) fn execute_command(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ExecuteCommand::decode(members)?;
    let argv = wire::words(&request.command)
        .map_err(|why| ApiError::InvalidParameter(format!("Invalid value for command: {why}")))?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let key = reference::task_key(&cluster, &request.task)?;
    let task = reference::task(&state, &key)
        .ok_or_else(|| ApiError::InvalidParameter("The referenced task was not found.".to_owned()))?;
    if task.last_status != LastStatus::Running {
        return Err(ApiError::InvalidParameter(
            "The execute command failed because the task is not RUNNING.".to_owned(),
        ));
    }
    let container = container(&task, request.container.as_deref())?;
    let enabled = task.rest.get("enableExecuteCommand").and_then(Value::as_bool) == Some(true);
    if !enabled || container.status != ContainerStatus::Running {
        return Err(ApiError::InvalidParameter(
            "The execute command failed because execute command was not enabled when the task was run or the execute \
             command agent isn\u{2019}t running. Wait and try again or run a new task with execute command enabled and \
             try again."
                .to_owned(),
        ));
    }
    if api.exec.is_none() {
        return Err(ApiError::TargetNotConnected);
    }
    let command = ExecCommand { task: key, container: container.name.clone(), argv };
    let opened = api.exec_sessions.open(command);
    let url = format!("{}_coracle/exec/{}", caller.endpoint().replacen("http", "ws", 1), opened.id);
    Ok(wire::session(api.account(), &task, container, &opened.id, &url, &opened.token))
}

/// The container a request means: the only one, if it names none.
fn container<'a>(task: &'a Task, given: Option<&str>) -> Result<&'a Container, ApiError> {
    let mut containers = task.containers.iter();
    match (given, task.containers.as_slice()) {
        (Some(name), _) => {
            let found = containers.find(|container| container.name.as_str() == name);
            found.ok_or_else(|| {
                ApiError::InvalidParameter(format!(
                    "The task has no container {:?}.",
                    name.chars().take(300).collect::<String>()
                ))
            })
        }
        (None, [only]) => Ok(only),
        (None, _) => Err(ApiError::InvalidParameter(
            "The container name must be given, because the task has several containers.".to_owned(),
        )),
    }
}
