//! Tasks: one or more containers started, limited and stopped together.

use serde::{Deserialize, Serialize};

use crate::elb::TaskTarget;
use crate::ids::{
    ClusterId, ContainerId, ContainerName, DeploymentId, Family, NodeId, ServiceName, TaskDefinitionId,
    TaskId, TaskKey,
};
use crate::tags::Tags;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// Where a task is in its life. The order is the order of life: a task never goes back.
///
/// ```text
/// Provisioning ─▶ Pending ─▶ Activating ─▶ Running ─▶ Deactivating ─▶ Stopping ─▶ Deprovisioning ─▶ Stopped
///       │            │            └────────────────────────▲ (a stop or a failure skips ahead)          ▲
///       └────────────┴──────────────────────────────────────────────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LastStatus {
    /// Accepted; not yet placed on a node.
    Provisioning,
    /// Assigned to a node, which has not begun on it.
    Pending,
    /// Its images are being fetched, its containers started.
    Activating,
    /// Its containers have started.
    Running,
    /// It is taken out of the router and finishes its requests.
    Deactivating,
    /// Its containers are being stopped.
    Stopping,
    /// What it held on the node is being released.
    Deprovisioning,
    /// Over.
    Stopped,
}

/// What should become of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DesiredStatus {
    /// It should run.
    Running,
    /// It should stop.
    Stopped,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContainerStatus {
    /// Not started yet.
    Pending,
    /// Started.
    Running,
    /// Over.
    Stopped,
}

/// What a health check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthStatus {
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as its `retries` say.
    Unhealthy,
    /// There is no check, or none has ended yet.
    Unknown,
}

/// The kind of reason a task stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopCode {
    /// It never ran.
    TaskFailedToStart,
    /// One of its essential containers ended.
    EssentialContainerExited,
    /// Somebody called StopTask.
    UserInitiated,
    /// Its service needed it no longer.
    ServiceSchedulerInitiated,
    /// Its node went away under it.
    TerminationNotice,
    /// Spare capacity it ran on was taken back.
    SpotInterruption,
    /// What it ran on was found to be broken.
    InfrastructureHealth,
}

/// Why a task stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStop {
    /// The kind of reason.
    pub code: StopCode,
    /// The reason in words, as `stoppedReason` shows it.
    pub reason: String,
}

/// How CPU units are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LaunchType {
    /// Shares: idle CPU may be borrowed.
    Ec2,
    /// A hard cap.
    Fargate,
    /// As [`LaunchType::Ec2`].
    External,
}

/// Where a task gets its tags from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PropagateTags {
    /// From its task definition.
    TaskDefinition,
    /// From its service.
    Service,
    /// From neither.
    None,
}

/// What a task belongs to: the member `group`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskGroup {
    /// A service; prints as `service:NAME`.
    Service(ServiceName),
    /// A family, the default of RunTask; prints as `family:FAMILY`.
    Family(Family),
    /// What RunTask was given.
    Custom(String),
}

impl std::fmt::Display for TaskGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Family(family) => write!(f, "family:{family}"),
            Self::Custom(text) => f.write_str(text),
        }
    }
}

/// What RunTask changes of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerOverride {
    /// Which one; None only while a request without a name is on its way to being refused.
    pub name: Option<ContainerName>,
    /// Instead of the definition's `command`.
    pub command: Option<Vec<String>>,
    /// On top of the definition's `environment`.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Instead of the definition's CPU units.
    pub cpu: Option<u32>,
    /// Instead of the definition's hard memory cap, MiB.
    pub memory: Option<u32>,
    /// Instead of the definition's reservation, MiB.
    pub memory_reservation: Option<u32>,
    /// Members kept as sent: environmentFiles, resourceRequirements.
    #[serde(default)]
    pub rest: JsonMap,
}

/// What RunTask changes of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskOverride {
    /// By container.
    #[serde(default)]
    pub containers: Vec<ContainerOverride>,
    /// Instead of the definition's task-level CPU units.
    pub cpu: Option<u32>,
    /// Instead of the definition's task-level memory, MiB.
    pub memory: Option<u32>,
    /// Members kept as sent: taskRoleArn, executionRoleArn, ephemeralStorage, …
    #[serde(default)]
    pub rest: JsonMap,
}

