//! The diff: what is missing is started, what is too many is stopped, and older deployments give way to
//! the PRIMARY one within the bounds. A service that does not roll is the case without older tasks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use coracle_types::{
    DeploymentStatus, JsonMap, LifecycleStage, MonitorStatus, NodeId, PropagateTags, RolloutState,
    SchedulingStrategy, Service, ServiceDeploymentStatus, StopCode, Tags, Task, TaskDefinition, TaskGroup,
    TaskId, TaskOverride, TaskStop, Timestamp, leading_provider,
};

use super::Classified;
use super::draft::Draft;
use crate::bounds::Bounds;
use crate::capacity::Unplaceable;
use crate::classify::Phase;
use crate::deployment::completed_reason;
use crate::plan::Pass;
use crate::reason::{Reason, scaling_reason};
use crate::task::{NewTask, assign, new_task};

/// Where a missing task goes.
#[derive(Clone, Copy)]
enum Target {
    /// Wherever there is room (REPLICA).
    Any,
    /// On this node (DAEMON).
    Node(NodeId),
}

/// What became of the missing tasks.
#[derive(Default)]
struct Starts {
    started: Vec<TaskId>,
    /// How many are missing still, if any may be started at all now.
    missing: usize,
    /// Whether `maximumPercent` left no room for a single one.
    no_room: bool,
    short: Option<Unplaceable>,
}

