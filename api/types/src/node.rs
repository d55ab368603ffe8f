//! Nodes: processes that run tasks. ECS calls one a container instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeId};
use crate::tags::Tags;
use crate::task::Task;
use crate::task_definition::{JsonMap, TaskDefinition};
use crate::time::Timestamp;

/// Names of attributes every node has.
pub mod attribute {
    /// The availability zone.
    pub const ZONE: &str = "ecs.availability-zone";
    /// `linux`.
    pub const OS_TYPE: &str = "ecs.os-type";
    /// `x86_64` or `arm64`.
    pub const CPU_ARCHITECTURE: &str = "ecs.cpu-architecture";
    /// The instance type.
    pub const INSTANCE_TYPE: &str = "ecs.instance-type";
}

/// Whether a node takes tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeStatus {
    /// It does.
    #[default]
    Active,
    /// It takes no new ones, and services move theirs elsewhere.
    Draining,
    /// Deregistered: it takes none, and those it has are lost.
    Inactive,
}

fn yes() -> bool {
    true
}

/// What a node offers, as it last registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id, kept over restarts.
    pub id: NodeId,
    /// CPU units it offers; 1024 are one vCPU.
    pub cpu_units: u32,
    /// Memory it offers, in MiB.
    pub memory_mib: u32,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Grows by one each time the node's process starts. A task that was assigned to an earlier
    /// incarnation and was not reported stopped died with it.
    pub incarnation: u64,
    /// Whether it takes tasks.
    #[serde(default)]
    pub status: NodeStatus,
    /// Whether its process is in contact. One that is not gets no new tasks; those it has go on.
    #[serde(default = "yes")]
    pub agent_connected: bool,
    /// Its attributes, those every node has and those people put on it; a value may be absent.
    #[serde(default)]
    pub attributes: BTreeMap<String, Option<String>>,
    /// Host ports nobody may have.
    #[serde(default)]
    pub reserved_ports: Vec<u16>,
    /// The capacity provider it belongs to.
    #[serde(default)]
    pub capacity_provider: Option<String>,
    /// The only cluster it serves; None serves every one.
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent.
    #[serde(default)]
    pub rest: JsonMap,
}

impl Node {
    /// An ACTIVE node without attributes that serves every cluster.
    #[must_use]
    pub fn new(
        id: NodeId,
        cpu_units: u32,
        memory_mib: u32,
        registered_at: Timestamp,
        incarnation: u64,
    ) -> Self {
        Self {
            id,
            cpu_units,
            memory_mib,
            registered_at,
            incarnation,
            status: NodeStatus::Active,
            agent_connected: true,
            attributes: BTreeMap::new(),
            reserved_ports: Vec::new(),
            capacity_provider: None,
            cluster: None,
            tags: Tags::default(),
            rest: JsonMap::new(),
        }
    }

    /// The value of an attribute; None when it has no such one, or one without a value.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_deref()
    }

    /// Whether tasks of `cluster` may go to it.
    #[must_use]
    pub fn serves(&self, cluster: &ClusterId) -> bool {
        self.cluster.as_ref().is_none_or(|only| only == cluster)
    }
}

/// One task a node should run or stop.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedTask {
    /// The task, with what should become of it.
    pub task: Arc<Task>,
    /// Its blueprint.
    pub definition: Arc<TaskDefinition>,
}

/// Everything a node should be running or stopping. A task that is no longer in it, and has not been
/// reported stopped, is to be killed and forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// Grows with each change; an older one is refused.
    pub generation: u64,
    /// The tasks, in no particular order.
    pub tasks: Vec<AssignedTask>,
}
