//! What requests name things by: short names or ARNs, in the region of the request.
//!
//! The account in an ARN is not looked at: people shorten and invent it, and there is only one.

use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_types::{
    Arn, Cluster, ClusterId, ClusterName, ClusterStatus, Family, NodeId, Region, Resource, Service,
    ServiceId, State, Task, TaskDefinition, TaskDefinitionId, TaskDefinitionStatus, TaskId, TaskKey,
};

use crate::api::Caller;

/// The cluster a name or ARN means; without one, `default`. Says nothing about whether it exists.
///
/// # Errors
/// When it can't be the name or ARN of a cluster of this region.
pub(super) fn cluster_id(caller: &Caller, given: Option<&str>) -> Result<ClusterId, ApiError> {
    let name = match given {
        None | Some("") => ClusterName::default_cluster(),
        Some(arn) if arn.starts_with("arn:") => match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::Cluster(cluster)) if cluster.region == caller.region => return Ok(cluster),
            Ok(Resource::Cluster(_)) => return Err(ApiError::ClusterNotFound),
            _ => return Err(invalid("cluster", arn)),
        },
        Some(name) => name.parse().map_err(|error| ApiError::InvalidParameter(format!("{error}")))?,
    };
    Ok(ClusterId { region: caller.region.clone(), name })
}

/// An ACTIVE cluster.
///
/// # Errors
/// `ClusterNotFoundException` when there is none of that name.
pub(super) fn active_cluster(state: &State, id: &ClusterId) -> Result<Arc<Cluster>, ApiError> {
    state
        .clusters
        .get(id)
        .map(|found| &found.value)
        .filter(|cluster| cluster.status == ClusterStatus::Active)
        .cloned()
        .ok_or(ApiError::ClusterNotFound)
}

/// The ACTIVE cluster a request is about.
///
/// # Errors
/// When it can't be a cluster, or there is none of that name.
pub(super) fn cluster(state: &State, caller: &Caller, given: Option<&str>) -> Result<ClusterId, ApiError> {
    let id = cluster_id(caller, given)?;
    active_cluster(state, &id)?;
    Ok(id)
}

fn invalid(kind: &str, given: &str) -> ApiError {
    let shown: String = given.chars().take(300).collect();
    ApiError::InvalidParameter(format!("Invalid identifier: {shown:?} is not the name or ARN of a {kind}."))
}

/// Whether an ARN that names a cluster belongs to the one the request is about.
fn same_cluster(named: &ClusterId, asked: &ClusterId) -> Result<(), ApiError> {
    if named == asked {
        return Ok(());
    }
    let (named, asked) = if named.name == asked.name {
        (format!("region {}", named.region), format!("region is {}", asked.region))
    } else {
        (format!("cluster {}", named.name), format!("cluster is {}", asked.name))
    };
    Err(ApiError::InvalidParameter(format!("Identifier is for {named}. Your {asked}")))
}

/// Whether an ARN is of the old kind, which names no cluster.
fn is_short(arn: &str) -> bool {
    arn.rsplit(':').next().is_some_and(|resource| resource.matches('/').count() == 1)
}

/// The service of `cluster` a name or ARN means.
///
/// # Errors
/// When it can't be a service of this cluster.
pub(super) fn service_id(cluster: &ClusterId, given: &str) -> Result<ServiceId, ApiError> {
    let id = any_service_id(cluster, given)?;
    if id.name.daemon().is_some() { Err(invalid("service", given)) } else { Ok(id) }
}

fn any_service_id(cluster: &ClusterId, given: &str) -> Result<ServiceId, ApiError> {
    if given.starts_with("arn:") {
        let Ok(Arn { resource: Resource::Service(service), .. }) = given.parse::<Arn>() else {
            return Err(invalid("service", given));
        };
        if is_short(given) {
            return Ok(ServiceId { cluster: cluster.clone(), name: service.name });
        }
        same_cluster(&service.cluster, cluster)?;
        return Ok(service);
    }
    let name = given.parse().map_err(|error| ApiError::InvalidParameter(format!("{error}")))?;
    Ok(ServiceId { cluster: cluster.clone(), name })
}

