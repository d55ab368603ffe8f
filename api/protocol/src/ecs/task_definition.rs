//! Task definitions: requests, and the record as ECS answers it.

use coracle_types::daemon::DAEMON_PREFIX;
use coracle_types::{
    AccountId, Arn, Compatibility, ContainerDefinition, Family, JsonMap, NetworkMode, Resource, Tags,
    TaskDefinition, TaskDefinitionStatus, Volume,
};
use serde_json::{Value, json};

use super::{Failure, container_definition, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// The largest task definition ECS takes, in bytes of JSON.
pub const BYTES_MAX: usize = 65_536;

/// RegisterTaskDefinition.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterTaskDefinition {
    /// The family.
    pub family: Family,
    /// Task-level CPU units.
    pub cpu: Option<u32>,
    /// Task-level memory in MiB.
    pub memory: Option<u32>,
    /// The network mode, if given.
    pub network_mode: Option<NetworkMode>,
    /// What it asks to be checked against.
    pub requires_compatibilities: Vec<Compatibility>,
    /// Its containers.
    pub containers: Vec<ContainerDefinition>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Its tags.
    pub tags: Tags,
    /// Members kept as sent.
    pub rest: JsonMap,
}

impl RegisterTaskDefinition {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let family = members.text("family")?.unwrap_or_default();
        if family.is_empty() {
            return Err(members.refuse("Family should not be null or empty."));
        }
        let family: Family = family
            .parse()
            .map_err(|error| members.refuse(format_args!("Family contains invalid characters: {error}")))?;
        if family.daemons().is_some() {
            return Err(members
                .refuse(format_args!("Families that begin with {DAEMON_PREFIX} are those of daemons.")));
        }
        Self::decode_as(family, members)
    }

    /// Takes the other members of a task definition apart.
    pub(super) fn decode_as(family: Family, mut members: Members) -> Result<Self, ApiError> {
        let cpu = members.text("cpu")?.filter(|text| !text.is_empty());
        let cpu = cpu.map(|text| {
            cpu_units(&text).ok_or_else(|| {
                members.refuse(format_args!(
                    "Invalid 'cpu' setting for task. {text:?} is neither a number of CPU units nor of vCPUs."
                ))
            })
        });
        let memory = members.text("memory")?.filter(|text| !text.is_empty());
        let memory = memory.map(|text| {
            memory_mib(&text).ok_or_else(|| {
                members.refuse(format_args!(
                    "Invalid 'memory' setting for task. {text:?} is neither a number of MiB nor of GB."
                ))
            })
        });
        let mut requires_compatibilities = Vec::new();
        for text in members.texts("requiresCompatibilities")?.unwrap_or_default() {
            let known = Compatibility::of_name(&text).ok_or_else(|| {
                members.invalid("requiresCompatibilities", format_args!("{text:?} is not known"))
            })?;
            requires_compatibilities.push(known);
        }
        let containers = members.objects("containerDefinitions")?.unwrap_or_default();
        if containers.is_empty() {
            return Err(members.refuse("Container list cannot be empty."));
        }
        let volumes = members.objects("volumes")?.unwrap_or_default();
        Ok(Self {
            family,
            cpu: cpu.transpose()?,
            memory: memory.transpose()?,
            network_mode: members.named("networkMode")?,
            requires_compatibilities,
            containers: containers.into_iter().map(container_definition::decode).collect::<Result<_, _>>()?,
            volumes: volumes.into_iter().map(volume).collect::<Result<_, _>>()?,
            tags: tag::take_tags(&mut members)?,
            rest: members.rest(),
        })
    }
}

fn volume(mut members: Members) -> Result<Volume, ApiError> {
    let name = members.required_text("name")?;
    let host_path = match members.object("host")? {
        Some(mut host) => host.text("sourcePath")?.filter(|path| !path.is_empty()),
        None => None,
    };
    let mut rest = members.rest();
    if let Some(Value::Object(efs)) = rest.get_mut("efsVolumeConfiguration") {
        efs.entry("rootDirectory").or_insert_with(|| json!("/"));
    }
    Ok(Volume { name, host_path, rest })
}

