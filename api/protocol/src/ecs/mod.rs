//! Amazon ECS: one file per group of actions, requests in and records out.

pub mod account_setting;
pub mod attribute;
pub mod capacity_provider;
pub mod cluster;
pub mod container_definition;
pub mod container_instance;
pub mod daemon;
pub mod daemon_task_definition;
pub mod execute_command;
pub mod inputs;
pub mod placement;
pub mod service;
pub mod service_deployment;
pub mod state_change;
pub mod tag;
pub mod task;
pub mod task_definition;
pub mod task_network;
pub mod task_protection;
pub mod task_set;

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::Object;

/// What `X-Amz-Target` begins with, before the dot.
pub const TARGET_PREFIX: &str = "AmazonEC2ContainerServiceV20141113";

/// Something a request named and that could not be served, while the rest of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was named, as an ARN; None when it is about no one thing.
    pub arn: Option<String>,
    /// The kind of failure: `MISSING`, `RESOURCE:CPU`, …
    pub reason: String,
    /// More in words.
    pub detail: Option<String>,
}

impl Failure {
    /// There is nothing under this ARN.
    #[must_use]
    pub fn missing(arn: impl Into<String>) -> Self {
        Self { arn: Some(arn.into()), reason: "MISSING".to_owned(), detail: None }
    }
}

impl From<Failure> for Value {
    fn from(failure: Failure) -> Self {
        Object::new()
            .maybe("arn", failure.arn)
            .with("reason", failure.reason)
            .maybe("detail", failure.detail)
            .into()
    }
}

/// Takes a list of names or ARNs of at most `max` items.
fn names(members: &mut Members, name: &str, max: usize) -> Result<Vec<String>, ApiError> {
    let names = members.texts(name)?.unwrap_or_default();
    if names.len() > max {
        return Err(members.refuse(format_args!("{name} can have at most {max} items.")));
    }
    Ok(names)
}

/// Takes `include`: what else an answer should have.
fn include(members: &mut Members) -> Result<Vec<String>, ApiError> {
    names(members, "include", 10)
}
