//! Giving a deployment up: the circuit breaker, alarms, StopServiceDeployment, and the way back.
//!
//! ```text
//! IN_PROGRESS ─ threshold reached ──▶ FAILED ─┬ rollback wanted, something to go back to ─▶ a deployment of that
//!             ─ an alarm goes off ──▶        ─┤
//!             ─ ROLLBACK requested ─▶        ─┘
//!             ─ ABORT requested ────▶ FAILED, and everything stays as it is
//! ```

use coracle_types::{
    DeploymentId, DeploymentStatus, MonitorStatus, RolloutState, Service, ServiceDeploymentStatus, State,
    StopType,
};

use super::draft::Draft;
use super::traffic;
use crate::alarms;
use crate::bounds::failure_threshold;
use crate::deployment::{GoingBack, NewDeployment, Why, go_back, in_progress_reason, rolling_back};
use crate::plan::Pass;
use crate::reason::Reason;

const STOPPED_REASON: &str = "Service deployment stopped by StopServiceDeployment.";

/// Gives the PRIMARY deployment up if its tasks keep failing, or if somebody asked for it. Says whether it did;
/// the rest is for the next plan, which sees what is PRIMARY then.
pub(super) fn if_necessary(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    heed_request(pass, draft) || heed_alarms(pass, draft) || trip_breaker(pass, draft)
}

fn heed_request(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    let Some(stop) = draft.record().filter(|record| !record.status.is_over()).and_then(|record| record.stop)
    else {
        return false;
    };
    match stop {
        StopType::Rollback => roll_back(pass, draft, Why::Request),
        StopType::Abort => {
            draft.primary(pass.now).rollout_state = RolloutState::Failed;
            draft.primary(pass.now).rollout_state_reason = STOPPED_REASON.to_owned();
            end_record(pass, draft, STOPPED_REASON);
        }
    }
    true
}

/// Gives a deployment up whose tasks keep failing, and brings the last completed one back if that is
/// wanted. Says whether it did.
fn trip_breaker(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    let service = draft.service();
    let Some(primary) = service.primary() else { return false };
    let breaker = service.deployment_configuration.circuit_breaker;
    let threshold = failure_threshold(service.desired_count, &breaker);
    if !breaker.enable
        || primary.rollout_state != RolloutState::InProgress
        || primary.failed_tasks < threshold
    {
        return false;
    }
    let (service, deployment) = (service.id.name.clone(), primary.id);
    let (count, now) = (primary.failed_tasks, pass.now);
    draft.edit_record(now, |record| {
        record.circuit_breaker = MonitorStatus::Triggered;
        (record.failure_count, record.failure_threshold) = (count, threshold);
    });
    draft.say(pass, Reason::Failed { service, deployment });
    if breaker.rollback {
        roll_back(pass, draft, Why::Breaker);
    } else {
        fail(pass, draft, Why::Breaker);
    }
    true
}

/// Gives a deployment up one of whose alarms has gone off. Says whether it did.
fn heed_alarms(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    let Some(record) = draft.record().filter(|record| !record.status.is_over()) else { return false };
    // On the way back there is nothing to go back to.
    if record.alarms != MonitorStatus::Monitoring || record.rollback.is_some() {
        return false;
    }
    let watched = record.configuration.alarms();
    let triggered = alarms::gone_off(pass.state, draft.service(), &watched);
    let Some(deployment) = draft.service().primary().map(|primary| primary.id) else { return false };
    if triggered.is_empty() {
        return false;
    }
    draft.edit_record(pass.now, |record| {
        record.alarms = MonitorStatus::Triggered;
        record.triggered_alarms = triggered;
    });
    let service = draft.service().id.name.clone();
    draft.say(pass, Reason::AlarmDetected { service, deployment });
    if watched.rollback {
        roll_back(pass, draft, Why::Alarm);
    } else {
        fail(pass, draft, Why::Alarm);
    }
    true
}

/// Ends the PRIMARY deployment as FAILED and goes back to what was before, if there is such a thing.
pub(super) fn roll_back(pass: &mut Pass<'_>, draft: &mut Draft<'_>, why: Why) {
    if super::shifts(draft) && restore(pass, draft, why) {
        return;
    }
    let Some((new, mut going)) = last_completed(pass.state, draft.service()) else {
        return fail(pass, draft, why);
    };
    let now = pass.now;
    let revision = going.revision.clone();
    draft.edit_record(now, |record| *record = rolling_back(record, revision, why.reason().to_owned(), now));
    going.record = draft.record().map(|record| record.id.clone());
    draft.primary(now).rollout_state = RolloutState::Failed;
    let failed = draft.service().primary().map(|primary| primary.id);
    let to = go_back(draft.edit(), new, going, now, pass.rng);
    note_failed(draft, failed, to, why);
    let service = draft.service().id.name.clone();
    draft.say(pass, Reason::RollingBack { service, deployment: to });
}

