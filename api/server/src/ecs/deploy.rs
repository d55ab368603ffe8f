//! What decides how the CPU units of new tasks are meant: launch type, capacity providers, and the
//! cluster's default.

use coracle_protocol::ApiError;
use coracle_protocol::ecs::task_definition::fits_fargate;
use coracle_types::{Cluster, LaunchType, TaskDefinition, leading_provider};
use serde_json::Value;

/// The member that names capacity providers.
pub(super) const STRATEGY: &str = "capacityProviderStrategy";

/// How new tasks are launched.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) launch_type: LaunchType,
    /// The capacity provider they come from, if they come from one.
    pub(super) provider: Option<String>,
    /// The strategy it was chosen by, if that was the cluster's.
    pub(super) default_strategy: Option<Value>,
}

impl Launch {
    /// Of this launch type, from no provider.
    pub(super) fn plain(launch_type: LaunchType) -> Self {
        Self { launch_type, provider: None, default_strategy: None }
    }
}

/// The launch type that a request for tasks of `definition` means.
///
/// # Errors
/// `InvalidParameterException` when both are given, a provider is not the cluster's, or the definition does
/// not fit.
pub(super) fn launch(
    cluster: &Cluster,
    definition: &TaskDefinition,
    launch_type: Option<LaunchType>,
    strategy: Option<&Value>,
) -> Result<Launch, ApiError> {
    let launch = match (launch_type, strategy.and_then(leading_provider)) {
        (Some(_), Some(_)) => {
            return Err(ApiError::InvalidParameter(
                "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again."
                    .to_owned(),
            ));
        }
        (Some(launch_type), None) => Launch::plain(launch_type),
        (None, Some(provider)) => {
            strategy.map_or(Ok(()), |strategy| check_associated(cluster, strategy))?;
            of_provider(provider, None)
        }
        (None, None) => of_default(cluster),
    };
    if launch.launch_type == LaunchType::Fargate && !fits_fargate(definition) {
        return Err(ApiError::InvalidParameter(
            "Task definition does not support launch_type FARGATE.".to_owned(),
        ));
    }
    Ok(launch)
}

/// Whether the cluster has all providers of a strategy. FARGATE and FARGATE_SPOT are everywhere.
fn check_associated(cluster: &Cluster, strategy: &Value) -> Result<(), ApiError> {
    let short = |provider: &str| provider.rsplit('/').next().map(str::to_owned);
    let of_cluster = cluster.rest.get("capacityProviders").and_then(Value::as_array);
    let has = |wanted: &str| {
        let mut known = of_cluster.into_iter().flatten().filter_map(Value::as_str);
        matches!(wanted, "FARGATE" | "FARGATE_SPOT") || known.any(|known| short(known) == short(wanted))
    };
    let mut wanted = strategy.as_array().into_iter().flatten();
    if wanted.all(|item| item.get("capacityProvider").and_then(Value::as_str).is_some_and(has)) {
        return Ok(());
    }
    Err(ApiError::InvalidParameter(
        "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
         cluster. Associate the capacity provider with the cluster or specify a valid capacity provider and try again."
            .to_owned(),
    ))
}

/// FARGATE and FARGATE_SPOT cap CPU; every other provider is made of nodes, which share it.
fn of_provider(provider: &str, default_strategy: Option<Value>) -> Launch {
    let launch_type = match provider {
        "FARGATE" | "FARGATE_SPOT" => LaunchType::Fargate,
        _ => LaunchType::Ec2,
    };
    Launch { launch_type, provider: Some(provider.to_owned()), default_strategy }
}

fn of_default(cluster: &Cluster) -> Launch {
    let strategy = cluster.rest.get("defaultCapacityProviderStrategy");
    match strategy.and_then(leading_provider) {
        Some(provider) => of_provider(provider, strategy.cloned()),
        None => Launch::plain(LaunchType::Ec2),
    }
}
