//! Targets: what a target group sends requests to, and what the router reports of them.

use serde::{Deserialize, Serialize};

use super::health::{TargetHealth, TargetHealthState};
use super::ids::TargetGroupId;
use crate::ids::{ContainerName, TaskKey};
use crate::task::Task;
use crate::time::Timestamp;

/// A target that was registered by hand, by its group first, so that a group's targets are one range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId {
    /// The group it is registered in.
    pub group: TargetGroupId,
    /// Its address, or whatever the group's type names it by, as sent.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// A target that was registered by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it is registered, and where it is.
    pub id: TargetId,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it was deregistered; it then stays until its requests have ended.
    #[serde(default)]
    pub draining_since: Option<Timestamp>,
    /// `AvailabilityZone`, as sent.
    #[serde(default)]
    pub zone: Option<String>,
    /// What the router last saw.
    pub health: TargetHealth,
}

/// A task's registration in one target group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTarget {
    /// The group.
    pub group: TargetGroupId,
    /// The container that answers.
    pub container: ContainerName,
    /// Its port.
    pub port: u16,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it was deregistered; it then stays until its requests have ended.
    #[serde(default)]
    pub draining_since: Option<Timestamp>,
    /// What the router last saw.
    pub health: TargetHealth,
}

impl TaskTarget {
    /// A registration that begins now.
    #[must_use]
    pub fn new(group: TargetGroupId, container: ContainerName, port: u16, now: Timestamp) -> Self {
        let health = TargetHealth::registering(now);
        Self { group, container, port, registered_at: now, draining_since: None, health }
    }

    /// From now on it gets no new requests. Says whether that is new.
    pub fn drain(&mut self, now: Timestamp) -> bool {
        if self.draining_since.is_some() {
            return false;
        }
        self.draining_since = Some(now);
        self.health = TargetHealth::draining(now);
        true
    }
}

impl Task {
    /// How its targets are, the worst of them: None when it is registered nowhere, or only draining.
    #[must_use]
    pub fn target_health(&self) -> Option<TargetHealthState> {
        let worst = |state: TargetHealthState| match state {
            TargetHealthState::Unhealthy => 0,
            TargetHealthState::Initial => 1,
            TargetHealthState::Draining => 2,
            TargetHealthState::Unused => 3,
            TargetHealthState::Unavailable => 4,
            TargetHealthState::Healthy => 5,
        };
        let live = self.targets.iter().filter(|target| target.draining_since.is_none());
        live.map(|target| target.health.state).min_by_key(|state| worst(*state))
    }
}

/// A registration, of whichever kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetRef {
    /// Of an address.
    Static(TargetId),
    /// Of a task's port.
    Task {
        /// The group.
        group: TargetGroupId,
        /// The task.
        task: TaskKey,
        /// The port.
        port: u16,
    },
}

impl TargetRef {
    /// The group it is in.
    #[must_use]
    pub fn group(&self) -> &TargetGroupId {
        match self {
            Self::Static(id) => &id.group,
            Self::Task { group, .. } => group,
        }
    }
}

/// A target's health has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetObservation {
    /// Which one.
    pub target: TargetRef,
    /// How it is now.
    pub health: TargetHealth,
}

/// A deregistered target has no requests any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainedTarget {
    /// Which one.
    pub target: TargetRef,
    /// When it was deregistered: one that was registered again since is another registration.
    pub draining_since: Timestamp,
}

/// What the router tells of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetReport {
    /// Its health has changed.
    Health(TargetObservation),
    /// It has no requests any more and can be forgotten.
    Drained(DrainedTarget),
}

impl TargetReport {
    /// The target it is of.
    #[must_use]
    pub fn target(&self) -> &TargetRef {
        match self {
            Self::Health(seen) => &seen.target,
            Self::Drained(drained) => &drained.target,
        }
    }
}
