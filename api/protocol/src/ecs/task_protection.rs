//! Task protection: requests, and a protected task as ECS answers it.

use coracle_types::Timestamp;
use serde_json::Value;

use super::{Failure, names};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// How long a task is protected when nobody says, in minutes.
const MINUTES_DEFAULT: u32 = 120;
/// How long it can be, in minutes.
const MINUTES_MAX: u32 = 2880;

/// UpdateTaskProtection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTaskProtection {
    /// The cluster.
    pub cluster: String,
    /// Ids or ARNs, 1 to 10.
    pub tasks: Vec<String>,
    /// For how many minutes from now; None is not any more.
    pub minutes: Option<u32>,
}

impl UpdateTaskProtection {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let tasks = names(&mut members, "tasks", 10)?;
        if tasks.is_empty() {
            return Err(members.refuse("Tasks cannot be empty."));
        }
        let cluster = members.required_text("cluster")?;
        let enabled =
            members.flag("protectionEnabled")?.ok_or_else(|| members.missing("protectionEnabled"))?;
        let minutes = members.integer_in("expiresInMinutes", 1..=MINUTES_MAX)?.unwrap_or(MINUTES_DEFAULT);
        Ok(Self { cluster, tasks, minutes: enabled.then_some(minutes) })
    }
}

/// GetTaskProtection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetTaskProtection {
    /// The cluster.
    pub cluster: String,
    /// Ids or ARNs, at most 100; all that are protected when there are none.
    pub tasks: Vec<String>,
}

impl GetTaskProtection {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the cluster is missing or there are too many tasks.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { cluster: members.required_text("cluster")?, tasks: names(&mut members, "tasks", 100)? })
    }
}

/// One task, protected or not.
#[must_use]
pub fn protected_task(arn: &str, until: Option<Timestamp>) -> Value {
    Object::new()
        .with("taskArn", arn)
        .with("protectionEnabled", until.is_some())
        .time("expirationDate", until)
        .into()
}

/// The answer to both actions.
#[must_use]
pub fn protected_tasks(tasks: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("protectedTasks", tasks).with("failures", list(failures)).into()
}
