//! Keeping a service as it should be: how many tasks, of which deployment, which of them stop, and what
//! is said about it.
//!
//! ```text
//! ACTIVE   ─▶ unhealthy tasks stop ─▶ failures counted (back-off, circuit breaker) ─▶ roll ─▶ completed, steady
//! DRAINING ─▶ all tasks stop ─▶ INACTIVE when none is before STOPPING
//! ```

mod draft;
mod roll;

use std::time::Duration;

use coracle_types::{
    DeploymentId, LastStatus, MonitorStatus, RolloutState, SchedulingStrategy, Service,
    ServiceDeploymentStatus, ServiceStatus, State, StopCode, Task, TaskStop,
};

use self::draft::Draft;
use crate::backoff::{self, BackoffPolicy, Changed, Tally};
use crate::bounds::failure_threshold;
use crate::classify::{Context, Phase};
use crate::deployment::{
    FAILED_REASON, GoingBack, NewDeployment, go_back, rolling_back, rolling_back_reason,
};
use crate::plan::Pass;
use crate::reason::{Reason, UNHEALTHY_REASON, scaling_reason};

/// A service's task and the revision that wrote it.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) task: &'a Task,
    pub(crate) revision: u64,
}

/// A service's task and what it counts as.
#[derive(Clone, Copy)]
struct Classified<'a> {
    task: &'a Task,
    revision: u64,
    phase: Phase,
    /// Whether it belongs to the PRIMARY deployment.
    current: bool,
}

impl Classified<'_> {
    /// Whether it is RUNNING or on the way there, as `maximumPercent` counts: also when it has been
    /// told to stop and has not begun to.
    fn is_active(&self) -> bool {
        self.task.last_status <= LastStatus::Running
    }
}

/// Plans for one service; `members` are its tasks that are not lost.
pub(crate) fn reconcile(pass: &mut Pass<'_>, service: &Service, members: &[Member<'_>]) {
    match service.status {
        ServiceStatus::Active => reconcile_active(pass, service, members),
        ServiceStatus::Draining => drain(pass, service, members),
        ServiceStatus::Inactive => members.iter().for_each(|member| pass.stop_orphan(member.task)),
    }
}

fn reconcile_active(pass: &mut Pass<'_>, service: &Service, members: &[Member<'_>]) {
    let Some(primary) = service.primary() else { return };
    let mut draft = Draft::of(pass.state, service);
    let desired = match service.scheduling_strategy {
        SchedulingStrategy::Replica => service.desired_count,
        SchedulingStrategy::Daemon => u32::try_from(pass.state.nodes.size()).unwrap_or(u32::MAX),
    };
    draft.set_desired(desired, pass.now);

    let mut tasks = classify(pass, service, primary.id, members);
    stop_unhealthy(pass, &mut draft, &mut tasks);
    count_failures(pass, &mut draft, &tasks);
    if !trip_breaker(pass, &mut draft) {
        roll::roll(pass, &mut draft, &tasks);
    }
    draft.finish(pass);
}

fn classify<'t>(
    pass: &mut Pass<'_>,
    service: &Service,
    primary: DeploymentId,
    members: &[Member<'t>],
) -> Vec<Classified<'t>> {
    let context = Context { state: pass.state, now: pass.now, grace: service.health_check_grace() };
    let mut tasks = Vec::with_capacity(members.len());
    for member in members {
        let task = member.task;
        let phase = context.classify(task);
        if let Some(at) = context.changes_at(task, phase) {
            pass.wake(at);
        }
        let current = task.deployment == Some(primary);
        tasks.push(Classified { task, revision: member.revision, phase, current });
    }
    tasks
}

