//! Daemon task definitions: task definitions of families of their own, that nothing but a daemon runs.

use std::cmp::Reverse;
use std::sync::Arc;

use coracle_protocol::ecs::daemon_task_definition::{self as wire, ListDaemonTaskDefinitions};
use coracle_protocol::{ApiError, Members, Page};
use coracle_types::{
    Arn, Changes, Family, FamilyId, Key, Resource, State, TaskDefinition, TaskDefinitionId,
    TaskDefinitionStatus,
};
use serde_json::Value;

use super::reference::{DefinitionName, definition, definition_name};
use super::task_definitions::{is_referred_to, register_revision};
use crate::api::{Api, Caller};

/// Reads `family`, `family:revision` or an ARN.
fn name(caller: &Caller, given: &str) -> Result<DefinitionName, ApiError> {
    let malformed = || {
        let shown: String = given.chars().take(300).collect();
        ApiError::InvalidParameter(format!(
            "Invalid identifier: {shown:?} is not the name or ARN of a daemon task definition."
        ))
    };
    if given.starts_with("arn:") {
        return match given.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::TaskDefinition(id))
                if id.family.daemons().is_some() && id.region == caller.region =>
            {
                Ok(DefinitionName { family: id.family, revision: Some(id.revision) })
            }
            _ => Err(malformed()),
        };
    }
    let plain = definition_name(&caller.region, given).map_err(|_| malformed())?;
    let family = Family::of_daemons(plain.family.as_str()).map_err(|_| malformed())?;
    Ok(DefinitionName { family, revision: plain.revision })
}

fn not_found() -> ApiError {
    ApiError::Client("The specified daemon task definition does not exist.".to_owned())
}

/// The ACTIVE definition a name means, to start daemons of.
///
/// # Errors
/// When there is none, or it is being deleted.
pub(super) fn active_definition(
    state: &State,
    caller: &Caller,
    given: &str,
) -> Result<Arc<TaskDefinition>, ApiError> {
    let name = name(caller, given)?;
    definition(state, &caller.region, &name)
        .filter(|found| found.status == TaskDefinitionStatus::Active)
        .ok_or_else(not_found)
}

/// RegisterDaemonTaskDefinition.
pub(super) async fn register(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let registered = register_revision(api, caller, wire::register(members)?).await?;
    Ok(wire::arn_of(api.account(), &registered.id))
}

/// DescribeDaemonTaskDefinition.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = name(caller, &members.required_text("daemonTaskDefinition")?)?;
    let state = api.store.snapshot();
    if let Some(found) = definition(&state, &caller.region, &name) {
        return Ok(wire::describe(api.account(), &found));
    }
    let id = FamilyId { region: caller.region.clone(), family: name.family.clone() };
    let was_there = state.families.get(&id).map_or(0, |found| found.value.latest);
    match name.revision.filter(|revision| *revision <= was_there) {
        Some(revision) => {
            let id = TaskDefinitionId { region: caller.region.clone(), family: name.family, revision };
            Ok(wire::deleted(api.account(), &id))
        }
        None => Err(not_found()),
    }
}

/// ListDaemonTaskDefinitions.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListDaemonTaskDefinitions::decode(members)?;
    let state = api.store.snapshot();
    let is_last = |id: &TaskDefinitionId| {
        let family = FamilyId { region: id.region.clone(), family: id.family.clone() };
        state.families.get(&family).is_some_and(|found| found.value.latest == id.revision)
    };
    let all = state.task_definitions.values().map(|found| &found.value);
    let mut wanted: Vec<&Arc<TaskDefinition>> = all
        .filter(|one| {
            let Some(family) = one.id.family.daemons() else { return false };
            one.id.region == caller.region
                && family.starts_with(&request.prefix)
                && request.family.as_deref().is_none_or(|wanted| wanted == family)
                && request.status.is_none_or(|wanted| wanted == one.status)
                && (!request.last_only || is_last(&one.id))
        })
        .collect();
    let parse = |text: &str| {
        let name = definition_name(&caller.region, text).ok()?;
        Some(TaskDefinitionId {
            region: caller.region.clone(),
            family: name.family,
            revision: name.revision?,
        })
    };
    let page: Page<&Arc<TaskDefinition>> = if request.descending {
        wanted.reverse();
        request.page.of(
            "daemonTaskDefinitionsDown",
            wanted,
            |one| Reverse(one.id.clone()),
            |id| id.0.to_string(),
            |text| parse(text).map(Reverse),
        )?
    } else {
        request.page.of("daemonTaskDefinitions", wanted, |one| one.id.clone(), ToString::to_string, parse)?
    };
    let shown = page.items.into_iter().map(|one| wire::summary(api.account(), one));
    Ok(wire::list_definitions(shown.collect(), page.next))
}

/// DeleteDaemonTaskDefinition: daemons that run it go on; it is gone when none does.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = name(caller, &members.required_text("daemonTaskDefinition")?)?;
    if name.revision.is_none() {
        return Err(ApiError::InvalidParameter("The revision to delete has to be given.".to_owned()));
    }
    let (_, id) = api
        .transact(|state| {
            let found = definition(state, &caller.region, &name)
                .filter(|found| found.status == TaskDefinitionStatus::Active)
                .ok_or_else(not_found)?;
            let mut going = TaskDefinition::clone(&found);
            going.status = TaskDefinitionStatus::DeleteInProgress;
            going.deregistered_at = Some(api.now());
            let id = going.id.clone();
            let mut changes = Changes::new();
            if is_referred_to(state, &id) {
                changes.put(going);
            } else {
                changes.delete(Key::TaskDefinition(id.clone()));
            }
            Ok((changes, id))
        })
        .await?;
    Ok(wire::arn_of(api.account(), &id))
}
