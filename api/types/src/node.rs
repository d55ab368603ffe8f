//! Nodes: processes that run tasks. ECS calls one a container instance.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::task::Task;
use crate::task_definition::TaskDefinition;
use crate::time::Timestamp;

/// What a node offers, as it last registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
