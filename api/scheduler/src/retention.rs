//! What is forgotten, and when.

use std::time::Duration;

use coracle_types::{ClusterStatus, Key, LastStatus, ServiceStatus, TaskKey, Timestamp};

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
}

impl RetentionPolicy {
    /// What [`crate::plan`] goes by.
    pub const DEFAULT: Self = Self {
        stopped_tasks: Duration::from_secs(3600),
        stopped_tasks_max: 5000,
        inactive: Duration::from_secs(3600),
        tokens: Duration::from_secs(24 * 3600),
    };
}

/// Deletes what nobody may ask for any more.
pub(crate) fn forget(pass: &mut Pass<'_>) {
    let policy = RetentionPolicy::DEFAULT;
    forget_tasks(pass, &policy);
    let state = pass.state;
    for found in state.services.values() {
        let service = &*found.value;
        if service.status == ServiceStatus::Inactive {
            let deleted = service.deleted_at.unwrap_or(service.created_at);
            expire(pass, deleted.after(policy.inactive), || Key::Service(service.id.clone()));
        }
    }
    for found in state.clusters.values() {
        let cluster = &*found.value;
        if cluster.status == ClusterStatus::Inactive {
            let deleted = cluster.deleted_at.unwrap_or(cluster.created_at);
            expire(pass, deleted.after(policy.inactive), || Key::Cluster(cluster.id.clone()));
        }
    }
    for found in state.tokens.values() {
        let token = &*found.value;
        expire(pass, token.at.after(policy.tokens), || Key::Token(token.id.clone()));
    }
}

fn forget_tasks(pass: &mut Pass<'_>, policy: &RetentionPolicy) {
    let mut kept: Vec<(Timestamp, TaskKey)> = Vec::new();
    for (key, found) in &pass.state.tasks {
        let task = &*found.value;
        if task.last_status == LastStatus::Stopped {
            let stopped = task.stopped_at.unwrap_or(task.created_at);
            if !expire(pass, stopped.after(policy.stopped_tasks), || Key::Task(key.clone())) {
                kept.push((stopped, key.clone()));
            }
        }
    }
    let surplus = kept.len().saturating_sub(policy.stopped_tasks_max);
    if surplus > 0 {
        kept.select_nth_unstable(surplus - 1);
        kept.truncate(surplus);
        kept.sort();
        kept.into_iter().for_each(|(_, key)| pass.delete(Key::Task(key)));
    }
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
