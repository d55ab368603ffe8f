//! Service deployments and revisions. The scheduler writes them; here people look at them, and ask it to stop
//! or to go on.

use std::cmp::Reverse;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::service::TaskCounts;
use coracle_protocol::ecs::service_deployment::{
    self as wire, ContinueServiceDeployment, ListServiceDeployments, StopServiceDeployment,
};
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, Changes, DeploymentId, HookStatus, Resource, ServiceDeployment, ServiceDeploymentId,
    ServiceDeploymentKey, ServiceDeploymentStatus, ServiceId, ServiceRevisionId, State, Timestamp,
};
use serde_json::Value;

use super::reference;
use super::services::counts_of;
use crate::api::{Api, Caller};

/// The service deployment an ARN names.
fn id(caller: &Caller, arn: &str) -> Result<ServiceDeploymentId, ApiError> {
    match arn.parse::<Arn>().map(|arn| arn.resource) {
        Ok(Resource::ServiceDeployment(id))
            if id.service.cluster.region == caller.region && id.service.name.daemon().is_none() =>
        {
            Ok(id)
        }
        Ok(Resource::ServiceDeployment(_)) => Err(ApiError::ServiceDeploymentNotFound),
        _ => Err(invalid("service deployment", arn)),
    }
}

fn invalid(kind: &str, given: &str) -> ApiError {
    let shown: String = given.chars().take(300).collect();
    ApiError::InvalidParameter(format!("Invalid identifier: {shown:?} is not the ARN of a {kind}."))
}

/// The service deployments of a service, in no order that means anything.
pub(super) fn of_service<'a>(
    state: &'a State,
    service: &ServiceId,
) -> impl Iterator<Item = &'a ServiceDeployment> + use<'a> {
    let first = ServiceDeploymentId { service: service.clone(), key: ServiceDeploymentKey::from_random(0) };
    let service = service.clone();
    let from_there = state.service_deployments.range(first..).map(|(_, found)| &*found.value);
    from_there.take_while(move |record| record.id.service == service)
}

/// ListServiceDeployments: the newest first.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListServiceDeployments::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let service = reference::service(&state, &cluster, &request.service)?;
    let mut wanted: Vec<&ServiceDeployment> = of_service(&state, &service.id)
        .filter(|record| request.wants(record.status.name(), record.created_at))
        .collect();
    let key = |record: &ServiceDeployment| (Reverse(record.created_at), record.id.key);
    wanted.sort_by_key(|record| key(record));
    let page = request.page.of(
        "serviceDeployments",
        wanted,
        |record| key(record),
        |(created, key)| format!("{} {key}", created.0.as_millis()),
        |text| {
            let (created, key) = text.split_once(' ')?;
            Some((Reverse(Timestamp(created.parse().ok()?)), key.parse().ok()?))
        },
    )?;
    let shown = page.items.into_iter().map(|record| wire::brief(api.account(), record));
    Ok(wire::list_service_deployments(shown.collect(), page.next))
}

/// DescribeServiceDeployments.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for arn in wire::arns(members, "serviceDeploymentArns")? {
        let found = match id(caller, &arn) {
            Ok(id) => state.service_deployments.get(&id),
            Err(ApiError::ServiceDeploymentNotFound) => None,
            Err(error) => return Err(error),
        };
        match found {
            Some(found) => {
                let counts = |revision: &ServiceRevisionId| tasks(&state, &found.value, revision);
                shown.push(wire::service_deployment(api.account(), &found.value, counts));
            }
            None => failures.push(Failure::missing(arn)),
        }
    }
    Ok(wire::describe_service_deployments(shown, failures))
}