/// A service of `cluster`, whatever its status.
///
/// # Errors
/// `ServiceNotFoundException` when there is none.
pub(super) fn service(state: &State, cluster: &ClusterId, given: &str) -> Result<Arc<Service>, ApiError> {
    let id = service_id(cluster, given)?;
    state.services.get(&id).map(|found| Arc::clone(&found.value)).ok_or(ApiError::ServiceNotFound)
}

/// The key of the task of `cluster` an id or ARN means.
///
/// # Errors
/// When it can't be a task of this cluster.
pub(super) fn task_key(cluster: &ClusterId, given: &str) -> Result<TaskKey, ApiError> {
    if given.starts_with("arn:") {
        let Ok(Arn { resource: Resource::Task(named, id), .. }) = given.parse::<Arn>() else {
            return Err(invalid("task", given));
        };
        if !is_short(given) {
            same_cluster(&named, cluster)?;
        }
        return Ok(TaskKey { cluster: cluster.clone(), id });
    }
    // Dashes were allowed in ids once, and SDK examples still have them.
    let plain = given.replace('-', "");
    if plain.len() != 32 {
        return Err(ApiError::InvalidParameter("taskId length should be one of [32,36]".to_owned()));
    }
    let id: TaskId = plain.parse().map_err(|error| ApiError::InvalidParameter(format!("{error}")))?;
    Ok(TaskKey { cluster: cluster.clone(), id })
}

/// A task by its key.
pub(super) fn task(state: &State, key: &TaskKey) -> Option<Arc<Task>> {
    state.tasks.get(key).map(|found| Arc::clone(&found.value))
}

/// The node an id or ARN means.
///
/// # Errors
/// When it can't be a container instance.
pub(super) fn node_id(cluster: &ClusterId, given: &str) -> Result<NodeId, ApiError> {
    if given.starts_with("arn:") {
        let Ok(Arn { resource: Resource::ContainerInstance(named, id), .. }) = given.parse::<Arn>() else {
            return Err(invalid("container instance", given));
        };
        if !is_short(given) {
            same_cluster(&named, cluster)?;
        }
        return Ok(id);
    }
    given.replace('-', "").parse().map_err(|error| ApiError::InvalidParameter(format!("{error}")))
}

/// A task definition as requests name one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefinitionName {
    pub(super) family: Family,
    /// None means the latest ACTIVE one.
    pub(super) revision: Option<u32>,
}

/// Reads `family`, `family:revision` or an ARN.
///
/// # Errors
/// `ClientException` when it is none of them, or of another region.
pub(super) fn definition_name(region: &Region, given: &str) -> Result<DefinitionName, ApiError> {
    let malformed = || {
        let shown: String = given.chars().take(300).collect();
        ApiError::Client(format!(
            "{shown:?} is not a task definition: family, family:revision or an ARN is expected"
        ))
    };
    let name = if given.starts_with("arn:") {
        let mut parts = given.splitn(6, ':').skip(2);
        let is_ours = parts.next() == Some("ecs") && parts.next() == Some(region.as_str());
        let resource = parts.nth(1).and_then(|resource| resource.strip_prefix("task-definition/"));
        resource.filter(|_| is_ours).ok_or_else(malformed)?
    } else {
        given
    };
    let (family, revision) = match name.split_once(':') {
        None => (name, None),
        Some((family, revision)) => {
            let revision: u32 = revision.parse().map_err(|_| {
                let shown: String = revision.chars().take(100).collect();
                ApiError::Client(format!("Invalid revision number. Number: {shown}"))
            })?;
            (family, Some(revision))
        }
    };
    Ok(DefinitionName { family: family.parse().map_err(|_| malformed())?, revision })
}

/// The task definition a name means; without a revision, the latest ACTIVE one.
pub(super) fn definition(
    state: &State,
    region: &Region,
    name: &DefinitionName,
) -> Option<Arc<TaskDefinition>> {
    let id = |revision| TaskDefinitionId { region: region.clone(), family: name.family.clone(), revision };
    match name.revision {
        Some(revision) => state.task_definitions.get(&id(revision)).map(|found| Arc::clone(&found.value)),
        None => state
            .task_definitions
            .range(id(0)..=id(u32::MAX))
            .rev()
            .map(|(_, found)| &found.value)
            .find(|definition| definition.status == TaskDefinitionStatus::Active)
            .cloned(),
    }
}

