//! Keeping a service as it should be: how many tasks, of which deployment, which of them stop, and what
//! is said about it.
//!
//! ```text
//! ACTIVE   ─▶ unhealthy tasks stop ─▶ failures counted (back-off) ─▶ given up? (circuit breaker, stop requests)
//!             └─▶ one of: roll (tasks give way a few at a time)
//!                         shift (traffic gives way, then tasks)
//!                         task sets (somebody outside directs)      ─▶ completed, steady
//! DRAINING ─▶ all tasks stop ─▶ INACTIVE when none is before STOPPING
//! ```

mod balance;
mod draft;
mod give_up;
mod hooks;
mod roll;
mod shift;
mod start;
mod targets;
mod task_sets;
mod traffic;

use coracle_types::{
    DeploymentController, DeploymentId, DeploymentStrategy, HealthStatus, LastStatus, RolloutState,
    SchedulingStrategy, Service, ServiceStatus, StopCode, Task, TaskStop,
};

use self::draft::Draft;
use crate::backoff::{self, BackoffPolicy, Changed, Tally};
use crate::classify::{self, Context, Phase};
use crate::placement::node_takes_tasks;
use crate::plan::Pass;
use crate::reason::{Reason, UNHEALTHY_REASON, scaling_reason, unhealthy_target_reason};

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
    /// Whether its node takes no tasks any more, so that it has to be replaced elsewhere.
    evicted: bool,
    /// Whether it is protected: neither scaling in nor a deployment stops it.
    protected: bool,
}

impl Classified<'_> {
    /// Whether it is RUNNING or on the way there, as `maximumPercent` counts: also when it has been
    /// told to stop and has not begun to.
    fn is_active(&self) -> bool {
        self.task.last_status <= LastStatus::Running
    }

    /// Whether it counts towards what the PRIMARY deployment should have.
    fn is_wanted(&self) -> bool {
        self.current && self.phase.counts() && !self.evicted
    }

    fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }
}

/// Plans for one service; `members` are its tasks that are not lost.
pub(crate) fn reconcile<'a>(pass: &mut Pass<'a>, service: &'a Service, members: &[Member<'a>]) {
    match service.status {
        ServiceStatus::Active => reconcile_active(pass, service, members),
        ServiceStatus::Draining => drain(pass, service, members),
        ServiceStatus::Inactive => members.iter().for_each(|member| pass.stop_orphan(member.task)),
    }
}

fn reconcile_active<'a>(pass: &mut Pass<'a>, service: &'a Service, members: &[Member<'a>]) {
    let mut draft = Draft::of(pass.state, service);
    if DeploymentController::of(&service.rest) == DeploymentController::External {
        let mut tasks = classify_all(pass, service, None, members);
        targets::register(pass, &mut draft, &tasks);
        stop_unhealthy(pass, &mut draft, &mut tasks);
        count_failures(pass, &mut draft, &tasks);
        task_sets::reconcile(pass, &mut draft, &tasks);
        return draft.finish(pass);
    }
    let Some(primary) = service.primary() else { return };
    if service.scheduling_strategy == SchedulingStrategy::Daemon {
        let nodes = start::daemon_nodes(pass, service).len();
        draft.set_desired(u32::try_from(nodes).unwrap_or(u32::MAX), pass.now);
    } else {
        draft.set_desired(service.desired_count, pass.now);
    }

    let mut tasks = classify_all(pass, service, Some(primary.id), members);
    targets::register(pass, &mut draft, &tasks);
    stop_unhealthy(pass, &mut draft, &mut tasks);
    count_failures(pass, &mut draft, &tasks);
    if !give_up::if_necessary(pass, &mut draft) {
        if shifts(&draft) {
            shift::advance(pass, &mut draft, &tasks);
        } else {
            roll::roll(pass, &mut draft, &tasks);
        }
    }
    draft.finish(pass);
}

/// Whether the PRIMARY deployment shifts traffic: it is under way, was meant to, and there is something it takes
/// the traffic from.
fn shifts(draft: &Draft<'_>) -> bool {
    let Some(record) = draft.record().filter(|record| !record.status.is_over()) else { return false };
    record.configuration.strategy() != DeploymentStrategy::Rolling
        && draft.service().scheduling_strategy == SchedulingStrategy::Replica
        && record.rollback.is_none()
        && give_up::source(draft.service()).is_some()
        && draft.service().primary().is_some_and(|one| one.rollout_state == RolloutState::InProgress)
}

