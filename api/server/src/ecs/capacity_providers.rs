//! Capacity providers. FARGATE and FARGATE_SPOT are built in; all others are made of nodes.

use coracle_protocol::ApiError;
use coracle_protocol::ecs::cluster::ClusterProviders;
use coracle_types::{Cluster, LastStatus, ServiceStatus, State};
use serde_json::Value;

/// The last part of a name or ARN.
fn short(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

/// Whether a cluster may have these providers: the default strategy names none but them.
///
/// # Errors
/// `InvalidParameterException` when not.
pub(super) fn check_associations(providers: &ClusterProviders) -> Result<(), ApiError> {
    let known: Vec<&str> = providers.associated.iter().map(|given| short(given)).collect();
    if providers.of_default.iter().all(|given| known.contains(&short(given))) {
        return Ok(());
    }
    Err(ApiError::InvalidParameter(
        "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
         cluster. Associate the capacity provider with the cluster or specify a valid capacity provider and try again."
            .to_owned(),
    ))
}

/// Whether nothing in a cluster uses a provider it is to lose.
///
/// # Errors
/// `ResourceInUseException` when something does.
pub(super) fn check_unused(state: &State, cluster: &Cluster, keeps: &[String]) -> Result<(), ApiError> {
    let has = cluster.rest.get("capacityProviders").and_then(Value::as_array);
    let has = has.into_iter().flatten().filter_map(Value::as_str);
    let leaving: Vec<&str> =
        has.map(short).filter(|name| !keeps.iter().any(|kept| short(kept) == *name)).collect();
    if leaving.is_empty() {
        return Ok(());
    }
    let of_task = state.tasks_in(&cluster.id).filter(|task| task.last_status != LastStatus::Stopped);
    let of_task = of_task.filter_map(|task| task.rest.get("capacityProviderName")?.as_str());
    let services = state.services_in(&cluster.id).filter(|service| service.status == ServiceStatus::Active);
    let strategies = services.filter_map(|service| service.primary()?.rest.get("capacityProviderStrategy"));
    let of_service = strategies.filter_map(Value::as_array).flatten();
    let of_service = of_service.filter_map(|item| item.get("capacityProvider")?.as_str());
    match of_task.chain(of_service).map(short).find(|used| leaving.contains(used)) {
        None => Ok(()),
        Some(used) => Err(ApiError::ResourceInUse(format!(
            "The specified capacity provider is in use and cannot be removed: {used}."
        ))),
    }
}
