//! Task sets: the parts of a service whose deployments somebody outside directs.

use serde::{Deserialize, Serialize};

use crate::ids::{DeploymentId, TaskDefinitionId};
use crate::tags::Tags;
use crate::task::LaunchType;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// What a task set is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskSetStatus {
    /// Production traffic goes to it.
    Primary,
    /// It may become the PRIMARY one.
    Active,
    /// Deleted; its last tasks are stopping.
    Draining,
}

impl TaskSetStatus {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
        }
    }
}

/// Part of a service: a number of tasks of one definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSet {
    /// Its id; its tasks have it as their deployment.
    pub id: DeploymentId,
    /// What it is to its service.
    pub status: TaskSetStatus,
    /// Of what.
    pub task_definition: TaskDefinitionId,
    /// How the tasks' CPU units are meant.
    pub launch_type: LaunchType,
    /// Whether the launch type came from a capacity provider strategy, and so is not shown.
    #[serde(default)]
    pub launch_type_hidden: bool,
    /// `externalId`.
    pub external_id: Option<String>,
    /// `startedBy`.
    pub started_by: Option<String>,
    /// `scale`: percent of the service's desired count, 0 to 100.
    pub scale_percent: f64,
    /// How many tasks that is; kept up by the scheduler.
    pub computed_desired_count: u32,
    /// Whether it has them all, RUNNING and none stopping (STEADY_STATE); it is STABILIZING otherwise.
    pub steady: bool,
    /// Since when.
    pub steady_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent: networkConfiguration, loadBalancers, capacityProviderStrategy, …
    #[serde(default)]
    pub rest: JsonMap,
}

impl TaskSet {
    /// How many tasks its scale means of a service that should have `desired`: rounded up, as ECS does.
    #[must_use]
    pub fn desired_of(&self, desired: u32) -> u32 {
        if self.status == TaskSetStatus::Draining {
            return 0;
        }
        let exact = f64::from(desired) * self.scale_percent.clamp(0.0, 100.0) / 100.0;
        // At most `desired`, so the conversion is exact.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a u32")]
        let rounded = exact.ceil() as u32;
        rounded
    }
}
