//! `availabilityZoneRebalancing`: whether the tasks of a service are evened out over availability zones. As in
//! ECS, a new service has it ENABLED where that is possible and it does not say otherwise; an update leaves it
//! as it is.

use coracle_protocol::ApiError;
use coracle_types::{
    JsonMap, LaunchType, PlacementConstraint, PlacementStrategy, SchedulingStrategy, Service, SpreadField,
    TaskDefinition, attribute, placement_constraints, placement_strategies,
};
use serde_json::Value;

const MEMBER: &str = "availabilityZoneRebalancing";
const ENABLED: &str = "ENABLED";

/// Decides for a new service, which runs `definition`; None: its task sets say what it runs.
///
/// # Errors
/// `InvalidParameterException` when it asks for what is not possible.
pub(super) fn choose(service: &mut Service, definition: Option<&TaskDefinition>) -> Result<(), ApiError> {
    if service.rest.contains_key(MEMBER) {
        return check(&service.rest, service, definition);
    }
    if obstacle(service, definition).is_none() {
        service.rest.insert(MEMBER.to_owned(), ENABLED.into());
    }
    Ok(())
}

/// Checks what a request says of it, for a service as it would be then.
///
/// # Errors
/// `InvalidParameterException` when it asks for what is not possible.
pub(super) fn check(
    request: &JsonMap,
    service: &Service,
    definition: Option<&TaskDefinition>,
) -> Result<(), ApiError> {
    let asked = request.get(MEMBER).and_then(Value::as_str) == Some(ENABLED);
    match obstacle(service, definition).filter(|_| asked) {
        None => Ok(()),
        Some(obstacle) => {
            Err(ApiError::InvalidParameter(format!("{obstacle} does not support {MEMBER} {ENABLED}.")))
        }
    }
}

/// What of a service makes it impossible; the ECS developer guide, "Balancing an Amazon ECS service across
/// Availability Zones", has the list.
fn obstacle(service: &Service, definition: Option<&TaskDefinition>) -> Option<&'static str> {
    let Some(definition) = definition else { return Some("The EXTERNAL deployment controller") };
    let by_zone = format!("attribute:{}", attribute::ZONE);
    let constraints =
        placement_constraints(&service.rest).into_iter().chain(placement_constraints(&definition.rest));
    let in_zones = constraints
        .into_iter()
        .any(|one| matches!(one, PlacementConstraint::MemberOf(expression) if expression.contains(&by_zone)));
    let first = placement_strategies(&service.rest).into_iter().next();
    let spread = first.is_none_or(|first| {
        matches!(first, PlacementStrategy::Spread(SpreadField::Attribute(name)) if name == attribute::ZONE)
    });
    let balancers = service.rest.get("loadBalancers").and_then(Value::as_array);
    let classic = balancers.into_iter().flatten().any(|one| one.get("loadBalancerName").is_some());
    if service.scheduling_strategy == SchedulingStrategy::Daemon {
        Some("The daemon scheduling strategy")
    } else if service.launch_type == LaunchType::External {
        Some("The EXTERNAL launch type")
    } else if service.deployment_configuration.maximum_percent <= 100 {
        Some("A maximumPercent of 100")
    } else if in_zones {
        Some("A placement constraint on attribute:ecs.availability-zone")
    } else if !spread {
        Some("A placementStrategy that does not begin with spread by attribute:ecs.availability-zone")
    } else if classic {
        Some("A Classic Load Balancer")
    } else {
        None
    }
}
