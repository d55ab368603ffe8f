//! Containers of a task definition: what was sent in, ECS's defaults added, out.

use std::collections::BTreeMap;

use coracle_types::{
    ContainerDefinition, Dependency, HealthCheck, LogConfiguration, MountPoint, NetworkMode, PortMapping,
};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

/// More CPU units than any machine has; keeps sums far from overflow.
const CPU_UNITS_MAX: u32 = 10_000_000;
/// More memory than any machine has, in MiB.
const MEMORY_MIB_MAX: u32 = 1 << 30;

/// Takes a container definition apart.
///
/// # Errors
/// When a member is missing, of the wrong type or out of range.
pub fn decode(mut members: Members) -> Result<ContainerDefinition, ApiError> {
    let name = members
        .required_text("name")
        .map_err(|_| members.refuse("Container.name should not be null or empty."))?;
    let name = name.parse().map_err(|error| members.refuse(error))?;
    let image = members
        .required_text("image")
        .map_err(|_| members.refuse("Container.image should not be null or empty."))?;
    let health_check = members.object("healthCheck")?.map(health_check).transpose()?;
    let log_configuration = members.object("logConfiguration")?.map(decode_log_configuration).transpose()?;
    Ok(ContainerDefinition {
        name,
        image,
        cpu: members.integer_in("cpu", 0..=CPU_UNITS_MAX)?.unwrap_or(0),
        memory: members.integer_in("memory", 4..=MEMORY_MIB_MAX)?,
        memory_reservation: members.integer_in("memoryReservation", 4..=MEMORY_MIB_MAX)?,
        essential: members.flag("essential")?.unwrap_or(true),
        entry_point: members.texts("entryPoint")?.unwrap_or_default(),
        command: members.texts("command")?.unwrap_or_default(),
        environment: members.pairs("environment", "name", "value")?.unwrap_or_default(),
        port_mappings: each(&mut members, "portMappings", port_mapping)?,
        depends_on: each(&mut members, "dependsOn", dependency)?,
        start_timeout_s: members.integer_in("startTimeout", 0..=86_400)?,
        stop_timeout_s: members.integer_in("stopTimeout", 0..=86_400)?,
        health_check,
        log_configuration,
        mount_points: each(&mut members, "mountPoints", mount_point)?,
        docker_labels: members.text_map("dockerLabels")?,
        rest: members.rest(),
    })
}

fn each<T>(
    members: &mut Members,
    name: &str,
    decode: impl Fn(Members) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    members.objects(name)?.unwrap_or_default().into_iter().map(decode).collect()
}

fn port_mapping(mut members: Members) -> Result<PortMapping, ApiError> {
    let container_port = members.integer_in("containerPort", 1..=65_535)?;
    if container_port.is_none() && members.peek("containerPortRange").is_none() {
        return Err(members.missing("containerPort"));
    }
    let container_port = container_port.and_then(|port| u16::try_from(port).ok());
    let host_port = members.integer_in("hostPort", 0..=65_535)?;
    let mut rest = members.rest();
    if let Some(host_port) = host_port {
        rest.insert("hostPort".to_owned(), host_port.into());
    }
    Ok(PortMapping { container_port, rest })
}

fn dependency(mut members: Members) -> Result<Dependency, ApiError> {
    let container = members.required_text("containerName")?;
    Ok(Dependency {
        container: container.parse().map_err(|error| members.refuse(error))?,
        condition: members.named("condition")?.ok_or_else(|| members.missing("condition"))?,
    })
}

fn health_check(mut members: Members) -> Result<HealthCheck, ApiError> {
    let command = members.texts("command")?.filter(|command| !command.is_empty());
    Ok(HealthCheck {
        command: command.ok_or_else(|| members.missing("command"))?,
        interval_s: members.integer_in("interval", 5..=300)?.unwrap_or(30),
        timeout_s: members.integer_in("timeout", 2..=120)?.unwrap_or(5),
        retries: members.integer_in("retries", 1..=10)?.unwrap_or(3),
        start_period_s: members.integer_in("startPeriod", 0..=300)?.unwrap_or(0),
    })
}

