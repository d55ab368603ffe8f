//! Daemon task definitions: requests, and the record as ECS answers it. They are task definitions of families
//! of their own.

use coracle_types::{AccountId, Arn, Resource, TaskDefinition, TaskDefinitionId, TaskDefinitionStatus};
use serde_json::{Value, json};

use super::container_definition;
use super::task_definition::{RegisterTaskDefinition, network_mode, volume_object};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// Takes RegisterDaemonTaskDefinition apart.
///
/// # Errors
/// When a member is missing, of the wrong type or out of range.
pub fn register(mut members: Members) -> Result<RegisterTaskDefinition, ApiError> {
    let family = members.required_text("family")?;
    let family = coracle_types::Family::of_daemons(&family)
        .map_err(|error| members.refuse(format_args!("Family contains invalid characters: {error}")))?;
    RegisterTaskDefinition::decode_as(family, members)
}

/// ListDaemonTaskDefinitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListDaemonTaskDefinitions {
    /// What families begin with.
    pub prefix: String,
    /// Only those of this family.
    pub family: Option<String>,
    /// Whether only the last one of each family counts.
    pub last_only: bool,
    /// Only those with this status; None is all.
    pub status: Option<TaskDefinitionStatus>,
    /// Whether the newest come first.
    pub descending: bool,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListDaemonTaskDefinitions {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            prefix: members.text("familyPrefix")?.unwrap_or_default(),
            family: members.text("family")?.filter(|family| !family.is_empty()),
            last_only: members.text("revision")?.is_some(),
            status: match members.text("status")?.as_deref() {
                None | Some("ACTIVE") => Some(TaskDefinitionStatus::Active),
                Some("DELETE_IN_PROGRESS") => Some(TaskDefinitionStatus::DeleteInProgress),
                Some(_) => None,
            },
            descending: members.text("sort")?.as_deref() == Some("DESC"),
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

fn arn(account: AccountId, id: &TaskDefinitionId) -> String {
    Arn::new(account, Resource::TaskDefinition(id.clone())).to_string()
}

/// The answer to RegisterDaemonTaskDefinition and DeleteDaemonTaskDefinition.
#[must_use]
pub fn arn_of(account: AccountId, id: &TaskDefinitionId) -> Value {
    Object::new().with("daemonTaskDefinitionArn", arn(account, id)).into()
}

/// A definition as a list shows it.
#[must_use]
pub fn summary(account: AccountId, definition: &TaskDefinition) -> Value {
    Object::new()
        .with("arn", arn(account, &definition.id))
        .time("registeredAt", Some(definition.registered_at))
        .with("registeredBy", format!("arn:aws:iam::{account}:root"))
        .time("deleteRequestedAt", definition.deregistered_at)
        .with("status", definition.status.name())
        .into()
}

/// The answer to ListDaemonTaskDefinitions.
#[must_use]
pub fn list_definitions(definitions: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("daemonTaskDefinitions", definitions).maybe("nextToken", next).into()
}

/// The answer to DescribeDaemonTaskDefinition.
#[must_use]
pub fn describe(account: AccountId, definition: &TaskDefinition) -> Value {
    let mode = network_mode(definition);
    let containers = definition.containers.iter().map(|container| {
        let mut shown = container_definition::container_definition(container, mode);
        if let Some(members) = shown.as_object_mut() {
            // What the model has for other containers only; both are empty here.
            ["portMappings", "volumesFrom"].iter().for_each(|name| drop(members.remove(*name)));
        }
        shown
    });
    let shown = Object::new()
        .with("daemonTaskDefinitionArn", arn(account, &definition.id))
        .with("family", definition.id.family.daemons().unwrap_or(definition.id.family.as_str()))
        .with("revision", definition.id.revision)
        .with("containerDefinitions", list(containers))
        .with("volumes", list(definition.volumes.iter().map(volume_object)))
        .maybe("cpu", definition.cpu.map(|units| units.to_string()))
        .maybe("memory", definition.memory.map(|mib| mib.to_string()))
        .with("status", definition.status.name())
        .time("registeredAt", Some(definition.registered_at))
        .time("deleteRequestedAt", definition.deregistered_at)
        .with("registeredBy", format!("arn:aws:iam::{account}:root"))
        .rest(&definition.rest);
    Object::new().with("daemonTaskDefinition", shown).into()
}

/// The answer to DescribeDaemonTaskDefinition for one that was there once.
#[must_use]
pub fn deleted(account: AccountId, id: &TaskDefinitionId) -> Value {
    let shown = json!({
        "daemonTaskDefinitionArn": arn(account, id), "revision": id.revision, "status": "DELETED",
        "family": id.family.daemons().unwrap_or(id.family.as_str()),
    });
    Object::new().with("daemonTaskDefinition", shown).into()
}