/// CPU units of a task: `"512"`, `".5 vCPU"`, `"1 vcpu"`.
#[must_use]
pub fn cpu_units(text: &str) -> Option<u32> {
    scaled(text, "vcpu", 10_000_000)
}

/// MiB of a task: `"1024"`, `"1GB"`, `"0.5 GB"`.
#[must_use]
pub fn memory_mib(text: &str) -> Option<u32> {
    scaled(text, "gb", 1 << 30)
}

/// A whole number up to `max`, or a decimal number of `unit`s, each 1024.
fn scaled(text: &str, unit: &str, max: u32) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let value = match text.strip_suffix(unit) {
        None => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??,
        Some(number) => {
            let number = number.trim();
            let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let value: f64 = plain.then(|| number.parse().ok())??;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float too large for u32 saturates, and is then over max"
            )]
            let units = (value * 1024.0).round() as u32;
            units
        }
    };
    (1..=max).contains(&value).then_some(value)
}

/// DescribeTaskDefinition.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeTaskDefinition {
    /// A family, `family:revision` or ARN.
    pub task_definition: String,
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeTaskDefinition {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the task definition is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { task_definition: required(&mut members)?, include: include(&mut members)? })
    }
}

/// Takes `taskDefinition`, which must be there.
///
/// # Errors
/// When it is not.
pub fn required(members: &mut Members) -> Result<String, ApiError> {
    members
        .text("taskDefinition")?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| ApiError::Client("TaskDefinition can not be blank.".to_owned()))
}

