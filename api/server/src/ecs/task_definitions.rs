//! Task definitions.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task_definition::{
    self as wire, BYTES_MAX, DescribeTaskDefinition, ListTaskDefinitionFamilies, ListTaskDefinitions,
    RegisterTaskDefinition, delete_task_definitions,
};
use coracle_protocol::{ApiError, Members, Object, Page};
use coracle_types::{
    Arn, Changes, Family, FamilyId, FamilyRecord, Key, LastStatus, Resource, ServiceStatus, State,
    TaskDefinition, TaskDefinitionId, TaskDefinitionStatus,
};
use serde_json::Value;

use super::reference::{definition, definition_name};
use super::token::Fingerprint;
use super::validate::validate;
use crate::api::{Api, Caller};

/// RegisterTaskDefinition.
pub(super) async fn register(
    api: &Api,
    caller: &Caller,
    members: Members,
    fingerprint: &Fingerprint,
) -> Result<Value, ApiError> {
    if fingerprint.bytes > BYTES_MAX {
        return Err(ApiError::Client(format!(
            "Actual length: '{}'. Max allowed length is '{BYTES_MAX}' bytes.",
            fingerprint.bytes
        )));
    }
    let request = RegisterTaskDefinition::decode(members)?;
    let registered = register_revision(api, caller, request).await?;
    Ok(wire::one(api.account(), &registered, true))
}

/// Adds a revision to its family, if it makes sense as a whole.
pub(super) async fn register_revision(
    api: &Api,
    caller: &Caller,
    request: RegisterTaskDefinition,
) -> Result<TaskDefinition, ApiError> {
    validate(&request)?;
    let family = FamilyId { region: caller.region.clone(), family: request.family.clone() };
    let (_, registered) = api
        .transact(|state| {
            let latest = state.families.get(&family).map_or(0, |found| found.value.latest);
            let revision = latest
                .checked_add(1)
                .ok_or_else(|| ApiError::Client("The family has used up its revisions.".to_owned()))?;
            let registered = TaskDefinition {
                id: TaskDefinitionId {
                    region: caller.region.clone(),
                    family: request.family.clone(),
                    revision,
                },
                status: TaskDefinitionStatus::Active,
                registered_at: api.now(),
                deregistered_at: None,
                cpu: request.cpu,
                memory: request.memory,
                network_mode: request.network_mode,
                requires_compatibilities: request.requires_compatibilities.clone(),
                containers: request.containers.clone(),
                volumes: request.volumes.clone(),
                tags: request.tags.clone(),
                rest: request.rest.clone(),
            };
            let mut changes = Changes::new();
            changes.put(FamilyRecord { id: family.clone(), latest: revision });
            changes.put(registered.clone());
            Ok((changes, registered))
        })
        .await?;
    Ok(registered)
}

fn unable_to_describe() -> ApiError {
    ApiError::Client("Unable to describe task definition.".to_owned())
}

/// DescribeTaskDefinition.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeTaskDefinition::decode(members)?;
    let name = definition_name(&caller.region, &request.task_definition)?;
    let state = api.store.snapshot();
    let found = definition(&state, &caller.region, &name)
        .filter(|found| found.id.family.daemons().is_none())
        .ok_or_else(unable_to_describe)?;
    let with_tags = request.include.iter().any(|include| include == "TAGS");
    Ok(wire::one(api.account(), &found, with_tags))
}

/// ListTaskDefinitions.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListTaskDefinitions::decode(members)?;
    let state = api.store.snapshot();
    let wanted = state.task_definitions.values().map(|found| &found.value).filter(|definition| {
        let family = request.family_prefix.as_deref();
        definition.id.region == caller.region
            && definition.id.family.daemons().is_none()
            && definition.status == request.status
            && family.is_none_or(|family| definition.id.family.as_str() == family)
    });
    let wanted = wanted.map(|definition| definition.id.clone());
    let parse = |text: &str| {
        let name = definition_name(&caller.region, text).ok()?;
        Some(TaskDefinitionId {
            region: caller.region.clone(),
            family: name.family,
            revision: name.revision?,
        })
    };
    let page: Page<TaskDefinitionId> = if request.descending {
        // The key is turned round as well, so that "after" means further down the list.
        let mut wanted: Vec<TaskDefinitionId> = wanted.collect();
        wanted.reverse();
        let key = |id: &TaskDefinitionId| Reverse(id.clone());
        request.page.of(
            "taskDefinitionsDown",
            wanted,
            key,
            |id| id.0.to_string(),
            |text| parse(text).map(Reverse),
        )?
    } else {
        request.page.of("taskDefinitions", wanted, TaskDefinitionId::clone, ToString::to_string, parse)?
    };
    let arns =
        page.items.into_iter().map(|id| Arn::new(api.account(), Resource::TaskDefinition(id)).to_string());
    Ok(Object::new()
        .with("taskDefinitionArns", arns.collect::<Vec<_>>())
        .maybe("nextToken", page.next)
        .into())
}

