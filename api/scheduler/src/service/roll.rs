//! The diff: what is missing is started, what is too many is stopped, and older deployments give way to
//! the PRIMARY one within the bounds. A service that does not roll is the case without older tasks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use coracle_types::{
    DeploymentStatus, DeploymentStrategy, LifecycleStage, MonitorStatus, NodeId, RolloutState,
    SchedulingStrategy, Service, ServiceDeploymentStatus, Task, TaskId, Timestamp,
};

use super::draft::Draft;
use super::start::{Origin, Starts, Target, daemon_nodes, may_start, start};
use super::{Classified, balance, stop_all, to_usize};
use crate::alarms;
use crate::bounds::Bounds;
use crate::classify::Phase;
use crate::deployment::completed_reason;
use crate::plan::Pass;
use crate::reason::Reason;

pub(super) fn roll(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let service = draft.service();
    let Some(primary) = service.primary() else { return };
    let name = service.id.name.clone();
    let origin = Origin::from(primary);
    let given_up = !may_start(primary);
    // A deployment that shifted traffic and was aborted: nobody knows which side the traffic needs.
    let both_needed = given_up && service.deployment_configuration.strategy() != DeploymentStrategy::Rolling;
    let bounds = Bounds::of(service.desired_count, &service.deployment_configuration);

    let (kept, surplus) = keep(pass, service, tasks);
    let (mut old, early): (Vec<Classified<'_>>, Vec<Classified<'_>>) = tasks
        .iter()
        .filter(|one| one.phase.counts() && !one.is_wanted() && !one.protected)
        .partition(|one| one.is_ready());

    let ready = |some: &[Classified<'_>]| some.iter().filter(|one| one.is_ready()).count();
    let ready_kept = ready(&kept);
    let protected = tasks.iter().filter(|one| one.protected && !one.is_wanted() && one.is_ready()).count();
    let ready_all = ready_kept + ready(&surplus) + old.len() + protected;
    // How many RUNNING tasks may go without going below the lower bound.
    let mut spare = ready_all.saturating_sub(to_usize(bounds.lower));

    // Too many of the current deployment: first those that do not run yet, then the youngest.
    let mut stops: Vec<&Task> = Vec::new();
    for one in surplus.iter().rev().filter(|one| !one.protected) {
        if one.is_ready() {
            if spare == 0 {
                continue;
            }
            spare -= 1;
        }
        stops.push(one.task);
    }
    // Older tasks that do not run yet never will be needed.
    if !given_up {
        stops.extend(early.iter().map(|one| one.task));
    }

    let mut wanted = if given_up { Vec::new() } else { targets(pass, service, &kept, tasks) };
    let missing_at_first = wanted.len();
    let active = tasks.iter().filter(|one| one.is_active()).count();
    let room = to_usize(bounds.upper).saturating_sub(active);
    if room > 0 && wanted.is_empty() && stops.is_empty() && old.is_empty() && ready_kept == kept.len() {
        wanted.extend(balance::wanted(pass, service, &kept).map(Target::Zone));
    }
    let balancing = wanted.len() > missing_at_first;
    let starts = start(pass, draft, &origin, wanted, room, tasks);

    // Older tasks that run go when newer ones run in their place, or when there is no other way to make
    // room for those that are missing.
    let leaving = tasks.iter().filter(|one| one.phase == Phase::Leaving).count() + stops.len();
    let replaced = (ready_kept + old.len()).saturating_sub(to_usize(bounds.desired));
    let in_the_way = if balancing { 0 } else { starts.missing.saturating_sub(leaving) };
    let going = if both_needed { 0 } else { replaced.max(in_the_way).min(spare) };
    let taken: BTreeSet<NodeId> = nodes(kept.iter().filter(|one| one.is_ready())).collect();
    old.sort_by_key(|one| {
        let replaced_here = one.task.node.is_some_and(|(node, _)| taken.contains(&node));
        (Reverse(replaced_here), Reverse(one.task.created_at), one.task.id)
    });
    stops.extend(old.iter().take(going).map(|one| one.task));

    let over = stop_all(pass, &stops, origin.id);
    draft.say_started(pass, &starts.started);
    draft.say_stopped(pass, &stops);
    let still = stops.is_empty() && starts.started.is_empty();
    if !balancing {
        say_what_is_in_the_way(pass, draft, &starts, still, tasks);
    }

    let older_left = retire(pass, draft, tasks, &over);
    let enough = ready_kept >= to_usize(bounds.desired);
    let ready = !older_left && missing_at_first == 0 && enough;
    let done = ready && has_baked(pass, draft);
    complete(pass, draft, done);
    let service = draft.service();
    let steady = still
        && missing_at_first == 0
        && enough
        && surplus.is_empty()
        && service.deployments.len() == 1
        && service.primary().is_some_and(|primary| primary.rollout_state == RolloutState::Completed);
    if steady && !service.steady {
        draft.say(pass, Reason::Steady { service: name });
    }
    draft.set_steady(steady);
}

/// Whether a deployment all of whose tasks are ready has been watched for long enough. Without alarms it has.
fn has_baked(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> bool {
    let Some(record) = draft.record().filter(|record| !record.status.is_over()) else { return true };
    let bake = alarms::bake_time(pass.state, draft.service(), record);
    if bake.is_zero() {
        return true;
    }
    let (now, began) = (pass.now, record.stage == LifecycleStage::BakeTime);
    let since = if began { record.stage_since } else { now };
    if !began {
        draft.edit_record(now, |record| (record.stage, record.stage_since) = (LifecycleStage::BakeTime, now));
    }
    let until = since.after(bake);
    pass.wake(until);
    now >= until
}

/// Says why nothing, or not enough, was started. Nobody is told of what a task that is about to give its place
/// away will solve.
pub(super) fn say_what_is_in_the_way(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    starts: &Starts,
    still: bool,
    tasks: &[Classified<'_>],
) {
    let service = draft.service().id.name.clone();
    let in_transit =
        tasks.iter().any(|one| matches!(one.phase, Phase::Leaving | Phase::Starting | Phase::Settling));
    let room_comes =
        pass.releasing || ((in_transit || !still) && tasks.iter().any(|one| !one.current && one.is_active()));
    if let Some(short) = starts.short.clone()
        && !room_comes
    {
        draft.say_once(pass, Reason::Unplaceable { service: service.clone(), short });
    }
    if starts.no_room && starts.missing > 0 && still && !in_transit {
        draft.say_once(pass, Reason::Stuck { service });
    }
}

/// Splits the current deployment's tasks into those to keep and those that are too many, both in the
/// order of how much they are worth keeping.
fn keep<'t>(
    pass: &Pass<'_>,
    service: &Service,
    tasks: &[Classified<'t>],
) -> (Vec<Classified<'t>>, Vec<Classified<'t>>) {
    let mut current: Vec<Classified<'t>> = tasks.iter().copied().filter(Classified::is_wanted).collect();
    current.sort_by_key(|one| (Reverse(one.protected), Reverse(one.phase), one.task.created_at, one.task.id));
    match service.scheduling_strategy {
        SchedulingStrategy::Replica => {
            let surplus = balance::split_off(pass.state, &mut current, to_usize(service.desired_count));
            (current, surplus)
        }
        SchedulingStrategy::Daemon => {
            let mut taken = BTreeSet::new();
            current.into_iter().partition(|one| one.task.node.is_none_or(|(node, _)| taken.insert(node)))
        }
    }
}

/// The tasks that are missing beside those that are kept.
fn targets(
    pass: &mut Pass<'_>,
    service: &Service,
    kept: &[Classified<'_>],
    tasks: &[Classified<'_>],
) -> Vec<Target> {
    match service.scheduling_strategy {
        SchedulingStrategy::Replica => {
            vec![Target::Any; to_usize(service.desired_count).saturating_sub(kept.len())]
        }
        SchedulingStrategy::Daemon => {
            let taken: BTreeSet<NodeId> = nodes(kept.iter()).collect();
            let occupied: BTreeSet<NodeId> = nodes(tasks.iter().filter(|one| one.is_active())).collect();
            let mut free = daemon_nodes(pass, service);
            free.retain(|node| !taken.contains(node));
            // Where an older task still runs, only a maximumPercent above 100 allows a second one.
            free.sort_by_key(|node| (occupied.contains(node), *node));
            free.into_iter().map(Target::Node).collect()
        }
    }
}

fn nodes<'i, 't: 'i>(
    tasks: impl Iterator<Item = &'i Classified<'t>> + 'i,
) -> impl Iterator<Item = NodeId> + 'i {
    tasks.filter_map(|one| one.task.node.map(|(node, _)| node))
}

/// Takes older deployments off the list once none of their tasks is active, and notes what the others
/// still have. Says whether any older task is active; `over` are those that ended in this plan.
pub(super) fn retire(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    tasks: &[Classified<'_>],
    over: &BTreeSet<TaskId>,
) -> bool {
    let older: Vec<&Classified<'_>> =
        tasks.iter().filter(|one| !one.current && one.is_active() && !over.contains(&one.task.id)).collect();
    let left = |id| older.iter().filter(|one| one.task.deployment == Some(id)).count();
    let is_old = |status| status == DeploymentStatus::Active;
    let changed =
        draft.service().deployments.iter().any(|one| {
            is_old(one.status) && (left(one.id) == 0 || to_usize(one.desired_count) != left(one.id))
        });
    if changed {
        let now: Timestamp = pass.now;
        let service = draft.edit();
        service.deployments.retain(|one| !is_old(one.status) || left(one.id) > 0);
        for one in service.deployments.iter_mut().filter(|one| is_old(one.status)) {
            let left = u32::try_from(left(one.id)).unwrap_or(u32::MAX);
            if one.desired_count != left {
                one.desired_count = left;
                one.updated_at = now;
            }
        }
    }
    !older.is_empty()
}

/// Marks the PRIMARY deployment as done, if it is and was not.
pub(super) fn complete(pass: &mut Pass<'_>, draft: &mut Draft<'_>, done: bool) {
    let Some(primary) = draft.service().primary() else { return };
    if !done || primary.rollout_state != RolloutState::InProgress {
        return;
    }
    let (deployment, definition, revision) =
        (primary.id, primary.task_definition.clone(), primary.revision.clone());
    let primary = draft.primary(pass.now);
    primary.rollout_state = RolloutState::Completed;
    primary.rollout_state_reason = completed_reason(deployment);
    draft.edit().last_completed = Some(definition);
    draft.edit().last_completed_revision = revision;
    let now = pass.now;
    draft.edit_record(now, |record| {
        record.status = match record.status {
            ServiceDeploymentStatus::RollbackRequested | ServiceDeploymentStatus::RollbackInProgress => {
                ServiceDeploymentStatus::RollbackSuccessful
            }
            _ => ServiceDeploymentStatus::Successful,
        };
        for monitor in [&mut record.circuit_breaker, &mut record.alarms] {
            if *monitor == MonitorStatus::Monitoring {
                *monitor = MonitorStatus::MonitoringComplete;
            }
        }
        record.stage = LifecycleStage::CleanUp;
        if record.status == ServiceDeploymentStatus::Successful {
            record.production_weight = 100.0;
        }
        record.finished_at = Some(now);
    });
    let service = draft.service().id.name.clone();
    draft.say(pass, Reason::Completed { service, deployment });
}
