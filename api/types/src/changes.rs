//! Changes that are made together, and when they may be.
//!
//! Everybody computes changes from a snapshot, side by side with others, and only a commit shows whether they still
//! hold. Most of what could go wrong is that a record was changed meanwhile, which its revision shows. Three things
//! are not seen in the records a change names, because they are about new records meeting other new records:
//!
//! ```text
//! room        two tasks for the last room of a node are two different records
//! exclusion   so are two tasks for one port of it
//! a cluster   is deleted while something is put into it
//! ```
//!
//! They are checked here, against what is there at the moment of the commit, so that nobody has to wait for a turn.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, ClusterStatus};
use crate::ids::NodeId;
use crate::service::ServiceStatus;
use crate::state::{Change, Key, Record, State};
use crate::task::Task;

/// Changes that are made together or not at all.
///
/// They are made only if every record they change, and every one in `guards`, is still as it was in
/// the state they were computed from, if the nodes they place tasks on still have room for them, and if nobody
/// placed anything on the nodes in `exclusive`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// What to change, in order.
    pub changes: Vec<Change>,
    /// Records (or absences) that were relied on without being changed.
    pub guards: Vec<Key>,
    /// Nodes of whose tasks more was relied on than that there is room beside them: that none has a port, or
    /// belongs to a group.
    pub exclusive: Vec<NodeId>,
}

impl Changes {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record to write.
    pub fn put(&mut self, record: impl Into<Record>) {
        self.changes.push(Change::Put(record.into()));
    }

    /// Adds a record to take away.
    pub fn delete(&mut self, key: Key) {
        self.changes.push(Change::Delete(key));
    }

    /// Adds a record that must not have changed.
    pub fn guard(&mut self, key: Key) {
        self.guards.push(key);
    }

    /// Adds a node that nobody may have placed anything on.
    pub fn guard_tasks_on(&mut self, node: NodeId) {
        self.exclusive.push(node);
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The first record that is no longer in `current` as it was in `base`, or that there is no room for any more.
    #[must_use]
    pub fn conflict(&self, base: &State, current: &State) -> Option<Key> {
        if base.revision == current.revision {
            return None;
        }
        let changed = self.changes.iter().map(Change::key);
        changed
            .chain(self.guards.iter().cloned())
            .find(|key| base.revision_of(key) != current.revision_of(key))
            .or_else(|| self.full_node(base, current).map(Key::Node))
            .or_else(|| self.contested_node(base, current).map(Key::Node))
            .or_else(|| self.filled_cluster(base, current))
    }

    fn put_tasks(&self) -> impl Iterator<Item = &Task> {
        self.changes.iter().filter_map(|change| match change {
            Change::Put(Record::Task(task)) => Some(&**task),
            _ => None,
        })
    }

    /// A node that tasks are placed on and that others have filled since `base`.
    fn full_node(&self, base: &State, current: &State) -> Option<NodeId> {
        let mut added: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for task in self.put_tasks().filter(|task| task.holds_resources()) {
            let before = base.tasks.get(&task.key());
            if let Some((node, _)) = task.node
                && before.is_none_or(|before| before.value.node.is_none())
            {
                let sum = added.entry(node).or_default();
                sum.0 += u64::from(task.cpu);
                sum.1 += u64::from(task.memory);
            }
        }
        let load = |state: &State, node| state.load_of(node).map_or((0, 0), |load| (load.cpu, load.memory));
        added.into_iter().find_map(|(id, sum)| {
            let node = &current.nodes.get(&id)?.value;
            let (before, now) = (load(base, id), load(current, id));
            // What was there already when it was decided is not the commit's to judge.
            let over = |before: u64, now: u64, sum: u64, offered: u32| {
                now > before && now + sum > u64::from(offered)
            };
            let full =
                over(before.0, now.0, sum.0, node.cpu_units) || over(before.1, now.1, sum.1, node.memory_mib);
            full.then_some(id)
        })
    }

    fn contested_node(&self, base: &State, current: &State) -> Option<NodeId> {
        self.exclusive.iter().copied().find(|&node| {
            let load = current.load_of(node);
            let mut newer =
                load.into_iter().flat_map(|load| load.tasks()).filter(|found| found.revision > base.revision);
            newer.any(|found| {
                base.tasks.get(&found.value.key()).is_none_or(|before| before.value.node.is_none())
            })
        })
    }

    /// A cluster that is deleted although something was put into it since `base`.
    fn filled_cluster(&self, base: &State, current: &State) -> Option<Key> {
        let deleted = self.changes.iter().filter_map(|change| match change {
            Change::Put(Record::Cluster(cluster)) if cluster.status == ClusterStatus::Inactive => {
                Some(cluster)
            }
            _ => None,
        });
        deleted
            .into_iter()
            .find(|cluster| has_news(cluster, base, current))
            .map(|cluster| Key::Cluster(cluster.id.clone()))
    }
}

fn has_news(cluster: &Cluster, base: &State, current: &State) -> bool {
    let new_service = |service: &crate::service::Service| {
        service.status == ServiceStatus::Active
            && base
                .services
                .get(&service.id)
                .is_none_or(|before| before.value.status != ServiceStatus::Active)
    };
    current.services_in(&cluster.id).any(|service| new_service(service))
        || current
            .tasks_in(&cluster.id)
            .any(|task| task.holds_resources() && !base.tasks.contains_key(&task.key()))
}