/// Makes the deployment whose tasks still run beside the new ones PRIMARY again, with all traffic. Says whether
/// there is one.
fn restore(pass: &mut Pass<'_>, draft: &mut Draft<'_>, why: Why) -> bool {
    let Some(source) = source(draft.service()).map(|source| source.id) else { return false };
    let now = pass.now;
    traffic::shift(pass, draft, Some(0.0), Some(0.0));
    draft.primary(now).rollout_state = RolloutState::Failed;
    let service = draft.edit();
    let failed = service.primary().map(|primary| primary.id);
    let record = service.primary().and_then(|primary| primary.service_deployment.clone());
    let Some(place) = service.deployments.iter().position(|one| one.id == source) else { return false };
    let mut restored = service.deployments.remove(place);
    for other in &mut service.deployments {
        other.status = DeploymentStatus::Active;
        other.updated_at = now;
    }
    restored.status = DeploymentStatus::Primary;
    restored.rollout_state = RolloutState::InProgress;
    restored.rollout_state_reason = in_progress_reason(source);
    restored.failed_tasks = 0;
    restored.service_deployment = record;
    restored.desired_count = service.desired_count;
    restored.updated_at = now;
    service.task_definition = restored.task_definition.clone();
    service.launch_type = restored.launch_type;
    let revision = restored.revision.clone();
    service.deployments.insert(0, restored);
    service.steady = false;
    service.backoff = coracle_types::LaunchBackoff::default();
    note_failed(draft, failed, source, why);
    draft.edit_record(now, |record| *record = rolling_back(record, revision, why.reason().to_owned(), now));
    let service = draft.service().id.name.clone();
    draft.say(pass, Reason::RollingBack { service, deployment: source });
    true
}

/// The deployment production traffic comes from: the last one that completed, if its tasks are still there.
pub(super) fn source(service: &Service) -> Option<&coracle_types::Deployment> {
    let mut others = service.deployments.iter().filter(|one| one.status == DeploymentStatus::Active);
    others.find(|one| one.rollout_state == RolloutState::Completed)
}

fn note_failed(draft: &mut Draft<'_>, failed: Option<DeploymentId>, to: DeploymentId, why: Why) {
    if let Some(failed) = draft.edit().deployments.iter_mut().find(|one| Some(one.id) == failed) {
        failed.rollout_state_reason = why.rolling_back(to);
    }
}

/// Ends the PRIMARY deployment as FAILED, with nothing in its place.
fn fail(pass: &mut Pass<'_>, draft: &mut Draft<'_>, why: Why) {
    let primary = draft.primary(pass.now);
    primary.rollout_state = RolloutState::Failed;
    why.reason().clone_into(&mut primary.rollout_state_reason);
    end_record(pass, draft, why.reason());
}

/// Ends the record of a deployment that will not get any further.
pub(super) fn end_record(pass: &Pass<'_>, draft: &mut Draft<'_>, reason: &str) {
    let now = pass.now;
    draft.edit_record(now, |record| {
        record.status = match record.status {
            ServiceDeploymentStatus::RollbackRequested | ServiceDeploymentStatus::RollbackInProgress => {
                ServiceDeploymentStatus::RollbackFailed
            }
            _ => ServiceDeploymentStatus::Stopped,
        };
        record.status_reason = Some(reason.to_owned());
        record.stop = None;
        record.stopped_at = Some(now);
    });
}

/// What the last completed deployment brought, as something to go back to. None when that is what the PRIMARY
/// deployment brings, or its definition is gone.
fn last_completed(state: &State, service: &Service) -> Option<(NewDeployment, GoingBack)> {
    let primary = service.primary()?;
    let task_definition = service.last_completed.clone()?;
    if !state.task_definitions.contains_key(&task_definition) {
        return None;
    }
    let revision = service.last_completed_revision.as_ref();
    let same = match (revision, &primary.revision) {
        (Some(revision), Some(current)) => revision == current,
        _ => task_definition == primary.task_definition,
    };
    if same {
        return None;
    }
    let completed = service.deployments.iter().find(|one| one.rollout_state == RolloutState::Completed);
    let like = completed.unwrap_or(primary);
    let recorded = revision.and_then(|id| state.service_revisions.get(id)).map(|found| &found.value);
    let new = NewDeployment {
        task_definition,
        launch_type: recorded.map_or(like.launch_type, |recorded| recorded.launch_type),
        desired_count: service.desired_count,
        rest: recorded.map_or_else(|| like.rest.clone(), |recorded| recorded.deployment_rest.clone()),
    };
    let going = GoingBack {
        record: None,
        revision: revision.cloned(),
        alternate: recorded.map_or(like.alternate, |recorded| recorded.alternate),
    };
    Some((new, going))
}
