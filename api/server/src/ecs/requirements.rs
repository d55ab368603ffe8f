//! What a request for tasks must and must not say, given their task definition and how they are launched.

use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_protocol::ecs::task_definition::network_mode;
use coracle_types::elb::{Association, TargetGroup, TargetGroupId, TargetType};
use coracle_types::{JsonMap, LaunchType, NetworkMode, ServiceLoadBalancer, State, TaskDefinition};
use serde_json::Value;

use super::expressions;

type Checked = Result<(), ApiError>;

/// The members of a request, wherever they are kept.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a>(pub(super) &'a [&'a JsonMap]);

impl<'a> Asked<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.iter().find_map(|map| map.get(name))
    }

    fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a list is there and has something in it.
    fn has(self, name: &str) -> bool {
        self.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    }
}

fn refuse(text: impl Into<String>) -> Checked {
    Err(ApiError::InvalidParameter(text.into()))
}

/// Checks a request of RunTask, StartTask, CreateService, UpdateService or CreateTaskSet.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn check(asked: Asked<'_>, definition: &TaskDefinition, launch_type: LaunchType) -> Checked {
    network(asked, definition)?;
    platform(asked, definition, launch_type)?;
    placement(asked, definition, launch_type)?;
    volumes(asked, definition)
}

fn network(asked: Asked<'_>, definition: &TaskDefinition) -> Checked {
    let given = asked.get("networkConfiguration").is_some();
    match definition.network_mode {
        Some(NetworkMode::Awsvpc) if !given => {
            refuse("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        }
        Some(NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None) if given => {
            refuse("Network Configuration is not valid for the given networkMode of this task definition.")
        }
        _ => Ok(()),
    }
}

fn platform(asked: Asked<'_>, definition: &TaskDefinition, launch_type: LaunchType) -> Checked {
    let Some(version) = asked.text("platformVersion") else { return Ok(()) };
    if launch_type != LaunchType::Fargate {
        return refuse("The platform version must be null when specifying an EC2 launch type.");
    }
    let newest = matches!(version, "LATEST" | "1.4.0");
    let efs = definition.volumes.iter().any(|volume| volume.rest.contains_key("efsVolumeConfiguration"));
    if !newest && (efs || definition.rest.contains_key("ephemeralStorage")) {
        return Err(ApiError::PlatformTaskDefinitionIncompatibility(
            "One or more of the requested capabilities are not supported by the platform version.".to_owned(),
        ));
    }
    Ok(())
}

fn placement(asked: Asked<'_>, definition: &TaskDefinition, launch_type: LaunchType) -> Checked {
    let fargate = launch_type == LaunchType::Fargate;
    if fargate && (asked.has("placementConstraints") || constrains(definition)) {
        return refuse("Placement constraints are not supported with FARGATE launch type.");
    }
    if fargate && asked.has("placementStrategy") {
        return refuse("Placement strategies are not supported with FARGATE launch type.");
    }
    asked.0.iter().try_for_each(|members| check_constraints(members))
}

/// Whether the expressions of `placementConstraints` can be understood.
///
/// # Errors
/// `InvalidParameterException` for the first that can't.
pub(super) fn check_constraints(rest: &JsonMap) -> Checked {
    expressions::check_constraints(rest).map_err(ApiError::InvalidParameter)
}

fn constrains(definition: &TaskDefinition) -> bool {
    Asked(&[&definition.rest]).has("placementConstraints")
}

/// Volumes that are configured at launch are those of the definition that wait for it.
fn volumes(asked: Asked<'_>, definition: &TaskDefinition) -> Checked {
    let names = asked.get("volumeConfigurations").and_then(Value::as_array).into_iter().flatten();
    for name in names.filter_map(|volume| volume.get("name")?.as_str()) {
        let waits = definition.volumes.iter().any(|volume| {
            volume.name == name
                && volume.rest.get("configuredAtLaunch").and_then(Value::as_bool) == Some(true)
        });
        if !waits {
            return refuse(format!(
                "The volume {name} is not in the task definition, or is not marked as configuredAtLaunch there."
            ));
        }
    }
    Ok(())
}

/// Checks a service whose deployments somebody outside directs: what its tasks are is said by its task sets.
///
/// # Errors
/// The first member that belongs to them.
pub(super) fn check_external(asked: Asked<'_>, daemon: bool) -> Checked {
    let theirs = [
        "loadBalancers",
        "serviceRegistries",
        "networkConfiguration",
        "platformVersion",
        "capacityProviderStrategy",
        "volumeConfigurations",
        "serviceConnectConfiguration",
    ];
    if let Some(member) = theirs.into_iter().find(|name| asked.get(name).is_some()) {
        return Err(of_task_sets(member));
    }
    if daemon {
        return refuse("The EXTERNAL deployment controller does not support the daemon scheduling strategy.");
    }
    Ok(())
}

/// What is said to who gives a service a member that its task sets have.
pub(super) fn of_task_sets(member: &str) -> ApiError {
    ApiError::InvalidParameter(format!(
        "{member} cannot be specified for a service with the EXTERNAL deployment controller: it belongs to its task sets."
    ))
}

/// Checks what only services have.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn check_service(asked: Asked<'_>, definition: Option<&TaskDefinition>, daemon: bool) -> Checked {
    let balanced = asked.has("loadBalancers");
    let grace = asked.get("healthCheckGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0);
    if grace > 0 && !balanced && !asked.has("vpcLatticeConfigurations") {
        return refuse(
            "Health check grace period is only valid for services configured to use load balancers",
        );
    }
    if daemon && asked.has("placementStrategy") {
        return refuse(
            "The daemon scheduling strategy does not support placement strategies. Remove the placement strategies and \
             try again.",
        );
    }
    let own_network = definition.is_some_and(|definition| network_mode(definition) == NetworkMode::Awsvpc);
    if asked.text("role").is_some() && (own_network || !balanced) {
        return refuse("You cannot specify an IAM role for services that require a service linked role.");
    }
    Ok(())
}

/// Whether what the load balancers should reach is in the task definition, and the target groups are there and
/// used by a load balancer.
///
/// # Errors
/// The first of these that is not so.
pub(super) fn check_load_balancers(state: &State, rest: &JsonMap, definition: &TaskDefinition) -> Checked {
    let balancers = rest.get("loadBalancers").and_then(Value::as_array);
    for balancer in balancers.into_iter().flatten() {
        let Some(name) = balancer.get("containerName").and_then(Value::as_str) else { continue };
        let container = definition.containers.iter().find(|container| container.name.as_str() == name);
        let container = container.ok_or_else(|| {
            ApiError::InvalidParameter(format!("The container {name} does not exist in the task definition."))
        })?;
        let Some(port) = balancer.get("containerPort").and_then(Value::as_u64) else { continue };
        if !container.port_mappings.iter().any(|mapping| mapping.container_port.map(u64::from) == Some(port))
        {
            return Err(ApiError::InvalidParameter(format!(
                "The container {name} did not have a container port {port} defined."
            )));
        }
    }
    for balancer in ServiceLoadBalancer::all(rest) {
        let arn = &balancer.target_group;
        let group = target_group(state, arn)?;
        if group.target_type == TargetType::Instance && network_mode(definition) == NetworkMode::Awsvpc {
            return refuse(format!(
                "The provided target group {arn} has target type instance, which is incompatible with the awsvpc network mode \
                 specified in the task definition."
            ));
        }
        if !Association::of(state).is_used(&group.id) {
            return refuse(format!(
                "The target group with targetGroupArn {arn} does not have an associated load balancer."
            ));
        }
        if let Some(advanced) = &balancer.advanced {
            target_group(state, &advanced.alternate_target_group)?;
        }
    }
    Ok(())
}

fn target_group(state: &State, arn: &str) -> Result<Arc<TargetGroup>, ApiError> {
    let found = TargetGroupId::of_arn(arn).and_then(|id| state.target_groups.get(&id));
    found.map(|found| Arc::clone(&found.value)).ok_or_else(|| {
        let shown: String = arn.chars().take(300).collect();
        ApiError::InvalidParameter(format!("The target group with targetGroupArn {shown} does not exist."))
    })
}