/// One container of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name in the task definition.
    pub name: ContainerName,
    /// The component it runs, as the definition names it.
    pub image: String,
    /// Whether the task stops when it stops.
    pub essential: bool,
    /// Whether its definition has a health check.
    pub has_health_check: bool,
    /// Its state.
    pub status: ContainerStatus,
    /// Its exit code, once it has run and stopped.
    pub exit_code: Option<i32>,
    /// Why it stopped or could not start.
    pub reason: Option<String>,
    /// Its health.
    pub health: HealthStatus,
    /// The digest of the component it runs.
    pub image_digest: Option<String>,
    /// The id of its run on the node.
    pub runtime_id: Option<String>,
    /// CPU units, as effective in this task.
    pub cpu: u32,
    /// Hard memory cap, MiB.
    pub memory: Option<u32>,
    /// Memory reservation, MiB.
    pub memory_reservation: Option<u32>,
}

/// One or more containers started, limited and stopped together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its blueprint.
    pub task_definition: TaskDefinitionId,
    /// What it belongs to.
    pub group: TaskGroup,
    /// The deployment that started it, for a service's task.
    pub deployment: Option<DeploymentId>,
    /// `startedBy`: the deployment id, or what RunTask was given.
    pub started_by: Option<String>,
    /// How its CPU units are meant.
    pub launch_type: LaunchType,
    /// CPU units it reserves, overrides included.
    pub cpu: u32,
    /// Memory it reserves, MiB, overrides included.
    pub memory: u32,
    /// What RunTask changed.
    pub overrides: TaskOverride,
    /// The node it is assigned to, and that node's incarnation then.
    pub node: Option<(NodeId, u64)>,
    /// What should become of it.
    pub desired_status: DesiredStatus,
    /// Where it is.
    pub last_status: LastStatus,
    /// Why it stops or stopped.
    pub stop: Option<TaskStop>,
    /// Its containers, in the definition's order.
    pub containers: Vec<Container>,
    /// When it was accepted.
    pub created_at: Timestamp,
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
    /// Until when its service leaves it alone (task protection).
    #[serde(default)]
    pub protected_until: Option<Timestamp>,
    /// Grows by one with each change.
    pub version: u64,
    /// The target groups it is registered in.
    #[serde(default)]
    pub targets: Vec<TaskTarget>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent by RunTask: networkConfiguration, enableExecuteCommand, platformVersion,
    /// capacityProviderName, …
    #[serde(default)]
    pub rest: JsonMap,
}

impl Task {
    /// The key it is stored under.
    #[must_use]
    pub fn key(&self) -> TaskKey {
        TaskKey { cluster: self.cluster.clone(), id: self.id }
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match &self.group {
            TaskGroup::Service(name) if self.deployment.is_some() => Some(name),
            _ => None,
        }
    }

    /// Whether its service has to leave it alone at `now`.
    #[must_use]
    pub fn is_protected(&self, now: Timestamp) -> bool {
        self.protected_until.is_some_and(|until| now < until)
    }

    /// Whether it counts as running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.last_status == LastStatus::Running
    }

    /// Whether it counts as pending: it is to run, and does not yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.last_status < LastStatus::Running && self.desired_status == DesiredStatus::Running
    }

    /// Whether it still holds what it reserved on its node.
    #[must_use]
    pub fn holds_resources(&self) -> bool {
        self.last_status != LastStatus::Stopped
    }

    /// Marks it as to be stopped, unless it is already. The first reason stays. A task that is registered
    /// in target groups is DEACTIVATING until its requests have ended.
    pub fn stop(&mut self, stop: TaskStop, now: Timestamp) {
        if self.desired_status == DesiredStatus::Stopped {
            return;
        }
        self.desired_status = DesiredStatus::Stopped;
        self.stop.get_or_insert(stop);
        self.version += 1;
        for target in &mut self.targets {
            target.drain(now);
        }
        if !self.targets.is_empty() {
            self.last_status = self.last_status.max(LastStatus::Deactivating);
        }
        if self.node.is_none() {
            // No node knows of it, so nobody else will report its end.
            self.end(now);
        }
    }

    /// Marks it as over at `now`, with what its containers had reached.
    pub fn end(&mut self, now: Timestamp) {
        self.desired_status = DesiredStatus::Stopped;
        self.last_status = LastStatus::Stopped;
        self.stopping_at.get_or_insert(now);
        self.execution_stopped_at.get_or_insert(now);
        self.stopped_at.get_or_insert(now);
        self.targets.clear();
        for container in &mut self.containers {
            container.status = ContainerStatus::Stopped;
        }
        self.version += 1;
    }
}
