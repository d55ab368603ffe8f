//! What nodes have left, and the choice among them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use coracle_types::{NodeId, State, Task};

/// What is free on each node. Placing takes from it, so that the placements of one plan see each other.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    nodes: BTreeMap<NodeId, Free>,
    ranks: BTreeSet<Rank>,
}

#[derive(Clone, Copy, Debug)]
struct Free {
    incarnation: u64,
    cpu: u32,
    memory: u32,
}

/// The order nodes are tried in; the order of the fields is the order of what matters. Most free memory
/// first spreads tasks, because memory is what can't be borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    memory: Reverse<u32>,
    cpu: Reverse<u32>,
    node: NodeId,
}

impl Rank {
    fn of(node: NodeId, free: Free) -> Self {
        Self { memory: Reverse(free.memory), cpu: Reverse(free.cpu), node }
    }
}

/// Why no node takes a task. `Display` is ECS's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplaceable {
    /// There are no nodes.
    NoNodes,
    /// No node has the CPU units.
    Cpu {
        /// The node that is nearest to having them.
        closest: NodeId,
    },
    /// No node has the memory.
    Memory {
        /// The node that is nearest to having it.
        closest: NodeId,
    },
}

impl Unplaceable {
    /// What is short, as RunTask's `failures` name it.
    #[must_use]
    pub fn failure(&self) -> &'static str {
        match self {
            Self::NoNodes => "AGENT",
            Self::Cpu { .. } => "RESOURCE:CPU",
            Self::Memory { .. } => "RESOURCE:MEMORY",
        }
    }
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodes => f.write_str("No Container Instances were found in your cluster."),
            Self::Cpu { closest } => {
                write!(
                    f,
                    "The closest matching container-instance {closest} has insufficient CPU units available."
                )
            }
            Self::Memory { closest } => {
                write!(
                    f,
                    "The closest matching container-instance {closest} has insufficient memory available."
                )
            }
        }
    }
}

/// The incarnation of the node a task really occupies: None when it is on none, or died with an earlier
/// incarnation of it.
pub(crate) fn occupied(state: &State, task: &Task) -> Option<NodeId> {
    let (node, incarnation) = task.node?;
    let found = state.nodes.get(&node)?;
    (task.holds_resources() && found.value.incarnation == incarnation).then_some(node)
}

impl Capacity {
    /// What `state` leaves free. A task keeps what it reserved until it is STOPPED.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut nodes: BTreeMap<NodeId, Free> = state
            .nodes
            .values()
            .map(|found| {
                let node = &found.value;
                let free =
                    Free { incarnation: node.incarnation, cpu: node.cpu_units, memory: node.memory_mib };
                (node.id, free)
            })
            .collect();
        for found in state.tasks.values() {
            let task = &found.value;
            if let Some(free) = occupied(state, task).and_then(|node| nodes.get_mut(&node)) {
                free.cpu = free.cpu.saturating_sub(task.cpu);
                free.memory = free.memory.saturating_sub(task.memory);
            }
        }
        let ranks = nodes.iter().map(|(&node, &free)| Rank::of(node, free)).collect();
        Self { nodes, ranks }
    }

    /// Takes CPU units and MiB of memory from the first node, in rank order, that has both, and says
    /// which node, and which incarnation of it.
    ///
    /// # Errors
    /// What is short.
    pub fn place(&mut self, cpu: u32, memory_mib: u32) -> Result<(NodeId, u64), Unplaceable> {
        let first = self.ranks.first().ok_or(Unplaceable::NoNodes)?;
        if first.memory.0 < memory_mib {
            return Err(Unplaceable::Memory { closest: first.node });
        }
        let closest = first.node;
        let node = self
            .ranks
            .iter()
            .take_while(|rank| rank.memory.0 >= memory_mib)
            .find(|rank| rank.cpu.0 >= cpu)
            .ok_or(Unplaceable::Cpu { closest })?
            .node;
        self.place_on(node, cpu, memory_mib)
    }

    /// Takes CPU units and MiB of memory from one node.
    ///
    /// # Errors
    /// What is short there, or that there is no such node.
    pub fn place_on(
        &mut self,
        node: NodeId,
        cpu: u32,
        memory_mib: u32,
    ) -> Result<(NodeId, u64), Unplaceable> {
        let free = self.nodes.get_mut(&node).ok_or(Unplaceable::NoNodes)?;
        if free.memory < memory_mib {
            return Err(Unplaceable::Memory { closest: node });
        }
        if free.cpu < cpu {
            return Err(Unplaceable::Cpu { closest: node });
        }
        self.ranks.remove(&Rank::of(node, *free));
        free.cpu -= cpu;
        free.memory -= memory_mib;
        self.ranks.insert(Rank::of(node, *free));
        Ok((node, free.incarnation))
    }
}
