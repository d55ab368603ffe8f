//! Amazon ECS: one file per group of actions.

mod account_settings;
mod clusters;
mod container_instances;
mod deploy;
mod reference;
mod run_task;
mod services;
mod settle;
mod tags;
mod task_definitions;
mod tasks;
mod token;
mod validate;

use coracle_protocol::ecs::cluster::{CreateCluster, DescribeClusters, UpdateCluster};
use coracle_protocol::ecs::container_instance::{DescribeContainerInstances, ListContainerInstances};
use coracle_protocol::ecs::inputs;
use coracle_protocol::ecs::service::{
    CreateService, DeleteService, DescribeServices, ListServices, UpdateService,
};
use coracle_protocol::ecs::tag::{TagResource, UntagResource};
use coracle_protocol::ecs::task::{DescribeTasks, ListTasks, RunTask, StopTask};
use coracle_protocol::ecs::task_definition::{
    BYTES_MAX, DescribeTaskDefinition, ListTaskDefinitionFamilies, ListTaskDefinitions,
    RegisterTaskDefinition, delete_task_definitions,
};
use coracle_protocol::members::Refusal;
use coracle_protocol::{ApiError, Members, PageRequest};
use serde_json::Value;

pub(crate) use self::run_task::InFlight;
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
    let mut members = Members::of_body(body, refusal)?;
    clusters::ensure_default(api, caller).await?;
    match operation {
        "CreateCluster" => clusters::create(api, caller, CreateCluster::decode(members)?).await,
        "DescribeClusters" => clusters::describe(api, caller, &DescribeClusters::decode(members)?),
        "ListClusters" => clusters::list(api, caller, &PageRequest::take(&mut members, 100)?),
        "DeleteCluster" => clusters::delete(api, caller, members).await,
        "UpdateCluster" | "UpdateClusterSettings" | "PutClusterCapacityProviders" => {
            clusters::update(api, caller, UpdateCluster::decode(members)?).await
        }
        "ListContainerInstances" => {
            container_instances::list(api, caller, &ListContainerInstances::decode(members)?)
        }
        "DescribeContainerInstances" => {
            container_instances::describe(api, caller, &DescribeContainerInstances::decode(members)?)
        }
        "RegisterTaskDefinition" => {
            if fingerprint.bytes > BYTES_MAX {
                return Err(ApiError::Client(format!(
                    "Actual length: '{}'. Max allowed length is '{BYTES_MAX}' bytes.",
                    fingerprint.bytes
                )));
            }
            task_definitions::register(api, caller, RegisterTaskDefinition::decode(members)?).await
        }
        "DescribeTaskDefinition" => {
            task_definitions::describe(api, caller, &DescribeTaskDefinition::decode(members)?)
        }
        "ListTaskDefinitions" => task_definitions::list(api, caller, &ListTaskDefinitions::decode(members)?),
        "ListTaskDefinitionFamilies" => {
            task_definitions::list_families(api, caller, &ListTaskDefinitionFamilies::decode(members)?)
        }
        "DeregisterTaskDefinition" => task_definitions::deregister(api, caller, members).await,
        "DeleteTaskDefinitions" => {
            task_definitions::delete(api, caller, &delete_task_definitions(members)?).await
        }
        "RunTask" => run_task::run_task(api, caller, RunTask::decode(members)?, &fingerprint).await,
        "StopTask" => tasks::stop(api, caller, StopTask::decode(members)?).await,
        "DescribeTasks" => tasks::describe(api, caller, &DescribeTasks::decode(members)?),
        "ListTasks" => tasks::list(api, caller, &ListTasks::decode(members)?),
        "CreateService" => services::create(api, caller, CreateService::decode(members)?, &fingerprint).await,
        "UpdateService" => services::update(api, caller, UpdateService::decode(members)?).await,
        "DescribeServices" => services::describe(api, caller, &DescribeServices::decode(members)?),
        "ListServices" => services::list(api, caller, &ListServices::decode(members)?),
        "DeleteService" => services::delete(api, caller, DeleteService::decode(members)?).await,
        "ListAccountSettings" => account_settings::list(api, members),
        "TagResource" => tags::tag(api, caller, TagResource::decode(members)?).await,
        "UntagResource" => tags::untag(api, caller, UntagResource::decode(members)?).await,
        "ListTagsForResource" => tags::list(api, caller, &members.required_text("resourceArn")?),
        unknown => Err(unknown_operation(Service::Ecs, unknown)),
    }
}
