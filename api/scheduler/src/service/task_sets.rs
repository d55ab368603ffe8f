//! Services whose deployments somebody outside directs: each task set is kept at its share of the desired count.
//!
//! No percentages apply: whoever directs the task sets decides how many tasks there are.

use std::collections::BTreeSet;

use coracle_types::{DeploymentId, TaskSet, TaskSetStatus};

use super::draft::Draft;
use super::roll::say_what_is_in_the_way;
use super::start::{Origin, Target, start};
use super::{Classified, stop_all, to_usize};
use crate::classify::Phase;
use crate::plan::Pass;
use crate::reason::Reason;

pub(super) fn reconcile(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let sets = draft.service().task_sets.clone();
    let mut still = true;
    for set in &sets {
        still &= reconcile_set(pass, draft, set, tasks);
    }
    let known: BTreeSet<DeploymentId> = sets.iter().map(|set| set.id).collect();
    for one in tasks.iter().filter(|one| one.phase.counts()) {
        // Its task set was deleted.
        if let Some(id) = one.task.deployment.filter(|id| !known.contains(id)) {
            stop_all(pass, &[one.task], id);
            draft.say_stopped(pass, &[one.task]);
            still = false;
        }
    }
    let all_steady = draft.service().task_sets.iter().all(|set| set.steady);
    let steady = still && all_steady && !draft.service().task_sets.is_empty();
    if steady && !draft.service().steady {
        let service = draft.service().id.name.clone();
        draft.say(pass, Reason::Steady { service });
    }
    draft.set_steady(steady);
}

/// Brings one task set to its number. Says whether there was nothing to do.
fn reconcile_set(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    set: &TaskSet,
    tasks: &[Classified<'_>],
) -> bool {
    let mut own: Vec<Classified<'_>> =
        tasks.iter().copied().filter(|one| one.task.deployment == Some(set.id)).collect();
    if set.status == TaskSetStatus::Draining && !own.iter().any(Classified::is_active) {
        draft.edit().task_sets.retain(|one| one.id != set.id);
        return false;
    }
    let desired = set.desired_of(draft.service().desired_count);
    own.retain(|one| one.phase.counts());
    own.sort_by_key(|one| {
        (
            one.evicted,
            std::cmp::Reverse(one.protected),
            std::cmp::Reverse(one.phase),
            one.task.created_at,
            one.task.id,
        )
    });
    let fit = own.iter().filter(|one| !one.evicted).count();
    let surplus = own.split_off(own.len().min(to_usize(desired)));
    // Those on nodes that take none any more stay until there are others in their place.
    let enough = fit >= to_usize(desired);
    let stops: Vec<_> =
        surplus.iter().filter(|one| !one.protected && (enough || !one.evicted)).map(|one| one.task).collect();
    let missing = to_usize(desired).saturating_sub(fit);
    let starts = start(pass, draft, &Origin::from(set), vec![Target::Any; missing], missing, tasks);
    stop_all(pass, &stops, set.id);
    draft.say_started(pass, &starts.started);
    draft.say_stopped(pass, &stops);
    let still = stops.is_empty() && starts.started.is_empty();
    say_what_is_in_the_way(pass, draft, &starts, still, tasks);

    let leaving = tasks
        .iter()
        .any(|one| one.task.deployment == Some(set.id) && one.phase == Phase::Leaving && one.is_active());
    let ready = own.iter().filter(|one| one.is_ready()).count();
    let steady = still && missing == 0 && !leaving && ready == to_usize(desired);
    let changed = set.steady != steady || set.computed_desired_count != desired;
    let now = pass.now;
    if changed && let Some(set) = draft.edit().task_sets.iter_mut().find(|one| one.id == set.id) {
        if set.steady != steady {
            (set.steady, set.steady_at) = (steady, now);
        }
        set.computed_desired_count = desired;
        set.updated_at = now;
    }
    still
}
