//! Tags of any resource.

use coracle_protocol::ecs::tag::{TagResource, UntagResource, list_tags_for_resource, nothing};
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, CapacityProvider, CapacityProviderStatus, Changes, Cluster, ClusterStatus, LastStatus, Node,
    NodeStatus, Record, Resource, Service, ServiceStatus, State, Tags, Task, TaskDefinition,
    TaskDefinitionStatus, TaskKey,
};
use serde_json::Value;

use crate::api::{Api, Caller};

/// A copy of a resource that has tags.
enum Tagged {
    Cluster(Cluster),
    Service(Service),
    /// A service and the place of one of its task sets.
    TaskSet(Service, usize),
    TaskDefinition(TaskDefinition),
    Task(Task),
    Node(Node),
    CapacityProvider(CapacityProvider),
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
        if *parsed.resource.region() != caller.region {
            return Err(match parsed.resource {
                Resource::Cluster(_) => ApiError::ClusterNotFound,
                _ => over("resource"),
            });
        }
        match &parsed.resource {
            Resource::Cluster(id) => {
                let found = state.clusters.get(id).map(|found| Cluster::clone(&found.value));
                found
                    .filter(|cluster| cluster.status == ClusterStatus::Active)
                    .map(Self::Cluster)
                    .ok_or(ApiError::ClusterNotFound)
            }
            Resource::Service(id) => {
                let found = state.services.get(id).map(|found| Service::clone(&found.value));
                found
                    .filter(|service| service.status == ServiceStatus::Active)
                    .map(Self::Service)
                    .ok_or_else(|| over("service"))
            }
            Resource::TaskSet(service, id) => {
                let found = state.services.get(service).map(|found| Service::clone(&found.value));
                let found = found.filter(|service| service.status == ServiceStatus::Active);
                found
                    .and_then(|service| {
                        let at = service.task_sets.iter().position(|set| set.id == *id)?;
                        Some(Self::TaskSet(service, at))
                    })
                    .ok_or_else(|| over("task set"))
            }
            Resource::TaskDefinition(id) => {
                let found = state.task_definitions.get(id).map(|found| TaskDefinition::clone(&found.value));
                found
                    .filter(|one| one.status == TaskDefinitionStatus::Active)
                    .map(Self::TaskDefinition)
                    .ok_or_else(|| over("task definition"))
            }
            Resource::Task(cluster, id) => {
                let key = TaskKey { cluster: cluster.clone(), id: *id };
                let found = state.tasks.get(&key).map(|found| Task::clone(&found.value));
                found
                    .filter(|task| task.last_status != LastStatus::Stopped)
                    .map(Self::Task)
                    .ok_or_else(|| over("task"))
            }
            Resource::ContainerInstance(cluster, id) => {
                let found = state.nodes.get(id).map(|found| Node::clone(&found.value));
                found
                    .filter(|node| node.serves(cluster) && node.status != NodeStatus::Inactive)
                    .map(Self::Node)
                    .ok_or_else(|| over("container instance"))
            }
            Resource::CapacityProvider(id) => {
                let found = state.capacity_providers.get(id);
                found
                    .map(|found| CapacityProvider::clone(&found.value))
                    .filter(|provider| provider.status == CapacityProviderStatus::Active)
                    .map(Self::CapacityProvider)
                    .ok_or_else(|| over("capacity provider"))
            }
            Resource::Container(..) | Resource::ServiceDeployment(_) | Resource::ServiceRevision(_) => {
                Err(ApiError::InvalidParameter(
                    "Containers, service deployments and service revisions have no tags.".to_owned(),
                ))
            }
        }
    }

    fn tags(&mut self) -> &mut Tags {
        match self {
            Self::Cluster(cluster) => &mut cluster.tags,
            Self::Service(service) => &mut service.tags,
            Self::TaskSet(service, at) => &mut service.task_sets[*at].tags,
            Self::TaskDefinition(definition) => &mut definition.tags,
            Self::Task(task) => &mut task.tags,
            Self::Node(node) => &mut node.tags,
            Self::CapacityProvider(provider) => &mut provider.tags,
        }
    }

    fn into_record(self) -> Record {
        match self {
            Self::Cluster(cluster) => cluster.into(),
            Self::Service(service) | Self::TaskSet(service, _) => service.into(),
            Self::TaskDefinition(definition) => definition.into(),
            Self::Task(task) => task.into(),
            Self::Node(node) => node.into(),
            Self::CapacityProvider(provider) => provider.into(),
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
        let mut found = Tagged::find(state, caller, arn)?;
        edit(found.tags())?;
        let mut changes = Changes::new();
        changes.put(found.into_record());
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
    let mut found = Tagged::find(&api.store.snapshot(), caller, &arn)?;
    Ok(list_tags_for_resource(found.tags()))
}