/// The tasks of one of the revisions a deployment is about, and how many there should be.
pub(super) fn tasks(
    state: &State,
    record: &ServiceDeployment,
    revision: &ServiceRevisionId,
) -> (TaskCounts, u32) {
    let service = state.services.get(&record.id.service);
    let of_revision = service.and_then(|found| {
        let mut deployments = found.value.deployments.iter();
        let found = deployments.find(|one| one.revision.as_ref() == Some(revision));
        found.map(|one| (one.id, one.desired_count))
    });
    let (id, requested): (DeploymentId, u32) = match of_revision {
        Some(found) => found,
        None if *revision == record.target => (record.deployment, record.requested_tasks),
        None => return (TaskCounts::default(), 0),
    };
    let counts = counts_of(state, &record.id.service).get(&id).copied().unwrap_or_default();
    (counts, requested)
}

/// DescribeServiceRevisions.
pub(super) fn describe_revisions(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for arn in wire::arns(members, "serviceRevisionArns")? {
        let id = match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::ServiceRevision(id)) => id,
            _ => return Err(invalid("service revision", &arn)),
        };
        let found = state.service_revisions.get(&id).filter(|_| id.service.cluster.region == caller.region);
        match found {
            Some(found) => {
                let digest = |name: &str| digest(&state, &found.value.id, name);
                shown.push(wire::service_revision(api.account(), &found.value, digest));
            }
            None => failures.push(Failure::missing(arn)),
        }
    }
    Ok(wire::describe_service_revisions(shown, failures))
}

/// What a container of a revision runs, if a task of it was seen to run it.
fn digest(state: &State, revision: &ServiceRevisionId, name: &str) -> Option<String> {
    let service = state.services.get(&revision.service)?;
    let deployments = service.value.deployments.iter();
    let deployment = deployments.into_iter().find(|one| one.revision.as_ref() == Some(revision))?.id;
    let tasks = state.tasks_of(&revision.service);
    let containers =
        tasks.filter(|task| task.deployment == Some(deployment)).flat_map(|task| &task.containers);
    containers.into_iter().find(|one| one.name.as_str() == name).and_then(|one| one.image_digest.clone())
}

/// Changes a service deployment that is not over.
async fn change(
    api: &Api,
    caller: &Caller,
    arn: &str,
    edit: impl Fn(&mut ServiceDeployment) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    let id = id(caller, arn)?;
    let (_, record) = api
        .transact(|state| {
            let found = state.service_deployments.get(&id).ok_or(ApiError::ServiceDeploymentNotFound)?;
            let mut record = ServiceDeployment::clone(&found.value);
            edit(&mut record)?;
            record.updated_at = api.now();
            let mut changes = Changes::new();
            changes.put(record.clone());
            Ok((changes, record))
        })
        .await?;
    Ok(wire::arn_of(api.account(), &record))
}

/// StopServiceDeployment.
pub(super) async fn stop(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = StopServiceDeployment::decode(members)?;
    change(api, caller, &request.arn, |record| {
        let under_way =
            matches!(record.status, ServiceDeploymentStatus::Pending | ServiceDeploymentStatus::InProgress);
        if !under_way {
            return Err(ApiError::Conflict {
                message: format!(
                    "The service deployment cannot be stopped because it is {}.",
                    record.status.name()
                ),
                resource_ids: Vec::new(),
            });
        }
        record.stop = Some(request.stop);
        record.status = wire::requested(request.stop);
        Ok(())
    })
    .await
}

/// ContinueServiceDeployment.
pub(super) async fn go_on(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ContinueServiceDeployment::decode(members)?;
    change(api, caller, &request.arn, |record| {
        let waiting = record
            .hooks
            .iter_mut()
            .find(|hook| hook.id == request.hook && hook.status == HookStatus::AwaitingAction);
        let hook = waiting.ok_or_else(|| {
            ApiError::InvalidParameter(format!(
                "The service deployment does not wait for the hook {:?}.",
                request.hook.chars().take(300).collect::<String>()
            ))
        })?;
        hook.status = if request.go_on { HookStatus::Succeeded } else { HookStatus::Failed };
        Ok(())
    })
    .await
}
