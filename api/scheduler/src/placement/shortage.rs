//! Why no node takes a task.

use std::fmt;

use coracle_types::NodeId;

/// At most this many nodes are named one by one.
const MAX_NAMED: usize = 10;

/// What a node is short of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Its process is not in contact.
    Agent,
    /// It is not of this capacity provider.
    Provider(String),
    /// It has not the operating system.
    Platform,
    /// This expression does not hold for it.
    MemberOf(String),
    /// It has a task of the group already.
    DistinctInstance,
    /// Somebody has this port of it.
    Port(u16),
    /// CPU units.
    Cpu {
        /// What the task needs.
        needed: u32,
        /// What the node has left.
        free: u32,
    },
    /// Memory, MiB.
    Memory {
        /// What the task needs.
        needed: u32,
        /// What the node has left.
        free: u32,
    },
}

impl Shortage {
    /// As RunTask's `failures` name it.
    #[must_use]
    pub fn failure(&self) -> &'static str {
        match self {
            Self::Agent => "AGENT",
            Self::Provider(_) | Self::Platform => "ATTRIBUTE",
            Self::MemberOf(_) => "MemberOf placement constraint unsatisfied.",
            Self::DistinctInstance => "DistinctInstance placement constraint unsatisfied.",
            Self::Port(_) => "RESOURCE:PORTS",
            Self::Cpu { .. } => "RESOURCE:CPU",
            Self::Memory { .. } => "RESOURCE:MEMORY",
        }
    }

    /// How near a node that has only this against it is to taking the task: what is checked last is nearest.
    pub(super) fn nearness(&self) -> u8 {
        match self {
            Self::Agent => 0,
            Self::Provider(_) => 1,
            Self::Platform => 2,
            Self::MemberOf(_) => 3,
            Self::DistinctInstance => 4,
            Self::Port(_) => 5,
            Self::Memory { .. } => 6,
            Self::Cpu { .. } => 7,
        }
    }

    /// With numbers, for a list of nodes.
    fn detail(&self) -> String {
        match self {
            Self::Agent => "its agent is disconnected".to_owned(),
            Self::Provider(provider) => format!("it is not part of capacity provider {provider}"),
            Self::Platform => "it has another operating system".to_owned(),
            Self::MemberOf(expression) => format!("memberOf({expression}) does not hold"),
            Self::DistinctInstance => "it runs a task of the group already".to_owned(),
            Self::Port(port) => format!("port {port} is in use"),
            Self::Cpu { needed, free } => format!("{needed} CPU units needed, {free} free"),
            Self::Memory { needed, free } => format!("{needed} MiB of memory needed, {free} free"),
        }
    }
}

/// Why no node takes a task. `Display` is ECS's text, followed by what each node is short of when there are
/// several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaceable {
    /// No node takes tasks of the cluster.
    NoNodes,
    /// Each is short of something.
    Short {
        /// The node that is nearest to taking it.
        closest: NodeId,
        /// What that one is short of.
        shortage: Shortage,
        /// What the others are short of, the nearest first, at most ten with the closest.
        others: Vec<(NodeId, Shortage)>,
        /// How many more there are.
        more: usize,
    },
}

impl Unplaceable {
    /// Of what each node is short, the nearest first.
    pub(super) fn of(mut nodes: Vec<(NodeId, Shortage)>) -> Self {
        // A stable sort: nodes as near as each other stay in the order of their free memory.
        nodes.sort_by_key(|(_, shortage)| std::cmp::Reverse(shortage.nearness()));
        let more = nodes.len().saturating_sub(MAX_NAMED);
        nodes.truncate(MAX_NAMED);
        let mut nodes = nodes.into_iter();
        match nodes.next() {
            None => Self::NoNodes,
            Some((closest, shortage)) => Self::Short { closest, shortage, others: nodes.collect(), more },
        }
    }

    /// What is short, as RunTask's `failures` name it.
    #[must_use]
    pub fn failure(&self) -> &'static str {
        match self {
            Self::NoNodes => "AGENT",
            Self::Short { shortage, .. } => shortage.failure(),
        }
    }

    /// The node that is nearest to taking the task.
    #[must_use]
    pub fn closest(&self) -> Option<NodeId> {
        match self {
            Self::NoNodes => None,
            Self::Short { closest, .. } => Some(*closest),
        }
    }

    /// ECS's text alone: the same as long as the same node is short of the same thing.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self::Short { closest, shortage, .. } = self else {
            return "No Container Instances were found in your cluster.".to_owned();
        };
        let what = match shortage {
            Shortage::Agent => "encountered error \"AGENT\".".to_owned(),
            Shortage::Provider(provider) => format!("is not part of the capacity provider {provider}."),
            Shortage::Platform => "is missing an attribute required by your task.".to_owned(),
            Shortage::MemberOf(expression) => {
                format!("does not satisfy the placement constraint memberOf({expression}).")
            }
            Shortage::DistinctInstance => {
                "does not satisfy the placement constraint distinctInstance.".to_owned()
            }
            Shortage::Port(_) => "is already using a port required by your task.".to_owned(),
            Shortage::Cpu { .. } => "has insufficient CPU units available.".to_owned(),
            Shortage::Memory { .. } => "has insufficient memory available.".to_owned(),
        };
        format!("The closest matching container-instance {closest} {what}")
    }
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        let Self::Short { closest, shortage, others, more } = self else { return Ok(()) };
        if others.is_empty() {
            return Ok(());
        }
        write!(f, " Node by node: {closest}: {}", shortage.detail())?;
        for (node, shortage) in others {
            write!(f, "; {node}: {}", shortage.detail())?;
        }
        if *more > 0 {
            write!(f, "; and {more} more")?;
        }
        f.write_str(".")
    }
}