/// Stops tasks whose health check failed. That takes nothing away from what counts as running, so no
/// bound forbids it.
fn stop_unhealthy(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &mut [Classified<'_>]) {
    let service = draft.service().id.name.clone();
    let mut failed = 0u32;
    for one in tasks.iter_mut().filter(|one| one.phase == Phase::Unhealthy) {
        let stop =
            TaskStop { code: StopCode::ServiceSchedulerInitiated, reason: UNHEALTHY_REASON.to_owned() };
        pass.stop(one.task, stop);
        one.phase = Phase::Leaving;
        failed += u32::from(one.current);
        draft.say(pass, Reason::Unhealthy { service: service.clone(), task: one.task.id });
    }
    // While a deployment rolls, a task that fails its check is a task that failed to start.
    if let Some(primary) = draft.service().primary()
        && primary.rollout_state == RolloutState::InProgress
        && failed > 0
    {
        draft.primary(pass.now).failed_tasks += failed;
    }
}

/// Counts what became of the deployment's tasks since the last time, and waits if they failed.
fn count_failures(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let service = draft.service();
    let Some(primary) = service.primary() else { return };
    let before = Tally { backoff: service.backoff, failed_tasks: primary.failed_tasks };
    let mut changed: Vec<Changed<'_>> = tasks
        .iter()
        .filter(|one| one.current && one.revision > service.failures_counted_to)
        .map(|one| Changed { task: one.task, phase: one.phase, revision: one.revision })
        .collect();
    let tally = backoff::count(before, &mut changed, pass.now);
    if tally == before {
        return;
    }
    let name = service.id.name.clone();
    draft.edit().backoff = tally.backoff;
    draft.edit().failures_counted_to = pass.state.revision;
    if tally.failed_tasks != before.failed_tasks {
        draft.primary(pass.now).failed_tasks = tally.failed_tasks;
    }
    let grew = |rounds: u32, before: u32, policy: BackoffPolicy| {
        rounds > before && rounds >= policy.said_after_rounds
    };
    if grew(tally.backoff.failed_rounds, before.backoff.failed_rounds, BackoffPolicy::NEVER_RAN) {
        draft.say_once(pass, Reason::KeepsFailing { service: name.clone() });
    }
    if grew(tally.backoff.short_rounds, before.backoff.short_rounds, BackoffPolicy::BRIEF_RUN) {
        let seconds = backoff::BRIEF.as_secs();
        draft.say_once(pass, Reason::KeepsExiting { service: name, seconds });
    }
}

/// Gives a deployment up whose tasks keep failing, and brings the last completed one back if that is
/// wanted. Says whether it did; the rest is for the next plan, which sees the new deployment.
fn trip_breaker(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    let service = draft.service();
    let Some(primary) = service.primary() else { return false };
    let breaker = service.deployment_configuration.circuit_breaker;
    if !breaker.enable
        || primary.rollout_state != RolloutState::InProgress
        || primary.failed_tasks < failure_threshold(service.desired_count, &breaker)
    {
        return false;
    }
    let name = service.id.name.clone();
    let failed = primary.id;
    let back = if breaker.rollback { last_completed(pass.state, service) } else { None };
    let threshold = failure_threshold(service.desired_count, &breaker);
    let (count, now) = (primary.failed_tasks, pass.now);
    draft.edit_record(now, |record| {
        record.circuit_breaker = MonitorStatus::Triggered;
        (record.failure_count, record.failure_threshold) = (count, threshold);
    });
    draft.say(pass, Reason::Failed { service: name.clone(), deployment: failed });
    give_up(pass, draft, back, FAILED_REASON, rolling_back_reason);
    true
}

/// Ends the PRIMARY deployment as FAILED, and goes back to what was before if there is such a thing.
fn give_up(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    back: Option<(NewDeployment, GoingBack)>,
    reason: &str,
    back_reason: impl FnOnce(DeploymentId) -> String,
) {
    let now = pass.now;
    let name = draft.service().id.name.clone();
    draft.primary(now).rollout_state = RolloutState::Failed;
    let Some((new, mut going)) = back else {
        draft.primary(now).rollout_state_reason = reason.to_owned();
        draft.edit_record(now, |record| {
            let rolling = record.status == ServiceDeploymentStatus::RollbackInProgress;
            record.status = if rolling {
                ServiceDeploymentStatus::RollbackFailed
            } else {
                ServiceDeploymentStatus::Stopped
            };
            record.status_reason = Some(reason.to_owned());
            record.stopped_at = Some(now);
        });
        return;
    };
    let revision = going.revision.clone();
    draft.edit_record(now, |record| *record = rolling_back(record, revision, reason.to_owned(), now));
    going.record = draft.record().map(|record| record.id.clone());
    let failed = draft.service().primary().map(|primary| primary.id);
    let to = go_back(draft.edit(), new, going, now, pass.rng);
    let reason = back_reason(to);
    if let Some(failed) = draft.edit().deployments.iter_mut().find(|one| Some(one.id) == failed) {
        failed.rollout_state_reason = reason;
    }
    draft.say(pass, Reason::RollingBack { service: name, deployment: to });
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

/// Stops everything a deleted service has; INACTIVE once nothing of it is before STOPPING.
fn drain(pass: &mut Pass<'_>, service: &Service, members: &[Member<'_>]) {
    let mut draft = Draft::of(pass.state, service);
    let context = Context { state: pass.state, now: pass.now, grace: Duration::ZERO };
    let mut stopped = Vec::new();
    let mut drained = true;
    for member in members {
        let task = member.task;
        let mut over = task.last_status >= LastStatus::Stopping;
        if context.classify(task) > Phase::Leaving {
            let deployment = service.primary().map(|primary| primary.id).or(task.deployment);
            let reason = deployment.map_or_else(String::new, scaling_reason);
            over |= pass.stop(task, TaskStop { code: StopCode::ServiceSchedulerInitiated, reason });
            stopped.push(task);
        }
        drained &= over;
    }
    draft.say_stopped(pass, &stopped);
    if drained {
        let draft_service = draft.edit();
        draft_service.status = ServiceStatus::Inactive;
        draft_service.deployments.clear();
        draft_service.deleted_at.get_or_insert(pass.now);
        pass.reasons.push(Reason::Drained { service: service.id.name.clone() });
    }
    draft.finish(pass);
}
