//! Amazon ECS: one file per group of actions. `docs/ecs-operations.md` has a line for each.

mod account_settings;
mod attributes;
mod capacity_providers;
mod clusters;
mod container_instances;
mod daemon_deployments;
mod daemon_task_definitions;
mod daemons;
mod deploy;
mod execute_command;
mod expressions;
mod gateways;
mod rebalancing;
mod reference;
mod requirements;
mod run_task;
mod service_deployments;
mod services;
mod settle;
mod start_task;
mod state_changes;
mod tags;
mod task_definitions;
mod task_protection;
mod task_sets;
mod tasks;
mod token;
mod validate;

use coracle_protocol::ecs::inputs;
use coracle_protocol::members::Refusal;
use coracle_protocol::{ApiError, Members};
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};

/// The largest parameters of an action, in bytes of JSON. Members that are kept go into the store with
/// every task and deployment.
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
) -> Result<Value, ApiError> {
    // What makes a repeated request with a client token the same request.
    let fingerprint = token::fingerprint(&body);
    if fingerprint.bytes > PARAMETERS_BYTES_MAX {
        return Err(ApiError::InvalidParameter(format!(
            "The parameters are {} bytes; at most {PARAMETERS_BYTES_MAX} are accepted.",
            fingerprint.bytes
        )));
    }
    let refusal = match operation {
        "RegisterTaskDefinition" => Refusal::Client,
        _ => Refusal::InvalidParameter,
    };
    let shape = inputs::of(operation).ok_or_else(|| unknown_operation(Service::Ecs, operation))?;
    let mut body = body;
    shape.conform(&mut body, refusal)?;
    let members = Members::of_body(body, refusal)?;
    clusters::ensure_default(api, caller).await?;
    match operation {
        "CreateCluster" => clusters::create(api, caller, members).await,
        "DescribeClusters" => clusters::describe(api, caller, members),
        "ListClusters" => clusters::list(api, caller, members),
        "UpdateCluster" => clusters::update(api, caller, members).await,
        "UpdateClusterSettings" => clusters::update_settings(api, caller, members).await,
        "PutClusterCapacityProviders" => clusters::put_providers(api, caller, members).await,
        "DeleteCluster" => clusters::delete(api, caller, members).await,

        "CreateCapacityProvider" => capacity_providers::create(api, caller, members).await,
        "UpdateCapacityProvider" => capacity_providers::update(api, caller, members).await,
        "DeleteCapacityProvider" => capacity_providers::delete(api, caller, members).await,
        "DescribeCapacityProviders" => capacity_providers::describe(api, caller, members),

        "PutAccountSetting" => account_settings::put(api, caller, members).await,
        "PutAccountSettingDefault" => account_settings::put_default(api, caller, members).await,
        "DeleteAccountSetting" => account_settings::delete(api, caller, members).await,
        "ListAccountSettings" => account_settings::list(api, caller, members),

        "TagResource" => tags::tag(api, caller, members).await,
        "UntagResource" => tags::untag(api, caller, members).await,
        "ListTagsForResource" => tags::list(api, caller, members),

        "RegisterContainerInstance" => container_instances::register(api, caller, members).await,
        "DeregisterContainerInstance" => container_instances::deregister(api, caller, members).await,
        "UpdateContainerInstancesState" => container_instances::update_state(api, caller, members).await,
        "UpdateContainerAgent" => container_instances::update_agent(api, caller, members),
        "DiscoverPollEndpoint" => container_instances::discover_poll_endpoint(caller, members),
        "PutAttributes" => attributes::put(api, caller, members).await,
        "DeleteAttributes" => attributes::delete(api, caller, members).await,
        "ListAttributes" => attributes::list(api, caller, members),
        "ListContainerInstances" => container_instances::list(api, caller, members),
        "DescribeContainerInstances" => container_instances::describe(api, caller, members),

        "RegisterTaskDefinition" => task_definitions::register(api, caller, members, &fingerprint).await,
        "DescribeTaskDefinition" => task_definitions::describe(api, caller, members),
        "ListTaskDefinitions" => task_definitions::list(api, caller, members),
        "ListTaskDefinitionFamilies" => task_definitions::list_families(api, caller, members),
        "DeregisterTaskDefinition" => task_definitions::deregister(api, caller, members).await,
        "DeleteTaskDefinitions" => task_definitions::delete(api, caller, members).await,

        "RunTask" => run_task::run_task(api, caller, members, &fingerprint).await,
        "StartTask" => start_task::start_task(api, caller, members).await,
        "StopTask" => tasks::stop(api, caller, members).await,
        "DescribeTasks" => tasks::describe(api, caller, members),
        "ListTasks" => tasks::list(api, caller, members),

        "ExecuteCommand" => execute_command::execute_command(api, caller, members),
        "UpdateTaskProtection" => task_protection::update(api, caller, members).await,
        "GetTaskProtection" => task_protection::get(api, caller, members),
        "SubmitTaskStateChange" | "SubmitContainerStateChange" => {
            state_changes::of_task(api, caller, members)
        }
        "SubmitAttachmentStateChanges" => state_changes::of_attachments(api, caller, members),

        "CreateService" => services::create(api, caller, members, &fingerprint).await,
        "UpdateService" => services::update(api, caller, members).await,
        "DescribeServices" => services::describe(api, caller, members),
        "ListServices" => services::list(api, caller, members),
        "ListServicesByNamespace" => services::list_by_namespace(api, caller, members),
        "DeleteService" => services::delete(api, caller, members).await,

        "CreateDaemon" => daemons::create(api, caller, members, &fingerprint).await,
        "UpdateDaemon" => daemons::update(api, caller, members).await,
        "DeleteDaemon" => daemons::delete(api, caller, members).await,
        "DescribeDaemon" => daemons::describe(api, caller, members),
        "ListDaemons" => daemons::list(api, caller, members),
        "ListDaemonDeployments" => daemon_deployments::list(api, caller, members),
        "DescribeDaemonDeployments" => daemon_deployments::describe(api, caller, members),
        "DescribeDaemonRevisions" => daemon_deployments::describe_revisions(api, caller, members),
        "RegisterDaemonTaskDefinition" => daemon_task_definitions::register(api, caller, members).await,
        "DescribeDaemonTaskDefinition" => daemon_task_definitions::describe(api, caller, members),
        "ListDaemonTaskDefinitions" => daemon_task_definitions::list(api, caller, members),
        "DeleteDaemonTaskDefinition" => daemon_task_definitions::delete(api, caller, members).await,

        "CreateTaskSet" => task_sets::create(api, caller, members, &fingerprint).await,
        "UpdateTaskSet" => task_sets::update(api, caller, members).await,
        "DeleteTaskSet" => task_sets::delete(api, caller, members).await,
        "DescribeTaskSets" => task_sets::describe(api, caller, members),
        "UpdateServicePrimaryTaskSet" => task_sets::make_primary(api, caller, members).await,

        "ListServiceDeployments" => service_deployments::list(api, caller, members),
        "DescribeServiceDeployments" => service_deployments::describe(api, caller, members),
        "DescribeServiceRevisions" => service_deployments::describe_revisions(api, caller, members),
        "StopServiceDeployment" => service_deployments::stop(api, caller, members).await,
        "ContinueServiceDeployment" => service_deployments::go_on(api, caller, members).await,

        other => {
            gateways::answer(other, members).unwrap_or_else(|| Err(unknown_operation(Service::Ecs, other)))
        }
    }
}
