//! New deployments, and what is said about their rollout.

use coracle_types::{
    Deployment, DeploymentId, DeploymentStatus, JsonMap, LaunchType, RolloutState, TaskDefinitionId,
    Timestamp,
};

use crate::rng::PlanRng;

/// What a new deployment is made of.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// What it brings.
    pub task_definition: TaskDefinitionId,
    /// How its tasks' CPU units are meant.
    pub launch_type: LaunchType,
    /// How many of its tasks should run.
    pub desired_count: u32,
    /// Members kept as sent.
    pub rest: JsonMap,
}

/// A PRIMARY deployment that begins at `now`; [`coracle_types::Service::deploy`] takes it.
#[must_use]
pub fn new_deployment(new: NewDeployment, now: Timestamp, rng: &mut PlanRng) -> Deployment {
    let id = rng.deployment_id();
    Deployment {
        id,
        status: DeploymentStatus::Primary,
        task_definition: new.task_definition,
        launch_type: new.launch_type,
        desired_count: new.desired_count,
        failed_tasks: 0,
        rollout_state: RolloutState::InProgress,
        rollout_state_reason: in_progress_reason(id),
        created_at: now,
        updated_at: now,
        rest: new.rest,
    }
}

/// `rolloutStateReason` of a deployment that is under way.
#[must_use]
pub fn in_progress_reason(id: DeploymentId) -> String {
    format!("ECS deployment {id} in progress.")
}

/// `rolloutStateReason` of a deployment that is done.
#[must_use]
pub fn completed_reason(id: DeploymentId) -> String {
    format!("ECS deployment {id} completed.")
}

/// `rolloutStateReason` of a deployment the circuit breaker gave up.
pub(crate) const FAILED_REASON: &str = "ECS deployment circuit breaker: tasks failed to start.";

/// `rolloutStateReason` of a deployment the circuit breaker gave up for the one before.
pub(crate) fn rolling_back_reason(to: DeploymentId) -> String {
    format!("ECS deployment circuit breaker: rolling back to deploymentId {to}.")
}
