//! What nodes have left.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use coracle_types::{
    ClusterId, LastStatus, Node, NodeId, NodeStatus, ServiceId, State, Task, TaskGroup, attribute,
};

use super::need::{Constraint, HostPort, Need, host_ports};
use super::query::Subject;
use super::shortage::{Shortage, Unplaceable};

/// Whether new tasks may go to a node at all.
#[must_use]
pub fn node_takes_tasks(node: &Node) -> bool {
    node.status == NodeStatus::Active
}

/// The order nodes are tried in when nothing else decides; the order of the fields is the order of what matters.
/// Most free memory first spreads tasks, because memory is what can't be borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) memory: Reverse<u32>,
    pub(super) cpu: Reverse<u32>,
    pub(super) node: NodeId,
}

/// One node and what is left of it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) node: Arc<Node>,
    pub(super) cpu: u32,
    pub(super) memory: u32,
    /// Its place among the zones.
    zone: usize,
    /// Ports that are taken; None until somebody asks.
    ports: Option<BTreeSet<HostPort>>,
}

impl Room {
    pub(super) fn rank(&self) -> Rank {
        Rank { memory: Reverse(self.memory), cpu: Reverse(self.cpu), node: self.node.id }
    }
}

fn zone_of(node: &Node) -> &str {
    node.attribute(attribute::ZONE).unwrap_or_default()
}

/// How many tasks of one group are on each node, and in this plan.
type Counts = HashMap<NodeId, usize>;

/// What is free on each node. Placing takes from it.
#[derive(Clone, Debug)]
pub struct Rooms<'a> {
    state: &'a State,
    rooms: Vec<Room>,
    by_id: HashMap<NodeId, usize>,
    /// The nodes that take tasks, by zone. Zones are in the order of their names.
    ranks: Vec<BTreeSet<Rank>>,
    /// Tasks this plan has placed, by their group.
    placed: HashMap<(ClusterId, TaskGroup), Counts>,
}

