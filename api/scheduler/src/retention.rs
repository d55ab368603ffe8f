//! What is forgotten, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_types::{
    ClusterStatus, Key, LastStatus, ServiceDeployment, ServiceId, ServiceRevisionId, ServiceStatus, State,
    TaskDefinitionId, TaskDefinitionStatus, Timestamp,
};

use crate::plan::Pass;

/// How long what is over can still be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// STOPPED tasks, after they stopped. ECS promises an hour.
    pub stopped_tasks: Duration,
    /// At most this many STOPPED tasks; past it, the ones that stopped first go early.
    pub stopped_tasks_max: usize,
    /// At most this many service deployments of one service that are over.
    pub service_deployments_max: usize,
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
        service_deployments_max: 100,
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

    /// The shortest time anything is kept.
    pub(crate) fn shortest(&self) -> Duration {
        self.stopped_tasks.min(self.inactive).min(self.tokens)
    }
}

/// Whether there is more than is kept, however young it is.
pub(crate) fn is_surplus(state: &State, policy: &RetentionPolicy) -> bool {
    state.index().stopped_len() > policy.stopped_tasks_max || state.tokens.size() > policy.tokens_max
}

/// Deletes what nobody may ask for any more, and says when there will be more of it.
pub(crate) fn forget(pass: &mut Pass<'_>) -> Option<Timestamp> {
    forget_definitions(pass);
    sweep(pass)
}

/// Deletes what is over for long enough, and says when there will be more of it.
pub(crate) fn sweep(pass: &mut Pass<'_>) -> Option<Timestamp> {
    let policy = RetentionPolicy::DEFAULT;
    let state = pass.state;
    let mut sweep = Sweep { pass, next: None };
    forget_tasks(&mut sweep, &policy);
    forget_tokens(&mut sweep, &policy);
    for found in state.services.values() {
        let service = &*found.value;
        if service.status == ServiceStatus::Inactive {
            let deleted = service.deleted_at.unwrap_or(service.created_at);
            sweep.expire(policy.due(deleted, policy.inactive), || Key::Service(service.id.clone()));
        }
    }
    for found in state.clusters.values() {
        let cluster = &*found.value;
        if cluster.status == ClusterStatus::Inactive {
            let deleted = cluster.deleted_at.unwrap_or(cluster.created_at);
            sweep.expire(policy.due(deleted, policy.inactive), || Key::Cluster(cluster.id.clone()));
        }
    }
    forget_deployments(&mut sweep, &policy);
    sweep.next
}

struct Sweep<'p, 'a> {
    pass: &'p mut Pass<'a>,
    next: Option<Timestamp>,
}

impl Sweep<'_, '_> {
    /// Deletes a record whose time is over, or plans to come back when it is. Says whether it was deleted.
    fn expire(&mut self, at: Timestamp, key: impl FnOnce() -> Key) -> bool {
        if at <= self.pass.now {
            self.pass.delete(key());
            true
        } else {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
            false
        }
    }
}

fn forget_tasks(sweep: &mut Sweep<'_, '_>, policy: &RetentionPolicy) {
    let index = sweep.pass.state.index();
    let surplus = match index.stopped_len() {
        len if len > policy.stopped_tasks_max => {
            len - policy.stopped_tasks_max + policy.stopped_tasks_max / 20
        }
        _ => 0,
    };
    // The longest over come first, so the first that stays is the end.
    for (place, (stopped, key)) in index.stopped().enumerate() {
        if place < surplus {
            sweep.pass.delete(Key::Task(key.clone()));
        } else if !sweep.expire(policy.due(*stopped, policy.stopped_tasks), || Key::Task(key.clone())) {
            break;
        }
    }
}

fn forget_tokens(sweep: &mut Sweep<'_, '_>, policy: &RetentionPolicy) {
    let state = sweep.pass.state;
    let mut kept = Vec::new();
    for (key, found) in &state.tokens {
        let at = found.value.at;
        if !sweep.expire(policy.due(at, policy.tokens), || Key::Token(key.clone())) {
            kept.push((at, key));
        }
    }
    for key in surplus(kept, policy.tokens_max) {
        sweep.pass.delete(Key::Token(key.clone()));
    }
}

/// Deletes service deployments past the number that is kept for each service, and revisions nothing refers to;
/// both go with their service.
fn forget_deployments(sweep: &mut Sweep<'_, '_>, policy: &RetentionPolicy) {
    let state = sweep.pass.state;
    let mut needed: BTreeSet<&ServiceRevisionId> = BTreeSet::new();
    let mut by_service: BTreeMap<&ServiceId, Vec<&ServiceDeployment>> = BTreeMap::new();
    for found in state.service_deployments.values() {
        by_service.entry(&found.value.id.service).or_default().push(&found.value);
    }
    for (service, mut records) in by_service {
        let gone = !state.services.contains_key(service);
        records.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id.key)));
        for (place, record) in records.into_iter().enumerate() {
            if gone || (place >= policy.service_deployments_max && record.status.is_over()) {
                sweep.pass.delete(Key::ServiceDeployment(record.id.clone()));
            } else {
                needed.insert(&record.target);
                needed.extend(&record.sources);
                needed.extend(record.rollback.iter().filter_map(|rollback| rollback.revision.as_ref()));
            }
        }
    }
    for found in state.services.values() {
        let deployed = found.value.deployments.iter().filter_map(|one| one.revision.as_ref());
        needed.extend(deployed.chain(&found.value.last_completed_revision));
    }
    for id in state.service_revisions.keys().filter(|id| !needed.contains(id)) {
        sweep.pass.delete(Key::ServiceRevision(id.clone()));
    }
}

/// Deletes the task definitions DeleteTaskDefinitions had to leave, once nothing refers to them. Says whether any
/// are left.
pub(crate) fn forget_definitions(pass: &mut Pass<'_>) -> bool {
    let state = pass.state;
    let deleted = |status| status == TaskDefinitionStatus::DeleteInProgress;
    let mut unused: BTreeSet<&TaskDefinitionId> = state
        .task_definitions
        .iter()
        .filter(|(_, found)| deleted(found.value.status))
        .map(|(id, _)| id)
        .collect();
    if unused.is_empty() {
        return false;
    }
    let all = unused.len();
    for found in state.tasks.values().filter(|found| found.value.last_status != LastStatus::Stopped) {
        unused.remove(&found.value.task_definition);
    }
    for found in state.services.values().filter(|found| found.value.status != ServiceStatus::Inactive) {
        let service = &*found.value;
        unused.remove(&service.task_definition);
        let deployed = service.deployments.iter().map(|one| &one.task_definition);
        let sets = service.task_sets.iter().map(|set| &set.task_definition);
        for id in deployed.chain(sets).chain(&service.last_completed) {
            unused.remove(id);
        }
    }
    let left = unused.len() < all;
    for id in unused {
        pass.delete(Key::TaskDefinition(id.clone()));
    }
    left
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
