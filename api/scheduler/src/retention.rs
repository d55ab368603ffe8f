//! What is forgotten, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_types::{
    ClusterStatus, Key, LastStatus, ServiceStatus, TaskDefinitionId, TaskDefinitionStatus, Timestamp,
};

use crate::plan::Pass;

/// How long what is over can still be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// STOPPED tasks, after they stopped. ECS promises an hour.
    pub stopped_tasks: Duration,
    /// At most this many STOPPED tasks; past it, the ones that stopped first go early.
    pub stopped_tasks_max: usize,
    /// INACTIVE services and clusters, after they were deleted.
    pub inactive: Duration,
    /// Client tokens, after the request they made.
    pub tokens: Duration,
    /// At most this many client tokens; past it, the oldest go early. The AWS clients make up one for every
    /// RunTask, and need it for as long as they try again: seconds.
    pub tokens_max: usize,
    /// What is over goes at whole multiples of this: what becomes due meanwhile is one commit, and not one
    /// for each record.
    pub sweep: Duration,
}

impl RetentionPolicy {
    /// What [`crate::plan`] goes by.
    pub const DEFAULT: Self = Self {
        stopped_tasks: Duration::from_secs(3600),
        stopped_tasks_max: 5000,
        inactive: Duration::from_secs(3600),
        tokens: Duration::from_secs(24 * 3600),
        tokens_max: 10_000,
        sweep: Duration::from_secs(60),
    };

    /// When something goes that is over since `since` and kept for `kept`.
    fn due(&self, since: Timestamp, kept: Duration) -> Timestamp {
        let at = since.after(kept).as_millis();
        let step = i64::try_from(self.sweep.as_millis()).unwrap_or(i64::MAX).max(1);
        match at.rem_euclid(step) {
            0 => Timestamp(at),
            over => Timestamp(at.saturating_add(step - over)),
        }
    }
}

/// Deletes what nobody may ask for any more.
pub(crate) fn forget(pass: &mut Pass<'_>) {
    let policy = RetentionPolicy::DEFAULT;
    let state = pass.state;
    forget_tasks(pass, &policy);
    forget_tokens(pass, &policy);
    forget_definitions(pass);
    for found in state.services.values() {
        let service = &*found.value;
        if service.status == ServiceStatus::Inactive {
            let deleted = service.deleted_at.unwrap_or(service.created_at);
            expire(pass, policy.due(deleted, policy.inactive), || Key::Service(service.id.clone()));
        }
    }
    for found in state.clusters.values() {
        let cluster = &*found.value;
        if cluster.status == ClusterStatus::Inactive {
            let deleted = cluster.deleted_at.unwrap_or(cluster.created_at);
            expire(pass, policy.due(deleted, policy.inactive), || Key::Cluster(cluster.id.clone()));
        }
    }
}

fn forget_tasks(pass: &mut Pass<'_>, policy: &RetentionPolicy) {
    let state = pass.state;
    let mut kept = Vec::new();
    for (key, found) in &state.tasks {
        let task = &*found.value;
        if task.last_status == LastStatus::Stopped {
            let stopped = task.stopped_at.unwrap_or(task.created_at);
            if !expire(pass, policy.due(stopped, policy.stopped_tasks), || Key::Task(key.clone())) {
                kept.push((stopped, key));
            }
        }
    }
    for key in surplus(kept, policy.stopped_tasks_max) {
        pass.delete(Key::Task(key.clone()));
    }
}

fn forget_tokens(pass: &mut Pass<'_>, policy: &RetentionPolicy) {
    let state = pass.state;
    let mut kept = Vec::new();
    for (key, found) in &state.tokens {
        let at = found.value.at;
        if !expire(pass, policy.due(at, policy.tokens), || Key::Token(key.clone())) {
            kept.push((at, key));
        }
    }
    for key in surplus(kept, policy.tokens_max) {
        pass.delete(Key::Token(key.clone()));
    }
}

/// Deletes the task definitions DeleteTaskDefinitions had to leave, once nothing refers to them.
fn forget_definitions(pass: &mut Pass<'_>) {
    let state = pass.state;
    let deleted = |status| status == TaskDefinitionStatus::DeleteInProgress;
    let mut unused: BTreeSet<&TaskDefinitionId> = state
        .task_definitions
        .iter()
        .filter(|(_, found)| deleted(found.value.status))
        .map(|(id, _)| id)
        .collect();
    if unused.is_empty() {
        return;
    }
    for found in state.tasks.values().filter(|found| found.value.last_status != LastStatus::Stopped) {
        unused.remove(&found.value.task_definition);
    }
    for found in state.services.values().filter(|found| found.value.status != ServiceStatus::Inactive) {
        let service = &*found.value;
        unused.remove(&service.task_definition);
        let deployed = service.deployments.iter().map(|one| &one.task_definition);
        for id in deployed.chain(&service.last_completed) {
            unused.remove(id);
        }
    }
    for id in unused {
        pass.delete(Key::TaskDefinition(id.clone()));
    }
}

/// The oldest of `kept`, oldest first, when there are more than `max`: a twentieth more than has to go, so
/// that not each further one costs a commit of its own.
fn surplus<K: Ord>(mut kept: Vec<(Timestamp, K)>, max: usize) -> impl Iterator<Item = K> {
    let going = if kept.len() > max { kept.len() - max + max / 20 } else { 0 };
    if going > 0 {
        kept.select_nth_unstable(going - 1);
    }
    kept.truncate(going);
    kept.sort_unstable();
    kept.into_iter().map(|(_, key)| key)
}

/// Deletes a record whose time is over, or plans to come back when it is. Says whether it was deleted.
fn expire(pass: &mut Pass<'_>, at: Timestamp, key: impl FnOnce() -> Key) -> bool {
    if at <= pass.now {
        pass.delete(key());
        true
    } else {
        pass.wake(at);
        false
    }
}
