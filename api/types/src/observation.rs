//! What a node reports of its tasks, and how a task's record takes it in.

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerName, TaskId};
use crate::task::{ContainerStatus, DesiredStatus, HealthStatus, LastStatus, Task, TaskStop};
use crate::time::Timestamp;

/// One container, as its node last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerObservation {
    /// Which one.
    pub name: ContainerName,
    /// Its state.
    pub status: ContainerStatus,
    /// Its exit code, once it has run and stopped.
    pub exit_code: Option<i32>,
    /// Why it stopped or could not start, in words.
    pub reason: Option<String>,
    /// Its health.
    pub health: HealthStatus,
    /// The digest of the component it runs, `sha256:…`.
    pub image_digest: Option<String>,
    /// The id of its run on the node.
    pub runtime_id: Option<String>,
}

/// One task, as its node last saw it: the whole picture, so a later one replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskObservation {
    /// Which one.
    pub task: TaskId,
    /// Its state.
    pub status: LastStatus,
    /// Why it stops, once that is known to the node.
    pub stop: Option<TaskStop>,
    /// When the first image pull began.
    pub pull_started_at: Option<Timestamp>,
    /// When the last image pull ended.
    pub pull_stopped_at: Option<Timestamp>,
    /// When it became RUNNING.
    pub started_at: Option<Timestamp>,
    /// When it began to stop.
    pub stopping_at: Option<Timestamp>,
    /// When its last container ended.
    pub execution_stopped_at: Option<Timestamp>,
    /// When it was STOPPED.
    pub stopped_at: Option<Timestamp>,
    /// Its containers.
    pub containers: Vec<ContainerObservation>,
}

impl TaskObservation {
    /// What a node reports of a task it has only just been given.
    #[must_use]
    pub fn unseen(task: &Task) -> Self {
        let unseen = |name: &ContainerName| ContainerObservation {
            name: name.clone(),
            status: ContainerStatus::Pending,
            exit_code: None,
            reason: None,
            health: HealthStatus::Unknown,
            image_digest: None,
            runtime_id: None,
        };
        Self {
            task: task.id,
            status: LastStatus::Pending,
            stop: None,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            stopping_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            containers: task.containers.iter().map(|container| unseen(&container.name)).collect(),
        }
    }
}

impl Task {
    /// Takes in what the node saw, and says whether anything changed. A state never goes back: an
    /// observation that is older than what is known changes nothing.
    pub fn observe(&mut self, seen: &TaskObservation) -> bool {
        if seen.task != self.id || seen.status < self.last_status || self.last_status == LastStatus::Stopped {
            return false;
        }
        let before = self.clone();
        self.last_status = seen.status;
        self.pull_started_at = self.pull_started_at.or(seen.pull_started_at);
        self.pull_stopped_at = self.pull_stopped_at.or(seen.pull_stopped_at);
        self.started_at = self.started_at.or(seen.started_at);
        self.stopping_at = self.stopping_at.or(seen.stopping_at);
        self.execution_stopped_at = self.execution_stopped_at.or(seen.execution_stopped_at);
        self.stopped_at = self.stopped_at.or(seen.stopped_at);
        if seen.status >= LastStatus::Deactivating {
            self.desired_status = DesiredStatus::Stopped;
        }
        if seen.status == LastStatus::Stopped {
            self.targets.clear();
        }
        // Whoever decided first to stop it is the reason: a user's stop is not overwritten by the exit
        // code it caused.
        if self.stop.is_none() {
            self.stop.clone_from(&seen.stop);
        }
        for container in &mut self.containers {
            if let Some(seen) = seen.containers.iter().find(|seen| seen.name == container.name) {
                container.status = seen.status;
                container.exit_code = seen.exit_code;
                container.reason.clone_from(&seen.reason);
                container.health = seen.health;
                container.image_digest.clone_from(&seen.image_digest);
                container.runtime_id.clone_from(&seen.runtime_id);
            }
        }
        let changed = *self != before;
        if changed {
            self.version += 1;
        }
        changed
    }

    /// Its health: that of its essential containers that have a check; UNKNOWN when none has.
    #[must_use]
    pub fn health(&self) -> HealthStatus {
        let mut health = HealthStatus::Unknown;
        for container in
            self.containers.iter().filter(|container| container.essential && container.has_health_check)
        {
            match container.health {
                HealthStatus::Unhealthy => return HealthStatus::Unhealthy,
                HealthStatus::Unknown => return HealthStatus::Unknown,
                HealthStatus::Healthy => health = HealthStatus::Healthy,
            }
        }
        health
    }
}
