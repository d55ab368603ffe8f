//! Tags of any resource.

use std::sync::Arc;

use coracle_protocol::ecs::tag::{TagResource, UntagResource, list_tags_for_resource, nothing};
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, Changes, Cluster, ClusterStatus, LastStatus, Record, Region, Resource, Service, ServiceStatus,
    State, Tags, Task, TaskDefinition, TaskDefinitionStatus, TaskKey,
};
use serde_json::Value;

use crate::api::{Api, Caller};

/// A resource that has tags.
enum Tagged {
    Cluster(Arc<Cluster>),
    Service(Arc<Service>),
    TaskDefinition(Arc<TaskDefinition>),
    Task(Arc<Task>),
}

impl Tagged {
    /// The resource an ARN names, if it is there and not over.
    fn find(state: &State, caller: &Caller, arn: &str) -> Result<Self, ApiError> {
        let parsed: Arn = arn
            .parse()
            .map_err(|error| ApiError::InvalidParameter(format!("Invalid arn syntax: {error}")))?;
        let over = |what: &str| {
            ApiError::InvalidParameter(format!(
                "The specified {what} is not active or does not exist. Specify an active {what} and try again."
            ))
        };
        let ours = |region: &Region| *region == caller.region;
        match &parsed.resource {
            Resource::Cluster(id) => {
                let found = state.clusters.get(id).map(|found| Arc::clone(&found.value));
                found
                    .filter(|cluster| cluster.status == ClusterStatus::Active && ours(&id.region))
                    .map(Self::Cluster)
                    .ok_or(ApiError::ClusterNotFound)
            }
            Resource::Service(id) => {
                let found = state.services.get(id).map(|found| Arc::clone(&found.value));
                found
                    .filter(|service| service.status == ServiceStatus::Active && ours(&id.cluster.region))
                    .map(Self::Service)
                    .ok_or_else(|| over("service"))
            }
            Resource::TaskDefinition(id) => {
                let found = state.task_definitions.get(id).map(|found| Arc::clone(&found.value));
                found
                    .filter(|one| one.status == TaskDefinitionStatus::Active && ours(&id.region))
                    .map(Self::TaskDefinition)
                    .ok_or_else(|| over("task definition"))
            }
            Resource::Task(cluster, id) => {
                let key = TaskKey { cluster: cluster.clone(), id: *id };
                let found = state.tasks.get(&key).map(|found| Arc::clone(&found.value));
                found
                    .filter(|task| task.last_status != LastStatus::Stopped && ours(&cluster.region))
                    .map(Self::Task)
                    .ok_or_else(|| over("task"))
            }
            Resource::ContainerInstance(..)
            | Resource::Container(..)
            | Resource::TaskSet(..)
            | Resource::ServiceDeployment(_)
            | Resource::ServiceRevision(_)
            | Resource::CapacityProvider(_) => Err(ApiError::InvalidParameter(
                "Clusters, services, task definitions and tasks can have tags here.".to_owned(),
            )),
        }
    }

    fn tags(&self) -> &Tags {
        match self {
            Self::Cluster(cluster) => &cluster.tags,
            Self::Service(service) => &service.tags,
            Self::TaskDefinition(definition) => &definition.tags,
            Self::Task(task) => &task.tags,
        }
    }

    fn with_tags(&self, tags: Tags) -> Record {
        match self {
            Self::Cluster(cluster) => Cluster { tags, ..Cluster::clone(cluster) }.into(),
            Self::Service(service) => Service { tags, ..Service::clone(service) }.into(),
            Self::TaskDefinition(definition) => {
                TaskDefinition { tags, ..TaskDefinition::clone(definition) }.into()
            }
            Self::Task(task) => Task { tags, ..Task::clone(task) }.into(),
        }
    }
}

async fn change(
    api: &Api,
    caller: &Caller,
    arn: &str,
    edit: impl Fn(&mut Tags) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    api.transact(|state| {
        let found = Tagged::find(state, caller, arn)?;
        let mut tags = found.tags().clone();
        edit(&mut tags)?;
        let mut changes = Changes::new();
        changes.put(found.with_tags(tags));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// TagResource.
pub(super) async fn tag(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = TagResource::decode(members)?;
    change(api, caller, &request.resource_arn, |tags| {
        tags.merge(request.tags.clone()).map_err(|error| ApiError::InvalidParameter(error.to_string()))
    })
    .await
}

/// UntagResource.
pub(super) async fn untag(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UntagResource::decode(members)?;
    change(api, caller, &request.resource_arn, |tags| {
        request.keys.iter().for_each(|key| tags.remove(key));
        Ok(())
    })
    .await
}

/// ListTagsForResource.
pub(super) fn list(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("resourceArn")?;
    let found = Tagged::find(&api.store.snapshot(), caller, &arn)?;
    Ok(list_tags_for_resource(found.tags()))
}