/// What each task counts as. Without a PRIMARY deployment, all belong to what is current.
fn classify_all<'t>(
    pass: &mut Pass<'_>,
    service: &Service,
    primary: Option<DeploymentId>,
    members: &[Member<'t>],
) -> Vec<Classified<'t>> {
    let (grace, replacing) = (service.health_check_grace(), classify::replacing(service));
    let context = Context { state: pass.state, now: pass.now, grace, replacing };
    let mut tasks = Vec::with_capacity(members.len());
    for member in members {
        let task = member.task;
        let phase = match context.classify(task) {
            // It is about to be registered, and has then to pass its group's checks.
            Phase::Ready if !targets::missing(pass.state, service, task, pass.now).is_empty() => {
                Phase::Settling
            }
            phase => phase,
        };
        let at = context.changes_at(task, phase);
        at.into_iter().for_each(|at| pass.wake(at));
        let protected = phase.counts() && task.is_protected(pass.now);
        task.protected_until.filter(|_| protected).into_iter().for_each(|until| pass.wake(until));
        let on = task.node.and_then(|(node, _)| pass.state.nodes.get(&node));
        tasks.push(Classified {
            task,
            revision: member.revision,
            phase,
            current: primary.is_none_or(|primary| task.deployment == Some(primary)),
            evicted: on.is_some_and(|found| !node_takes_tasks(&found.value)),
            protected,
        });
    }
    tasks
}

/// Stops tasks whose health check failed. That takes nothing away from what counts as running, so no
/// bound forbids it.
fn stop_unhealthy(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &mut [Classified<'_>]) {
    let service = draft.service().id.name.clone();
    let mut failed = 0u32;
    for one in tasks.iter_mut().filter(|one| one.phase == Phase::Unhealthy) {
        let target = targets::unhealthy(draft.service(), one.task);
        let said = match (one.task.health(), target) {
            (HealthStatus::Unhealthy, _) | (_, None) => {
                Reason::Unhealthy { service: service.clone(), task: one.task.id }
            }
            (_, Some((group, port, why))) => {
                Reason::UnhealthyTarget { service: service.clone(), task: one.task.id, port, group, why }
            }
        };
        let reason = match &said {
            Reason::UnhealthyTarget { group, .. } => unhealthy_target_reason(group),
            _ => UNHEALTHY_REASON.to_owned(),
        };
        pass.stop(one.task, TaskStop { code: StopCode::ServiceSchedulerInitiated, reason });
        one.phase = Phase::Leaving;
        failed += u32::from(one.current);
        draft.say(pass, said);
        targets::say_deregistered(pass, draft, &[one.task]);
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
    let failed_tasks = service.primary().map_or(0, |primary| primary.failed_tasks);
    let before = Tally { backoff: service.backoff, failed_tasks };
    let mut changed: Vec<Changed<'_>> = tasks
        .iter()
        .filter(|one| one.current && one.revision > service.failures_counted_to)
        .map(|one| Changed { task: one.task, phase: one.phase, revision: one.revision })
        .collect();
    let forgives = service.deployment_configuration.circuit_breaker.reset_on_healthy_task;
    let tally = backoff::count(before, &mut changed, forgives, pass.now);
    if tally == before {
        return;
    }
    let name = service.id.name.clone();
    draft.edit().backoff = tally.backoff;
    draft.edit().failures_counted_to = pass.state.revision;
    if tally.failed_tasks != before.failed_tasks && draft.service().primary().is_some() {
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

/// Stops everything a deleted service has; INACTIVE once nothing of it is before STOPPING.
fn drain<'a>(pass: &mut Pass<'a>, service: &'a Service, members: &[Member<'a>]) {
    let mut draft = Draft::of(pass.state, service);
    let grace = std::time::Duration::ZERO;
    let context = Context { state: pass.state, now: pass.now, grace, replacing: None };
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
    give_up::end_record(pass, &mut draft, "The service was deleted.");
    if drained {
        let draft_service = draft.edit();
        draft_service.status = ServiceStatus::Inactive;
        draft_service.deployments.clear();
        draft_service.task_sets.clear();
        draft_service.deleted_at.get_or_insert(pass.now);
        pass.reasons.push(Reason::Drained { service: service.id.name.clone() });
    }
    draft.finish(pass);
}

/// Tells tasks to stop for a scaling activity; says which of them are over with that.
fn stop_all(
    pass: &mut Pass<'_>,
    stops: &[&Task],
    deployment: DeploymentId,
) -> std::collections::BTreeSet<coracle_types::TaskId> {
    let reason = scaling_reason(deployment);
    let mut over = std::collections::BTreeSet::new();
    for task in stops {
        let stop = TaskStop { code: StopCode::ServiceSchedulerInitiated, reason: reason.clone() };
        if pass.stop(task, stop) {
            over.insert(task.id);
        }
    }
    over
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
