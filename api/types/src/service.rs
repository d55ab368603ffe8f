//! Services: they keep `desired_count` tasks of a task definition running.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ids::{
    DeploymentId, EventId, Family, Region, ServiceDeploymentId, ServiceId, ServiceRevisionId,
    TaskDefinitionId,
};
use crate::load_balancer::ServiceLoadBalancer;
use crate::tags::Tags;
use crate::task::{LaunchType, PropagateTags};
use crate::task_definition::JsonMap;
use crate::task_set::TaskSet;
use crate::time::Timestamp;

/// At most this many events are kept for a service (ECS shows 100).
pub const MAX_EVENTS: usize = 100;

/// Whether a service keeps tasks running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceStatus {
    /// It does.
    Active,
    /// Deleted; its last tasks are stopping.
    Draining,
    /// Deleted; nothing of it runs, and its name may be used again.
    Inactive,
}

/// How many tasks a service means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SchedulingStrategy {
    /// `desired_count` in all.
    Replica,
    /// One on each node.
    Daemon,
}

/// Whether a deployment is the newest of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeploymentStatus {
    /// The newest.
    Primary,
    /// One being replaced.
    Active,
}

/// How far a deployment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RolloutState {
    /// Its tasks are being started, older ones stopped.
    InProgress,
    /// All of its tasks run and no older one does.
    Completed,
    /// The circuit breaker gave it up.
    Failed,
}

/// One attempt to bring a service to one task definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Whether it is the newest.
    pub status: DeploymentStatus,
    /// What it brings.
    pub task_definition: TaskDefinitionId,
    /// How its tasks' CPU units are meant.
    pub launch_type: LaunchType,
    /// How many of its tasks should run.
    pub desired_count: u32,
    /// Tasks in a row that failed to start; 0 again with the first that runs.
    pub failed_tasks: u32,
    /// How far it has come.
    pub rollout_state: RolloutState,
    /// The same in words.
    pub rollout_state_reason: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The record of it that stays when it has been replaced.
    #[serde(default)]
    pub service_deployment: Option<ServiceDeploymentId>,
    /// What it brings, as a record.
    #[serde(default)]
    pub revision: Option<ServiceRevisionId>,
    /// Whether its tasks are registered in the alternate target groups.
    #[serde(default)]
    pub alternate: bool,
    /// Members kept as sent: networkConfiguration, platformVersion, capacityProviderStrategy, …
    #[serde(default)]
    pub rest: JsonMap,
}

/// `thresholdConfiguration`: how many failures give a deployment up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureThreshold {
    /// Percent of the desired count, at least 3 and at most 200 tasks.
    BoundedPercent(u32),
    /// Percent of the desired count, at least one task.
    UnboundedPercent(u32),
    /// This many tasks.
    Count(u32),
}

impl Default for FailureThreshold {
    fn default() -> Self {
        Self::BoundedPercent(50)
    }
}

fn yes() -> bool {
    true
}

/// `deploymentCircuitBreaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Whether a failing deployment is given up.
    pub enable: bool,
    /// Whether the last completed one is then brought back.
    pub rollback: bool,
    /// How many failures that takes.
    #[serde(default)]
    pub threshold: FailureThreshold,
    /// Whether a task that becomes healthy makes the failures before it forgotten.
    #[serde(default = "yes")]
    pub reset_on_healthy_task: bool,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            enable: false,
            rollback: false,
            threshold: FailureThreshold::default(),
            reset_on_healthy_task: true,
        }
    }
}

/// `deploymentConfiguration`, with ECS's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentConfiguration {
    /// Lower bound of RUNNING tasks during a deployment, in percent of the desired count, rounded up.
    pub minimum_healthy_percent: u32,
    /// Upper bound of RUNNING and PENDING tasks, in percent of the desired count, rounded down.
    pub maximum_percent: u32,
    /// When to give up.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// Members kept as sent: alarms, strategy, bakeTimeInMinutes, lifecycleHooks.
    #[serde(default)]
    pub rest: JsonMap,
}

impl Default for DeploymentConfiguration {
    fn default() -> Self {
        Self {
            minimum_healthy_percent: 100,
            maximum_percent: 200,
            circuit_breaker: CircuitBreaker::default(),
            rest: JsonMap::new(),
        }
    }
}

/// Something that happened to a service, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// Its id.
    pub id: EventId,
    /// When.
    pub created_at: Timestamp,
    /// What.
    pub message: String,
}