fn decode_log_configuration(mut members: Members) -> Result<LogConfiguration, ApiError> {
    Ok(LogConfiguration {
        driver: members.required_text("logDriver")?,
        options: members.text_map("options")?,
        rest: members.rest(),
    })
}

fn mount_point(mut members: Members) -> Result<MountPoint, ApiError> {
    Ok(MountPoint {
        source_volume: members.required_text("sourceVolume")?,
        container_path: members.required_text("containerPath")?,
        read_only: members.flag("readOnly")?.unwrap_or(false),
    })
}

/// A container definition as ECS answers it, with its defaults.
#[must_use]
pub fn container_definition(container: &ContainerDefinition, network_mode: NetworkMode) -> Value {
    let some = |texts: &[String]| (!texts.is_empty()).then(|| list(texts.iter().cloned()));
    let depends_on = container.depends_on.iter().map(|dependency| {
        Object::new()
            .with("containerName", dependency.container.as_str())
            .with("condition", dependency.condition.name())
    });
    let mount_points = container.mount_points.iter().map(|mount| {
        Object::new()
            .with("sourceVolume", mount.source_volume.as_str())
            .with("containerPath", mount.container_path.as_str())
            .with("readOnly", mount.read_only)
    });
    Object::new()
        .with("name", container.name.as_str())
        .with("image", container.image.as_str())
        .with("cpu", container.cpu)
        .maybe("memory", container.memory)
        .maybe("memoryReservation", container.memory_reservation)
        .with("portMappings", list(container.port_mappings.iter().map(|mapping| port(mapping, network_mode))))
        .with("essential", container.essential)
        .maybe("entryPoint", some(&container.entry_point))
        .maybe("command", some(&container.command))
        .with("environment", environment(&container.environment))
        .with("mountPoints", list(mount_points))
        .kept_or(&container.rest, "volumesFrom", json!([]))
        .maybe("dependsOn", (!container.depends_on.is_empty()).then(|| list(depends_on)))
        .maybe("startTimeout", container.start_timeout_s)
        .maybe("stopTimeout", container.stop_timeout_s)
        .maybe("dockerLabels", (!container.docker_labels.is_empty()).then(|| map(&container.docker_labels)))
        .maybe("logConfiguration", container.log_configuration.as_ref().map(log_configuration))
        .maybe("healthCheck", container.health_check.as_ref().map(check))
        .kept_or(&container.rest, "systemControls", json!([]))
        .rest(&container.rest)
        .into()
}

/// Environment variables as `[{"name": …, "value": …}]`.
#[must_use]
pub fn environment(variables: &[(String, String)]) -> Value {
    list(
        variables
            .iter()
            .map(|(name, value)| Object::new().with("name", name.as_str()).with("value", value.as_str())),
    )
}

fn map(texts: &BTreeMap<String, String>) -> Value {
    Value::Object(texts.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect())
}

fn port(mapping: &PortMapping, network_mode: NetworkMode) -> Value {
    let host_port = mapping.rest.get("hostPort").cloned().or_else(|| match network_mode {
        // In these modes a container's ports are the network's own.
        NetworkMode::Awsvpc | NetworkMode::Host => mapping.container_port.map(Into::into),
        // A port is chosen when the task starts.
        NetworkMode::Bridge | NetworkMode::None => mapping.container_port.map(|_| 0.into()),
    });
    Object::new()
        .maybe("containerPort", mapping.container_port)
        .maybe("hostPort", host_port)
        .kept_or(&mapping.rest, "protocol", "tcp")
        .rest(&mapping.rest)
        .into()
}

fn log_configuration(logs: &LogConfiguration) -> Value {
    Object::new()
        .with("logDriver", logs.driver.as_str())
        .maybe("options", (!logs.options.is_empty()).then(|| map(&logs.options)))
        .rest(&logs.rest)
        .into()
}

fn check(check: &HealthCheck) -> Value {
    Object::new()
        .with("command", list(check.command.iter().cloned()))
        .with("interval", check.interval_s)
        .with("timeout", check.timeout_s)
        .with("retries", check.retries)
        .maybe("startPeriod", (check.start_period_s > 0).then_some(check.start_period_s))
        .into()
}
