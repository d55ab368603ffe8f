//! Zones: which tasks go first when there are too many, and moving tasks between zones when they are uneven.

use std::collections::BTreeMap;

use coracle_types::{RolloutState, SchedulingStrategy, Service, State, Task, attribute};
use serde_json::Value;

use super::Classified;
use crate::placement::node_takes_tasks;
use crate::plan::Pass;

fn zone<'s>(state: &'s State, task: &Task) -> &'s str {
    let node = task.node.and_then(|(node, _)| state.nodes.get(&node));
    node.and_then(|found| found.value.attribute(attribute::ZONE)).unwrap_or_default()
}

fn by_zone<'s>(state: &'s State, tasks: &[Classified<'_>]) -> BTreeMap<&'s str, usize> {
    let mut counts = BTreeMap::new();
    for one in tasks {
        *counts.entry(zone(state, one.task)).or_default() += 1;
    }
    counts
}

/// Takes away what is more than `keep`. The tasks come in the order of how much they are worth keeping; of those
/// that are RUNNING, those in the fullest zone go first.
pub(super) fn split_off<'t>(
    state: &State,
    tasks: &mut Vec<Classified<'t>>,
    keep: usize,
) -> Vec<Classified<'t>> {
    if tasks.len() <= keep {
        return Vec::new();
    }
    let mut counts = by_zone(state, tasks);
    if counts.len() < 2 {
        return tasks.split_off(keep);
    }
    let mut surplus = Vec::new();
    while tasks.len() > keep {
        // From the end: the least worth keeping of the fullest zone, but nobody who is protected before others.
        let last = tasks.last().map(|one| one.protected);
        let candidates = tasks.iter().enumerate().rev().filter(|(_, one)| Some(one.protected) == last);
        let fullest = candidates
            .max_by_key(|(place, one)| (counts.get(zone(state, one.task)).copied().unwrap_or(0), *place));
        let Some((place, _)) = fullest else { break };
        let one = tasks.remove(place);
        if let Some(count) = counts.get_mut(zone(state, one.task)) {
            *count -= 1;
        }
        surplus.push(one);
    }
    // As before: the most worth keeping first.
    surplus.reverse();
    surplus
}

/// The zone that should get one more task, because it has at least two fewer than another: with
/// `availabilityZoneRebalancing` ENABLED, and no deployment under way. The surplus that makes is taken from the
/// fullest zone once the new task runs.
pub(super) fn wanted(pass: &Pass<'_>, service: &Service, kept: &[Classified<'_>]) -> Option<String> {
    let enabled = service.rest.get("availabilityZoneRebalancing").and_then(Value::as_str) == Some("ENABLED");
    let settled = service.deployments.len() == 1
        && service.primary().is_some_and(|primary| primary.rollout_state == RolloutState::Completed);
    if !enabled || !settled || service.scheduling_strategy == SchedulingStrategy::Daemon {
        return None;
    }
    let state = pass.state;
    let counts = by_zone(state, kept);
    let nodes = state.nodes.values().map(|found| &found.value);
    let open = nodes
        .filter(|node| node_takes_tasks(node) && node.agent_connected && node.serves(&service.id.cluster));
    let zones = open.filter_map(|node| node.attribute(attribute::ZONE));
    let has = |zone: &str| counts.get(zone).copied().unwrap_or(0);
    let emptiest = zones.min_by_key(|zone| (has(zone), (*zone).to_owned()))?;
    let fullest = counts.values().copied().max()?;
    (fullest >= has(emptiest) + 2).then(|| emptiest.to_owned())
}