/// ListTaskDefinitionFamilies.
pub(super) fn list_families(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListTaskDefinitionFamilies::decode(members)?;
    let state = api.store.snapshot();
    // Whether a family has an ACTIVE revision.
    let mut families: BTreeMap<&Family, bool> = BTreeMap::new();
    for found in state.task_definitions.values().filter(|found| found.value.id.region == caller.region) {
        let active = found.value.status == TaskDefinitionStatus::Active;
        *families.entry(&found.value.id.family).or_default() |= active;
    }
    let wanted = families.into_iter().filter(|(family, active)| {
        family.daemons().is_none()
            && family.as_str().starts_with(&request.family_prefix)
            && request.active.is_none_or(|wanted| wanted == *active)
    });
    let page = request.page.of_texts("families", wanted.map(|(family, _)| family.to_string()))?;
    Ok(Object::new().with("families", page.items).maybe("nextToken", page.next).into())
}

/// DeregisterTaskDefinition: what runs of it goes on.
pub(super) async fn deregister(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = definition_name(&caller.region, &wire::required(&mut members)?)?;
    if name.revision.is_none() {
        return Err(ApiError::Client("Revision is missing.".to_owned()));
    }
    let (_, deregistered) = api
        .transact(|state| {
            let found = definition(state, &caller.region, &name)
                .filter(|found| found.id.family.daemons().is_none())
                .ok_or_else(|| ApiError::Client("Unable to describe task definition.".to_owned()))?;
            let mut changes = Changes::new();
            let mut deregistered = TaskDefinition::clone(&found);
            if deregistered.status == TaskDefinitionStatus::Active {
                deregistered.status = TaskDefinitionStatus::Inactive;
                deregistered.deregistered_at = Some(api.now());
                changes.put(deregistered.clone());
            }
            Ok((changes, deregistered))
        })
        .await?;
    let answer = wire::task_definition(api.account(), &deregistered);
    Ok(Object::new().with("taskDefinition", answer).into())
}

/// DeleteTaskDefinitions: those nothing refers to are gone at once, the others stay until then.
pub(super) async fn delete(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let named = delete_task_definitions(members)?;
    let (_, (deleted, failures)) = api
        .transact(|state| {
            let (mut changes, mut deleted, mut failures) = (Changes::new(), Vec::new(), Vec::new());
            for given in &named {
                let fail = |reason: &str| Failure {
                    arn: Some(given.clone()),
                    reason: reason.to_owned(),
                    detail: None,
                };
                let name = definition_name(&caller.region, given)?;
                let found = name.revision.and_then(|_| definition(state, &caller.region, &name));
                let found = found.filter(|found| found.id.family.daemons().is_none());
                let Some(found) = found else {
                    failures.push(fail("The specified task definition does not exist. Specify a valid account, family, revision and try again."));
                    continue;
                };
                if found.status == TaskDefinitionStatus::Active {
                    failures.push(fail("The specified task definition is still in ACTIVE status. Please deregister the target and try again."));
                    continue;
                }
                let mut going = TaskDefinition::clone(&found);
                going.status = TaskDefinitionStatus::DeleteInProgress;
                deleted.push(wire::task_definition(api.account(), &going));
                if is_referred_to(state, &going.id) {
                    changes.put(going);
                } else {
                    changes.delete(Key::TaskDefinition(going.id));
                }
            }
            Ok((changes, (deleted, failures)))
        })
        .await?;
    Ok(wire::deleted(deleted, failures))
}

/// Whether a task or a service still needs a task definition.
pub(super) fn is_referred_to(state: &State, id: &TaskDefinitionId) -> bool {
    let mut tasks = state.tasks.values().map(|found| &found.value);
    let mut services = state.services.values().map(|found| &found.value);
    tasks.any(|task| task.last_status != LastStatus::Stopped && task.task_definition == *id)
        || services.any(|service| {
            service.status != ServiceStatus::Inactive
                && (service.task_definition == *id
                    || service.last_completed.as_ref() == Some(id)
                    || service.deployments.iter().any(|deployment| deployment.task_definition == *id))
        })
}