/// ListTaskDefinitions.
#[derive(Clone, Debug, PartialEq)]
pub struct ListTaskDefinitions {
    /// The whole name of a family.
    pub family_prefix: Option<String>,
    /// Only those with this status.
    pub status: TaskDefinitionStatus,
    /// Whether the newest come first.
    pub descending: bool,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListTaskDefinitions {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, not a known name, or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let descending = match members.text("sort")?.as_deref() {
            None | Some("ASC") => false,
            Some("DESC") => true,
            Some(_) => return Err(members.invalid("sort", "it is neither ASC nor DESC")),
        };
        Ok(Self {
            family_prefix: members.text("familyPrefix")?.filter(|prefix| !prefix.is_empty()),
            status: members.named("status")?.unwrap_or(TaskDefinitionStatus::Active),
            descending,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// ListTaskDefinitionFamilies.
#[derive(Clone, Debug, PartialEq)]
pub struct ListTaskDefinitionFamilies {
    /// What their names begin with.
    pub family_prefix: String,
    /// Some(true): those with an ACTIVE revision; Some(false): those without; None: all.
    pub active: Option<bool>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListTaskDefinitionFamilies {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, not a known name, or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let active = match members.text("status")?.as_deref() {
            None | Some("ALL") => None,
            Some("ACTIVE") => Some(true),
            Some("INACTIVE") => Some(false),
            Some(_) => return Err(members.invalid("status", "it is none of ACTIVE, INACTIVE, ALL")),
        };
        Ok(Self {
            family_prefix: members.text("familyPrefix")?.unwrap_or_default(),
            active,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// DeleteTaskDefinitions: takes the names or ARNs of at most 10.
///
/// # Errors
/// When there are none or too many.
pub fn delete_task_definitions(mut members: Members) -> Result<Vec<String>, ApiError> {
    let named = names(&mut members, "taskDefinitions", 10)?;
    if named.is_empty() {
        return Err(members.missing("taskDefinitions"));
    }
    Ok(named)
}

/// Whether tasks of it can have the launch type FARGATE: it says how much CPU and memory they get,
/// and has a network of its own or leaves that open.
#[must_use]
pub fn fits_fargate(definition: &TaskDefinition) -> bool {
    definition.cpu.is_some()
        && definition.memory.is_some()
        && matches!(definition.network_mode, None | Some(NetworkMode::Awsvpc))
}

/// The network mode that is meant when none is given: a network per task for what asks for FARGATE,
/// mapped ports as on EC2 otherwise.
#[must_use]
pub fn network_mode(definition: &TaskDefinition) -> NetworkMode {
    definition.network_mode.unwrap_or_else(|| {
        if definition.requires_compatibilities.contains(&Compatibility::Fargate) {
            NetworkMode::Awsvpc
        } else {
            NetworkMode::Bridge
        }
    })
}

/// A task definition as ECS answers it.
#[must_use]
pub fn task_definition(account: AccountId, definition: &TaskDefinition) -> Value {
    let mode = network_mode(definition);
    let mut compatibilities = vec!["EC2"];
    if fits_fargate(definition) {
        compatibilities.push("FARGATE");
    }
    let required = &definition.requires_compatibilities;
    let containers = definition
        .containers
        .iter()
        .map(|container| container_definition::container_definition(container, mode));
    Object::new()
        .with("taskDefinitionArn", arn(account, definition))
        .with("containerDefinitions", list(containers))
        .with("family", definition.id.family.as_str())
        .maybe("networkMode", definition.network_mode.map(Named::name))
        .with("revision", definition.id.revision)
        .with("volumes", list(definition.volumes.iter().map(volume_object)))
        .with("status", definition.status.name())
        .kept_or(&definition.rest, "placementConstraints", json!([]))
        .with("compatibilities", compatibilities)
        .maybe(
            "requiresCompatibilities",
            (!required.is_empty()).then(|| list(required.iter().map(|one| one.name()))),
        )
        .maybe("cpu", definition.cpu.map(|units| units.to_string()))
        .maybe("memory", definition.memory.map(|mib| mib.to_string()))
        .time("registeredAt", Some(definition.registered_at))
        .time("deregisteredAt", definition.deregistered_at)
        .with("registeredBy", format!("arn:aws:iam::{account}:root"))
        .rest(&definition.rest)
        .into()
}

/// Its ARN.
#[must_use]
pub fn arn(account: AccountId, definition: &TaskDefinition) -> String {
    Arn::new(account, Resource::TaskDefinition(definition.id.clone())).to_string()
}

/// A volume as ECS answers it.
pub(super) fn volume_object(volume: &Volume) -> Value {
    let host = match &volume.host_path {
        Some(path) => Some(json!({"sourcePath": path})),
        // A volume of no other kind is a directory of the task's own.
        None if volume.rest.is_empty() => Some(json!({})),
        None => None,
    };
    Object::new().with("name", volume.name.as_str()).maybe("host", host).rest(&volume.rest).into()
}

/// The answer with one task definition; `tags` when they were asked for.
#[must_use]
pub fn one(account: AccountId, definition: &TaskDefinition, with_tags: bool) -> Value {
    Object::new()
        .with("taskDefinition", task_definition(account, definition))
        .maybe("tags", with_tags.then(|| tag::tags(&definition.tags)))
        .into()
}

/// The answer to DeleteTaskDefinitions.
#[must_use]
pub fn deleted(task_definitions: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("taskDefinitions", task_definitions).with("failures", list(failures)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_two_units() {
        for (text, units) in [
            ("512", Some(512)),
            (".5 vCPU", Some(512)),
            ("0.25vcpu", Some(256)),
            ("2 vCPU", Some(2048)),
            ("0", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("vcpu", None),
            ("1e9 vcpu", None),
            ("99999999999", None),
            ("999999999 vcpu", None),
            ("half", None),
        ] {
            assert_eq!(cpu_units(text), units, "{text:?}");
        }
        assert_eq!(memory_mib("0.5 GB"), Some(512));
        assert_eq!(memory_mib("1GB"), Some(1024));
        assert_eq!(memory_mib("3072"), Some(3072));
    }
}
