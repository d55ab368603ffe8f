//! Task definitions: immutable, numbered blueprints of tasks.
//!
//! Members Coracle gives a meaning are typed; all others are kept as they were sent (`rest`) and
//! returned, so that a definition round-trips whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerName, FamilyId, TaskDefinitionId};
use crate::tags::Tags;
use crate::time::Timestamp;

/// A JSON object kept as it was sent.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;

/// The hard memory cap, in MiB, of a task whose definition names no memory at all.
pub const DEFAULT_MEMORY_MIB: u32 = 512;

/// How long a container gets to stop, in seconds, when its definition does not say (ECS's default).
pub const DEFAULT_STOP_TIMEOUT_S: u32 = 30;

/// What a family knows: the number its next revision gets. Numbers are never used twice, also when
/// every revision is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// The family.
    pub id: FamilyId,
    /// The highest revision ever registered.
    pub latest: u32,
}

/// Whether a task definition may start new tasks and services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskDefinitionStatus {
    /// It may.
    Active,
    /// Deregistered: what runs goes on; nothing new may name it.
    Inactive,
    /// Being deleted.
    DeleteInProgress,
}

/// `networkMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// A private network per task.
    Awsvpc,
    /// Mapped ports.
    Bridge,
    /// The node's own network.
    Host,
    /// None.
    None,
}

/// One of `requiresCompatibilities`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compatibility {
    /// CPU units are shares.
    Ec2,
    /// CPU units are a hard cap.
    Fargate,
    /// An instance outside AWS; as EC2.
    External,
    /// Kept and returned.
    ManagedInstances,
}

/// One of `portMappings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The port the container listens on.
    pub container_port: Option<u16>,
    /// Members kept as sent: hostPort, protocol, name, appProtocol, containerPortRange.
    #[serde(default)]
    pub rest: JsonMap,
}

/// What a container waits for in another one before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyCondition {
    /// It has started.
    Start,
    /// It has run to its end, with whatever exit code.
    Complete,
    /// It has run to its end with exit code 0.
    Success,
    /// Its health check has passed.
    Healthy,
}

/// One of `dependsOn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The container waited for.
    pub container: ContainerName,
    /// What for.
    pub condition: DependencyCondition,
}

/// `healthCheck` of a container. Durations are seconds, with ECS's ranges and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `["CMD", …]` or `["CMD-SHELL", "…"]`.
    pub command: Vec<String>,
    /// Seconds between checks: 5 to 300, default 30.
    pub interval_s: u32,
    /// Seconds a check may take: 2 to 120, default 5.
    pub timeout_s: u32,
    /// Consecutive failures that make it unhealthy: 1 to 10, default 3.
    pub retries: u32,
    /// Seconds after the start in which failures do not count: 0 to 300, default 0.
    pub start_period_s: u32,
}

/// `logConfiguration` of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfiguration {
    /// `awslogs`, `none`, or another driver's name, which is kept and treated as the built-in store.
    pub driver: String,
    /// The driver's options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Members kept as sent: secretOptions.
    #[serde(default)]
    pub rest: JsonMap,
}

/// One of `mountPoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The name of one of the task definition's volumes.
    pub source_volume: String,
    /// Where the container sees it.
    pub container_path: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// One of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name in the task definition.
    pub name: String,
    /// `host.sourcePath`: a directory of the node. Without one the volume is the task's own and goes
    /// with it, unless `rest` makes it shared.
    pub host_path: Option<String>,
    /// Members kept as sent: efsVolumeConfiguration, dockerVolumeConfiguration, …
    #[serde(default)]
    pub rest: JsonMap,
}