pub(super) fn roll(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let service = draft.service();
    let Some(primary) = service.primary() else { return };
    let name = service.id.name.clone();
    let scaling = scaling_reason(primary.id);
    let given_up = primary.rollout_state == RolloutState::Failed;
    let bounds = Bounds::of(service.desired_count, &service.deployment_configuration);

    let (kept, surplus) = keep(service, tasks);
    let (mut old, early): (Vec<Classified<'_>>, Vec<Classified<'_>>) = tasks
        .iter()
        .filter(|one| !one.current && one.phase.counts())
        .partition(|one| one.phase == Phase::Ready);

    let ready = |some: &[Classified<'_>]| some.iter().filter(|one| one.phase == Phase::Ready).count();
    let ready_kept = ready(&kept);
    let ready_all = ready_kept + ready(&surplus) + old.len();
    // How many RUNNING tasks may go without going below the lower bound.
    let mut spare = ready_all.saturating_sub(to_usize(bounds.lower));

    // Too many of the current deployment: first those that do not run yet, then the youngest.
    let mut stops: Vec<&Task> = Vec::new();
    for one in surplus.iter().rev() {
        if one.phase == Phase::Ready {
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

    let wanted = targets(pass, service, &kept, tasks);
    let missing_at_first = wanted.len();
    let starts = start(pass, draft, &bounds, wanted, tasks);

    // Older tasks that run go when newer ones run in their place, or when there is no other way to make
    // room for those that are missing.
    let leaving = tasks.iter().filter(|one| one.phase == Phase::Leaving).count() + stops.len();
    let replaced = (ready_kept + old.len()).saturating_sub(to_usize(bounds.desired));
    let in_the_way = starts.missing.saturating_sub(leaving);
    let going = replaced.max(in_the_way).min(spare);
    let taken: BTreeSet<NodeId> = nodes(kept.iter().filter(|one| one.phase == Phase::Ready)).collect();
    old.sort_by_key(|one| {
        let replaced_here = one.task.node.is_some_and(|(node, _)| taken.contains(&node));
        (Reverse(replaced_here), Reverse(one.task.created_at), one.task.id)
    });
    stops.extend(old.iter().take(going).map(|one| one.task));

    let mut over: BTreeSet<TaskId> = BTreeSet::new();
    for task in &stops {
        let stop = TaskStop { code: StopCode::ServiceSchedulerInitiated, reason: scaling.clone() };
        if pass.stop(task, stop) {
            over.insert(task.id);
        }
    }

    draft.say_started(pass, &starts.started);
    draft.say_stopped(pass, &stops);
    let still = stops.is_empty() && starts.started.is_empty();
    let in_transit =
        tasks.iter().any(|one| matches!(one.phase, Phase::Leaving | Phase::Starting | Phase::Settling));
    // Nobody is told of what a task that is about to give its place away will solve.
    let room_comes =
        pass.releasing || ((in_transit || !still) && tasks.iter().any(|one| !one.current && one.is_active()));
    if let Some(short) = starts.short
        && !room_comes
    {
        draft.say_once(pass, Reason::Unplaceable { service: name.clone(), short });
    }
    if starts.no_room && still && !in_transit {
        draft.say_once(pass, Reason::Stuck { service: name.clone() });
    }

    let older_left = retire(pass, draft, tasks, &over);
    complete(pass, draft, !older_left && missing_at_first == 0 && ready_kept >= to_usize(bounds.desired));
    let service = draft.service();
    let steady = still
        && missing_at_first == 0
        && ready_kept == to_usize(bounds.desired)
        && service.deployments.len() == 1
        && service.primary().is_some_and(|primary| primary.rollout_state == RolloutState::Completed);
    if steady && !service.steady {
        draft.say(pass, Reason::Steady { service: name });
    }
    draft.set_steady(steady);
}

/// Splits the current deployment's tasks into those to keep and those that are too many, both in the
/// order of how much they are worth keeping.
fn keep<'t>(service: &Service, tasks: &[Classified<'t>]) -> (Vec<Classified<'t>>, Vec<Classified<'t>>) {
    let mut current: Vec<Classified<'t>> =
        tasks.iter().copied().filter(|one| one.current && one.phase.counts()).collect();
    current.sort_by_key(|one| (Reverse(one.phase), one.task.created_at, one.task.id));
    match service.scheduling_strategy {
        SchedulingStrategy::Replica => {
            let surplus = current.split_off(current.len().min(to_usize(service.desired_count)));
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
    pass: &Pass<'_>,
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
            let mut free: Vec<NodeId> =
                pass.state.nodes.keys().copied().filter(|node| !taken.contains(node)).collect();
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

/// Starts what is missing, as far as the back-off, the upper bound and the nodes allow.
fn start(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    bounds: &Bounds,
    wanted: Vec<Target>,
    tasks: &[Classified<'_>],
) -> Starts {
    let mut starts = Starts::default();
    let service = draft.service();
    let Some(primary) = service.primary() else { return starts };
    if wanted.is_empty() || primary.rollout_state == RolloutState::Failed {
        return starts;
    }
    if pass.now < service.backoff.not_before {
        pass.wake(service.backoff.not_before);
        return starts;
    }
    let Some(definition) = pass.state.task_definitions.get(&primary.task_definition) else {
        let reason = Reason::NoTaskDefinition {
            service: service.id.name.clone(),
            task_definition: primary.task_definition.clone(),
        };
        draft.say_once(pass, reason);
        return starts;
    };
    starts.missing = wanted.len();
    let active = tasks.iter().filter(|one| one.is_active()).count();
    let room = to_usize(bounds.upper).saturating_sub(active);
    starts.no_room = room == 0;
    let (cpu, memory) = (definition.value.reserved_cpu(), definition.value.reserved_memory());
    for target in wanted {
        if starts.started.len() == room {
            break;
        }
        let placed = match target {
            Target::Any => pass.capacity.place(cpu, memory),
            Target::Node(node) => pass.capacity.place_on(node, cpu, memory),
        };
        match (placed, target) {
            (Ok(node), _) => {
                let mut task = service_task(service, &definition.value, pass);
                assign(&mut task, node);
                starts.started.push(task.id);
                pass.add_placed(task);
            }
            (Err(short), Target::Node(_)) => starts.short = Some(short),
            (Err(short), Target::Any) => {
                // The others are of the same size.
                starts.short = Some(short);
                break;
            }
        }
    }
    starts.missing -= starts.started.len();
    starts
}

/// A new task of the service's PRIMARY deployment.
fn service_task(service: &Service, definition: &TaskDefinition, pass: &mut Pass<'_>) -> Task {
    let primary = service.primary().expect("only services with a PRIMARY deployment start tasks");
    let tags = match service.propagate_tags {
        PropagateTags::TaskDefinition => definition.tags.clone(),
        PropagateTags::Service => service.tags.clone(),
        PropagateTags::None => Tags::default(),
    };
    let mut rest = JsonMap::new();
    let kept = [
        (&primary.rest, "networkConfiguration"),
        (&primary.rest, "platformVersion"),
        (&service.rest, "enableExecuteCommand"),
        (&service.rest, "enableECSManagedTags"),
    ];
    for (from, member) in kept {
        if let Some(value) = from.get(member) {
            rest.insert(member.to_owned(), value.clone());
        }
    }
    if let Some(provider) = primary.rest.get("capacityProviderStrategy").and_then(leading_provider) {
        rest.insert("capacityProviderName".to_owned(), provider.into());
    }
    let new = NewTask {
        id: pass.new_task_id(&service.id.cluster),
        cluster: service.id.cluster.clone(),
        group: TaskGroup::Service(service.id.name.clone()),
        deployment: Some(primary.id),
        started_by: Some(primary.id.to_string()),
        launch_type: primary.launch_type,
        overrides: TaskOverride::default(),
        tags,
        rest,
    };
    new_task(definition, new, pass.now, pass.rng)
}

/// Takes older deployments off the list once none of their tasks is active, and notes what the others
/// still have. Says whether any older task is active; `over` are those that ended in this plan.
fn retire(
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
fn complete(pass: &mut Pass<'_>, draft: &mut Draft<'_>, done: bool) {
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
        record.production_weight = 100.0;
        record.finished_at = Some(now);
    });
    let service = draft.service().id.name.clone();
    draft.say(pass, Reason::Completed { service, deployment });
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