impl<'a> Rooms<'a> {
    /// What `state` leaves free. A task keeps what it reserved until it is STOPPED. Takes time in proportion to
    /// the nodes, not to the tasks.
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        let mut zones: Vec<&str> = state.nodes.values().map(|found| zone_of(&found.value)).collect();
        zones.sort_unstable();
        zones.dedup();
        let mut rooms = Vec::with_capacity(state.nodes.size());
        let mut by_id = HashMap::with_capacity(state.nodes.size());
        let mut ranks = vec![Vec::new(); zones.len()];
        // Both are in the order of the nodes' ids: side by side, nothing has to be looked up.
        let mut loads = state.index().nodes().peekable();
        for found in state.nodes.values() {
            let node = &found.value;
            let at = (node.id, node.incarnation);
            while loads.next_if(|(before, _)| *before < at).is_some() {}
            let (cpu, memory) =
                loads.next_if(|(same, _)| *same == at).map_or((0, 0), |(_, load)| (load.cpu, load.memory));
            let left =
                |offered: u32, used: u64| offered.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
            let room = Room {
                node: Arc::clone(node),
                cpu: left(node.cpu_units, cpu),
                memory: left(node.memory_mib, memory),
                zone: zones.binary_search(&zone_of(node)).unwrap_or(0),
                ports: None,
            };
            if node_takes_tasks(node) && node.agent_connected {
                ranks[room.zone].push(room.rank());
            }
            by_id.insert(node.id, rooms.len());
            rooms.push(room);
        }
        // All at once: one sort is cheaper than so many insertions.
        let ranks = ranks.into_iter().map(BTreeSet::from_iter).collect();
        Self { state, rooms, by_id, ranks, placed: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn room(&self, place: usize) -> &Room {
        &self.rooms[place]
    }

    pub(super) fn place_of(&self, node: NodeId) -> Option<usize> {
        self.by_id.get(&node).copied()
    }

    pub(super) fn zones(&self) -> usize {
        self.ranks.len()
    }

    pub(super) fn zone_of(&self, node: NodeId) -> Option<usize> {
        self.place_of(node).map(|place| self.rooms[place].zone)
    }

    /// The nodes of a zone that take tasks and have this much memory, those with the most first.
    pub(super) fn ranked(&self, zone: usize, memory: u32) -> impl Iterator<Item = NodeId> {
        self.ranks[zone].iter().take_while(move |rank| rank.memory.0 >= memory).map(|rank| rank.node)
    }

    /// How many tasks of a group are RUNNING or on the way there on each node, those of this plan included.
    pub(super) fn counts(&self, need: &Need) -> Counts {
        let mut counts =
            self.placed.get(&(need.cluster.clone(), need.group.clone())).cloned().unwrap_or_default();
        let mut count = |task: &Task| {
            if task.last_status <= LastStatus::Running
                && let Some((node, _)) = task.node
            {
                *counts.entry(node).or_default() += 1;
            }
        };
        match &need.group {
            TaskGroup::Service(name) => {
                let service = ServiceId { cluster: need.cluster.clone(), name: name.clone() };
                self.state.tasks_of(&service).for_each(|task| count(task));
            }
            group => {
                let of_group = self.state.tasks_in(&need.cluster).filter(|task| task.group == *group);
                of_group.for_each(|task| count(task));
            }
        }
        counts
    }

    /// What keeps a node from taking such a task whatever else it runs.
    pub(super) fn obstacle(&self, place: usize, need: &Need) -> Option<Shortage> {
        let node = &self.rooms[place].node;
        if !node.agent_connected {
            return Some(Shortage::Agent);
        }
        if let (Some(wanted), Some(has)) = (&need.provider, &node.capacity_provider)
            && wanted != has
        {
            return Some(Shortage::Provider(wanted.clone()));
        }
        if need.windows && node.attribute(attribute::OS_TYPE).is_none_or(|os| os != "windows") {
            return Some(Shortage::Platform);
        }
        if let Some(zone) = need.zone.as_deref().filter(|zone| node.attribute(attribute::ZONE) != Some(zone))
        {
            return Some(Shortage::MemberOf(format!("attribute:{} == {zone}", attribute::ZONE)));
        }
        need.constraints.iter().find_map(|constraint| match constraint {
            Constraint::MemberOf(expression, text) if !expression.depends_on_tasks() => {
                let subject = NodeSubject { rooms: self, place };
                (!expression.holds(&subject)).then(|| Shortage::MemberOf(text.clone()))
            }
            Constraint::Unreadable(text) => Some(Shortage::MemberOf(text.clone())),
            Constraint::MemberOf(..) | Constraint::DistinctInstance => None,
        })
    }

    /// What a node that is otherwise fit is short of for such a task right now; `of_group` is how many tasks of
    /// its group it has.
    pub(super) fn shortage(&mut self, place: usize, need: &Need, of_group: usize) -> Option<Shortage> {
        for constraint in &need.constraints {
            match constraint {
                Constraint::DistinctInstance if of_group > 0 => return Some(Shortage::DistinctInstance),
                Constraint::MemberOf(expression, text)
                    if expression.depends_on_tasks()
                        && !expression.holds(&NodeSubject { rooms: self, place }) =>
                {
                    return Some(Shortage::MemberOf(text.clone()));
                }
                _ => {}
            }
        }
        if !need.ports.is_empty() {
            let taken = self.ports(place);
            if let Some(port) = need.ports.iter().find(|port| taken.contains(port)) {
                return Some(Shortage::Port(port.port));
            }
        }
        let room = &self.rooms[place];
        if room.memory < need.memory {
            return Some(Shortage::Memory { needed: need.memory, free: room.memory });
        }
        (room.cpu < need.cpu).then_some(Shortage::Cpu { needed: need.cpu, free: room.cpu })
    }

    fn ports(&mut self, place: usize) -> &mut BTreeSet<HostPort> {
        let (state, room) = (self.state, &mut self.rooms[place]);
        room.ports.get_or_insert_with(|| {
            let reserved = room
                .node
                .reserved_ports
                .iter()
                .flat_map(|&port| [false, true].map(|udp| HostPort { port, udp }));
            let taken = state.tasks_on(room.node.id).flat_map(|task| {
                let definition = state.task_definitions.get(&task.task_definition);
                definition.map(|found| host_ports(&found.value, task.launch_type)).unwrap_or_default()
            });
            reserved.chain(taken).collect()
        })
    }

    /// Takes what a task needs from a node that has it, and says which incarnation of it that is.
    pub(super) fn take(&mut self, place: usize, need: &Need) -> (NodeId, u64) {
        if !need.ports.is_empty() {
            self.ports(place).extend(&need.ports);
        }
        let room = &mut self.rooms[place];
        let before = room.rank();
        room.cpu -= need.cpu;
        room.memory -= need.memory;
        let (after, zone) = (room.rank(), room.zone);
        let taken = (room.node.id, room.node.incarnation);
        if self.ranks[zone].remove(&before) {
            self.ranks[zone].insert(after);
        }
        let group = (need.cluster.clone(), need.group.clone());
        *self.placed.entry(group).or_default().entry(taken.0).or_default() += 1;
        taken
    }

    /// Whether constraints let such a task be on a node, whatever room there is.
    #[must_use]
    pub fn allows(&self, node: NodeId, need: &Need) -> bool {
        self.place_of(node).is_some_and(|place| self.obstacle(place, need).is_none())
    }

    /// Places one task on one node.
    ///
    /// # Errors
    /// What that node is short of, or that there is no such node.
    pub fn place_on(&mut self, node: NodeId, need: &Need) -> Result<(NodeId, u64), Unplaceable> {
        let place = self.place_of(node).ok_or(Unplaceable::NoNodes)?;
        let of_group =
            if need.is_distinct() { self.counts(need).get(&node).copied().unwrap_or(0) } else { 0 };
        match self.obstacle(place, need).or_else(|| self.shortage(place, need, of_group)) {
            None => Ok(self.take(place, need)),
            Some(shortage) => Err(Unplaceable::of(vec![(node, shortage)])),
        }
    }

    /// Says of each node that takes tasks of the cluster what it is short of.
    pub(super) fn explain(&mut self, need: &Need, counts: &Counts) -> Unplaceable {
        let mut places: Vec<usize> = (0..self.rooms.len())
            .filter(|&place| {
                let node = &self.rooms[place].node;
                node_takes_tasks(node) && node.serves(&need.cluster)
            })
            .collect();
        places.sort_by_key(|&place| self.rooms[place].rank());
        let mut short = Vec::with_capacity(places.len());
        for place in places {
            let node = self.rooms[place].node.id;
            let of_group = counts.get(&node).copied().unwrap_or(0);
            let shortage = self.obstacle(place, need).or_else(|| self.shortage(place, need, of_group));
            short.extend(shortage.map(|shortage| (node, shortage)));
        }
        Unplaceable::of(short)
    }
}

struct NodeSubject<'a> {
    rooms: &'a Rooms<'a>,
    place: usize,
}

impl Subject for NodeSubject<'_> {
    fn node(&self) -> &Node {
        &self.rooms.rooms[self.place].node
    }

    fn running_tasks(&self) -> usize {
        let on_node = self.rooms.state.tasks_on(self.node().id);
        on_node.filter(|task| task.last_status == LastStatus::Running).count()
    }

    fn has_task_of(&self, group: &str) -> bool {
        let node = self.node().id;
        let placed = self.rooms.placed.iter();
        let mut here = placed.filter(|(_, counts)| counts.contains_key(&node));
        here.any(|((_, placed), _)| placed.to_string() == group)
            || self.rooms.state.tasks_on(node).any(|task| task.group.to_string() == group)
    }
}