/// One container of a task definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerDefinition {
    /// Its name, unique in the task definition.
    pub name: ContainerName,
    /// The component it runs.
    pub image: String,
    /// CPU units it is guaranteed of the task's; 0 when not given.
    pub cpu: u32,
    /// Its hard memory cap in MiB.
    pub memory: Option<u32>,
    /// The memory the scheduler reserves for it, in MiB.
    pub memory_reservation: Option<u32>,
    /// Whether the task stops when it stops.
    pub essential: bool,
    /// `entryPoint`: the arguments before `command`.
    #[serde(default)]
    pub entry_point: Vec<String>,
    /// `command`: the arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables in the order they were given.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// The ports it listens on.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// What it waits for.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// Seconds it gets to reach the condition others wait for; None is no limit.
    pub start_timeout_s: Option<u32>,
    /// Seconds it gets to stop.
    pub stop_timeout_s: Option<u32>,
    /// How its health is found out.
    pub health_check: Option<HealthCheck>,
    /// Where its output goes.
    pub log_configuration: Option<LogConfiguration>,
    /// The volumes it sees.
    #[serde(default)]
    pub mount_points: Vec<MountPoint>,
    /// Labels; those with the prefix `coracle.` have a meaning here.
    #[serde(default)]
    pub docker_labels: BTreeMap<String, String>,
    /// Members kept as sent.
    #[serde(default)]
    pub rest: JsonMap,
}

impl ContainerDefinition {
    /// An essential container that is given nothing but its component.
    #[must_use]
    pub fn new(name: ContainerName, image: impl Into<String>) -> Self {
        Self {
            name,
            image: image.into(),
            cpu: 0,
            memory: None,
            memory_reservation: None,
            essential: true,
            entry_point: Vec::new(),
            command: Vec::new(),
            environment: Vec::new(),
            port_mappings: Vec::new(),
            depends_on: Vec::new(),
            start_timeout_s: None,
            stop_timeout_s: None,
            health_check: None,
            log_configuration: None,
            mount_points: Vec::new(),
            docker_labels: BTreeMap::new(),
            rest: JsonMap::new(),
        }
    }
}

/// An immutable, numbered blueprint of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// Its family and number.
    pub id: TaskDefinitionId,
    /// Whether it may start new tasks.
    pub status: TaskDefinitionStatus,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it was deregistered.
    pub deregistered_at: Option<Timestamp>,
    /// Task-level CPU units.
    pub cpu: Option<u32>,
    /// Task-level memory in MiB.
    pub memory: Option<u32>,
    /// `networkMode`; None when not given (ECS then means bridge).
    pub network_mode: Option<NetworkMode>,
    /// What it asked to be checked against.
    #[serde(default)]
    pub requires_compatibilities: Vec<Compatibility>,
    /// Its containers, at least one.
    pub containers: Vec<ContainerDefinition>,
    /// Its volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent.
    #[serde(default)]
    pub rest: JsonMap,
}

impl TaskDefinition {
    /// One that is active and says nothing beside its containers.
    #[must_use]
    pub fn new(id: TaskDefinitionId, registered_at: Timestamp, containers: Vec<ContainerDefinition>) -> Self {
        Self {
            id,
            status: TaskDefinitionStatus::Active,
            registered_at,
            deregistered_at: None,
            cpu: None,
            memory: None,
            network_mode: None,
            requires_compatibilities: Vec::new(),
            containers,
            volumes: Vec::new(),
            tags: Tags::default(),
            rest: JsonMap::new(),
        }
    }

    /// The container with this name.
    #[must_use]
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerDefinition> {
        self.containers.iter().find(|container| container.name == *name)
    }

    /// CPU units a task of it reserves: its own, else the sum of its containers'.
    #[must_use]
    pub fn reserved_cpu(&self) -> u32 {
        self.cpu.unwrap_or_else(|| {
            self.containers.iter().fold(0u32, |sum, container| sum.saturating_add(container.cpu))
        })
    }

    /// Memory in MiB a task of it reserves: its own, else the sum of its containers' reservations
    /// (or caps), else [`DEFAULT_MEMORY_MIB`].
    #[must_use]
    pub fn reserved_memory(&self) -> u32 {
        self.memory.unwrap_or_else(|| {
            self.containers.iter().fold(0u32, |sum, container| {
                let one = container.memory_reservation.or(container.memory).unwrap_or(DEFAULT_MEMORY_MIB);
                sum.saturating_add(one)
            })
        })
    }
}