/// The ACTIVE task definition a name means, to start tasks of.
///
/// # Errors
/// `ClientException` when there is none, or it is not ACTIVE.
pub(super) fn active_definition(
    state: &State,
    region: &Region,
    given: &str,
) -> Result<Arc<TaskDefinition>, ApiError> {
    let name = definition_name(region, given)?;
    let found = definition(state, region, &name)
        .filter(|found| found.id.family.daemons().is_none())
        .ok_or_else(|| ApiError::Client("TaskDefinition not found.".to_owned()))?;
    if found.status == TaskDefinitionStatus::Active {
        Ok(found)
    } else {
        Err(ApiError::Client("TaskDefinition is inactive".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller::root("us-east-1".parse().unwrap())
    }

    fn prod() -> ClusterId {
        cluster_id(&caller(), Some("prod")).unwrap()
    }

    #[test]
    fn clusters_go_by_name_arn_or_nothing() {
        assert_eq!(cluster_id(&caller(), None).unwrap().name.as_str(), "default");
        assert_eq!(cluster_id(&caller(), Some("arn:aws:ecs:us-east-1:1:cluster/prod")), Ok(prod()));
        assert_eq!(
            cluster_id(&caller(), Some("arn:aws:ecs:eu-west-1:1:cluster/prod")),
            Err(ApiError::ClusterNotFound)
        );
        for bad in ["a b", "arn:aws:ecs:us-east-1:1:service/prod/web", "arn:x"] {
            assert!(matches!(cluster_id(&caller(), Some(bad)), Err(ApiError::InvalidParameter(_))), "{bad}");
        }
    }

    #[test]
    fn services_and_tasks_belong_to_the_requests_cluster() {
        let web = service_id(&prod(), "web").unwrap();
        for arn in ["arn:aws:ecs:us-east-1:1:service/prod/web", "arn:aws:ecs:us-east-1:1:service/web"] {
            assert_eq!(service_id(&prod(), arn), Ok(web.clone()), "{arn}");
        }
        assert_eq!(
            service_id(&prod(), "arn:aws:ecs:us-east-1:1:service/test/web"),
            Err(ApiError::InvalidParameter("Identifier is for cluster test. Your cluster is prod".into()))
        );
        assert_eq!(
            service_id(&prod(), "arn:aws:ecs:eu-west-1:1:service/prod/web"),
            Err(ApiError::InvalidParameter(
                "Identifier is for region eu-west-1. Your region is us-east-1".into()
            ))
        );
        let id = "0123456789abcdef0123456789abcdef";
        let task = task_key(&prod(), id).unwrap();
        assert_eq!(task_key(&prod(), &format!("arn:aws:ecs:us-east-1:1:task/{id}")), Ok(task.clone()));
        assert_eq!(task_key(&prod(), &format!("arn:aws:ecs:us-east-1:1:task/prod/{id}")), Ok(task.clone()));
        assert_eq!(task_key(&prod(), "01234567-89ab-cdef-0123-456789abcdef"), Ok(task));
        assert!(task_key(&prod(), "abc").is_err());
    }

    #[test]
    fn task_definitions_go_by_three_names() {
        let region: Region = "us-east-1".parse().unwrap();
        let name = |text| definition_name(&region, text);
        assert_eq!(name("web").unwrap().revision, None);
        assert_eq!(name("web:3").unwrap().revision, Some(3));
        assert_eq!(name("arn:aws:ecs:us-east-1:1:task-definition/web:3"), name("web:3"));
        assert_eq!(name("arn:aws:ecs:us-east-1:1:task-definition/web"), name("web"));
        for bad in ["web:x", "a/b", "arn:aws:ecs:eu-west-1:1:task-definition/web:3", "arn:aws:s3:::web"] {
            assert!(matches!(name(bad), Err(ApiError::Client(_))), "{bad}");
        }
    }
}
