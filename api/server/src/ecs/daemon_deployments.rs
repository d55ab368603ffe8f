//! Deployments and revisions of daemons: those of the services they are.

use std::cmp::Reverse;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::daemon::{self as wire, ListDaemonDeployments};
use coracle_protocol::ecs::service_deployment::arns;
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, JsonMap, Resource, ServiceDeployment, Timestamp};
use serde_json::Value;

use super::daemons::find;
use super::service_deployments::{of_service, tasks};
use crate::api::{Api, Caller};

fn invalid(given: &str) -> ApiError {
    let shown: String = given.chars().take(300).collect();
    ApiError::InvalidParameter(format!("Invalid identifier: {shown:?} is not the ARN of a daemon's."))
}

/// ListDaemonDeployments: the newest first.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListDaemonDeployments::decode(members)?;
    let state = api.store.snapshot();
    // Alone among the actions on daemons, this one has no error for a daemon that is not there.
    let service = find(&state, caller, &request.arn).map_err(|error| match error {
        ApiError::DaemonNotFound => ApiError::InvalidParameter(error.to_string()),
        other => other,
    })?;
    let mut wanted: Vec<&ServiceDeployment> = of_service(&state, &service.id)
        .filter(|record| {
            let status = wire::deployment_status(record);
            (request.statuses.is_empty() || request.statuses.iter().any(|wanted| wanted == status))
                && request.before.is_none_or(|before| record.created_at < before)
                && request.after.is_none_or(|after| record.created_at > after)
        })
        .collect();
    let key = |record: &ServiceDeployment| (Reverse(record.created_at), record.id.key);
    wanted.sort_by_key(|record| key(record));
    let page = request.page.of(
        "daemonDeployments",
        wanted,
        |record| key(record),
        |(created, key)| format!("{} {key}", created.0.as_millis()),
        |text| {
            let (created, key) = text.split_once(' ')?;
            Some((Reverse(Timestamp(created.parse().ok()?)), key.parse().ok()?))
        },
    )?;
    let shown = page.items.into_iter().map(|record| wire::deployment_summary(api.account(), record));
    Ok(wire::page_of("daemonDeployments", shown.collect(), page.next))
}

/// DescribeDaemonDeployments.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for arn in arns(members, "daemonDeploymentArns")? {
        let id = match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::ServiceDeployment(id)) if id.service.name.daemon().is_some() => id,
            _ => return Err(invalid(&arn)),
        };
        let found = state.service_deployments.get(&id);
        let Some(found) = found.filter(|_| id.service.cluster.region == caller.region) else {
            failures.push(Failure::missing(arn));
            continue;
        };
        let record = &*found.value;
        let none = JsonMap::new();
        let revision = state.service_revisions.get(&record.target);
        let rest = revision.map_or(&none, |found| &found.value.deployment_rest);
        shown.push(wire::deployment(api.account(), record, rest, |revision| {
            tasks(&state, record, revision).0.running
        }));
    }
    Ok(wire::found_of("daemonDeployments", shown, failures))
}

/// DescribeDaemonRevisions.
pub(super) fn describe_revisions(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for arn in arns(members, "daemonRevisionArns")? {
        let id = match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::ServiceRevision(id)) if id.service.name.daemon().is_some() => id,
            _ => return Err(invalid(&arn)),
        };
        match state.service_revisions.get(&id).filter(|_| id.service.cluster.region == caller.region) {
            Some(found) => shown.push(wire::revision(api.account(), &found.value)),
            None => failures.push(Failure::missing(arn)),
        }
    }
    Ok(wire::found_of("daemonRevisions", shown, failures))
}