/// How long a service waits before it starts tasks again, after some failed to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchBackoff {
    /// Tasks in a row that stopped without ever having run.
    pub consecutive_failures: u32,
    /// Waits in a row after such failures: tasks that were started together count once.
    #[serde(default)]
    pub failed_rounds: u32,
    /// Waits in a row after tasks that ran, but stopped right after they had started.
    #[serde(default)]
    pub short_rounds: u32,
    /// No task is started before this.
    pub not_before: Timestamp,
}

/// Keeps `desired_count` tasks of a task definition running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name and cluster.
    pub id: ServiceId,
    /// Whether it keeps tasks running.
    pub status: ServiceStatus,
    /// How many it should keep.
    pub desired_count: u32,
    /// How many it means by that.
    pub scheduling_strategy: SchedulingStrategy,
    /// Of what.
    pub task_definition: TaskDefinitionId,
    /// How their CPU units are meant.
    pub launch_type: LaunchType,
    /// Whether the launch type came from a capacity provider strategy, and so is not shown.
    #[serde(default)]
    pub launch_type_hidden: bool,
    /// How it rolls.
    pub deployment_configuration: DeploymentConfiguration,
    /// Its deployments, the newest first. One is PRIMARY; the others are being replaced.
    pub deployments: Vec<Deployment>,
    /// The definition of the last deployment that completed: what a rollback goes back to.
    pub last_completed: Option<TaskDefinitionId>,
    /// The same as a record, with everything else that belongs to it.
    #[serde(default)]
    pub last_completed_revision: Option<ServiceRevisionId>,
    /// Its parts, when somebody outside directs its deployments. The newest last.
    #[serde(default)]
    pub task_sets: Vec<TaskSet>,
    /// What happened, the newest first, at most [`MAX_EVENTS`].
    #[serde(default)]
    pub events: VecDeque<ServiceEvent>,
    /// Whether the last thing said was that it is steady.
    #[serde(default)]
    pub steady: bool,
    /// Whether it waits before starting tasks.
    #[serde(default)]
    pub backoff: LaunchBackoff,
    /// Tasks whose records were written up to this revision of the state were counted as failures or
    /// not. A revision, because components end in microseconds and milliseconds would tie.
    #[serde(default)]
    pub failures_counted_to: u64,
    /// Where its tasks get tags from.
    pub propagate_tags: PropagateTags,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent: loadBalancers, serviceRegistries, networkConfiguration, role,
    /// placementConstraints, placementStrategy, healthCheckGracePeriodSeconds, …
    #[serde(default)]
    pub rest: JsonMap,
}

impl Service {
    /// What the task definition of a service is that has none yet: it gets one with its first PRIMARY task set.
    #[must_use]
    pub fn no_definition(region: &Region) -> TaskDefinitionId {
        TaskDefinitionId { region: region.clone(), family: Family::none(), revision: 0 }
    }

    /// Whether it has a task definition.
    #[must_use]
    pub fn has_definition(&self) -> bool {
        self.task_definition.revision > 0
    }

    /// Its newest deployment. None only once it is INACTIVE.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == DeploymentStatus::Primary)
    }

    /// The load balancers a task of this deployment (or task set) is registered by: with the task set's own
    /// ones, and with the alternate target groups where the deployment is the other one of a pair.
    #[must_use]
    pub fn load_balancers_of(&self, deployment: DeploymentId) -> Vec<ServiceLoadBalancer> {
        if let Some(set) = self.task_sets.iter().find(|set| set.id == deployment) {
            return ServiceLoadBalancer::all(&set.rest);
        }
        let of = self.deployments.iter().find(|one| one.id == deployment);
        let balancers = ServiceLoadBalancer::all(&self.rest);
        if of.is_some_and(|one| one.alternate) {
            balancers.into_iter().map(ServiceLoadBalancer::alternate).collect()
        } else {
            balancers
        }
    }

    /// `healthCheckGracePeriodSeconds`.
    #[must_use]
    pub fn health_check_grace(&self) -> std::time::Duration {
        let seconds = self.rest.get("healthCheckGracePeriodSeconds").and_then(serde_json::Value::as_u64);
        std::time::Duration::from_secs(seconds.unwrap_or(0))
    }

    /// Adds an event as the newest, dropping the oldest past [`MAX_EVENTS`].
    pub fn push_event(&mut self, event: ServiceEvent) {
        self.events.push_front(event);
        self.events.truncate(MAX_EVENTS);
    }

    /// Makes `deployment` the PRIMARY one; the others are being replaced from now on.
    pub fn deploy(&mut self, deployment: Deployment) {
        for older in &mut self.deployments {
            older.status = DeploymentStatus::Active;
            older.updated_at = deployment.created_at;
        }
        self.task_definition = deployment.task_definition.clone();
        self.deployments.insert(0, deployment);
        self.steady = false;
        self.backoff = LaunchBackoff::default();
    }
}
