//! What a [`State`](crate::State) knows about its tasks besides their ids, and what changed lately: kept up with
//! every change, so that nobody has to look through all tasks for a few of them.

use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::ids::{ClusterId, Family, NodeId, ServiceId, TaskId, TaskKey};
use crate::state::{Key, Versioned};
use crate::task::{DesiredStatus, LaunchType, Task};
use crate::time::Timestamp;

/// Tasks by their ids.
type Members = RedBlackTreeMapSync<TaskId, Versioned<Task>>;

/// What the tasks of one incarnation of a node hold.
#[derive(Clone, Debug, Default)]
pub struct NodeLoad {
    /// CPU units its tasks reserve.
    pub cpu: u64,
    /// Memory its tasks reserve, MiB.
    pub memory: u64,
    /// Its tasks that are not STOPPED.
    tasks: Members,
}

impl NodeLoad {
    /// Its tasks that are not STOPPED, in the order of their ids.
    pub fn tasks(&self) -> impl Iterator<Item = &Versioned<Task>> {
        self.tasks.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.size()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// How many tasks a cluster has, as its counts and statistics say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTasks {
    /// RUNNING ones with launch type FARGATE.
    pub running_fargate: usize,
    /// RUNNING ones with another launch type.
    pub running_ec2: usize,
    /// Those that are to run and do not yet, FARGATE.
    pub pending_fargate: usize,
    /// Those that are to run and do not yet, with another launch type.
    pub pending_ec2: usize,
}

impl ClusterTasks {
    /// The count a task is part of, if it is part of one.
    fn of(&mut self, task: &Task) -> Option<&mut usize> {
        let fargate = task.launch_type == LaunchType::Fargate;
        match (task.is_running(), task.is_pending()) {
            (true, _) if fargate => Some(&mut self.running_fargate),
            (true, _) => Some(&mut self.running_ec2),
            (_, true) if fargate => Some(&mut self.pending_fargate),
            (_, true) => Some(&mut self.pending_ec2),
            _ => None,
        }
    }
}

/// Tasks by what they belong to and by what has become of them.
#[derive(Clone, Debug, Default)]
pub struct TaskIndex {
    by_cluster: RedBlackTreeMapSync<ClusterId, ClusterTasks>,
    by_service: RedBlackTreeMapSync<ServiceId, Members>,
    by_family: Groups<Family>,
    by_starter: Groups<String>,
    by_node: RedBlackTreeMapSync<(NodeId, u64), NodeLoad>,
    unplaced: RedBlackTreeSetSync<TaskKey>,
    stopped: RedBlackTreeSetSync<(Timestamp, TaskKey)>,
    releasing: usize,
}

/// The ids of tasks by their cluster and something that a task keeps for life.
type Groups<T> = RedBlackTreeMapSync<(ClusterId, T), RedBlackTreeSetSync<TaskId>>;

fn join<T: Ord + Clone>(groups: &mut Groups<T>, key: (ClusterId, T), id: TaskId) {
    match groups.get_mut(&key) {
        Some(group) => group.insert_mut(id),
        None => groups.insert_mut(key, RedBlackTreeSetSync::new_sync().insert(id)),
    }
}

fn leave<T: Ord + Clone>(groups: &mut Groups<T>, key: &(ClusterId, T), id: TaskId) {
    if let Some(group) = groups.get_mut(key) {
        group.remove_mut(&id);
        if group.is_empty() {
            groups.remove_mut(key);
        }
    }
}

fn service_of(task: &Task) -> Option<ServiceId> {
    Some(ServiceId { cluster: task.cluster.clone(), name: task.service()?.clone() })
}

fn stopped_at(task: &Task) -> Timestamp {
    task.stopped_at.unwrap_or(task.created_at)
}

/// Whether it is about to give back what it holds.
fn is_releasing(task: &Task) -> bool {
    task.holds_resources() && task.node.is_some() && task.desired_status == DesiredStatus::Stopped
}

impl TaskIndex {
    pub(crate) fn replace(&mut self, before: Option<&Versioned<Task>>, after: Option<&Versioned<Task>>) {
        match (before, after) {
            (None, Some(new)) => self.join_groups(&new.value),
            (Some(old), None) => self.leave_groups(&old.value),
            _ => {}
        }
        if let Some(before) = before {
            self.remove(&before.value, after.map(|after| &*after.value));
        }
        if let Some(after) = after {
            self.insert(after);
        }
    }

    fn join_groups(&mut self, task: &Task) {
        let cluster = || task.cluster.clone();
        join(&mut self.by_family, (cluster(), task.task_definition.family.clone()), task.id);
        if let Some(starter) = &task.started_by {
            join(&mut self.by_starter, (cluster(), starter.clone()), task.id);
        }
    }

    fn leave_groups(&mut self, task: &Task) {
        let cluster = || task.cluster.clone();
        leave(&mut self.by_family, &(cluster(), task.task_definition.family.clone()), task.id);
        if let Some(starter) = &task.started_by {
            leave(&mut self.by_starter, &(cluster(), starter.clone()), task.id);
        }
    }

    /// Takes out what `after` will not put in its place.
    fn remove(&mut self, task: &Task, after: Option<&Task>) {
        if let Some(counts) = self.by_cluster.get_mut(&task.cluster) {
            if let Some(count) = counts.of(task) {
                *count -= 1;
            }
            if *counts == ClusterTasks::default() {
                self.by_cluster.remove_mut(&task.cluster);
            }
        }
        if after.is_none()
            && let Some(service) = service_of(task)
            && let Some(members) = self.by_service.get_mut(&service)
        {
            members.remove_mut(&task.id);
            if members.is_empty() {
                self.by_service.remove_mut(&service);
            }
        }
        if !task.holds_resources() {
            self.stopped.remove_mut(&(stopped_at(task), task.key()));
            return;
        }
        self.releasing -= usize::from(is_releasing(task));
        let Some(node) = task.node else {
            self.unplaced.remove_mut(&task.key());
            return;
        };
        if let Some(load) = self.by_node.get_mut(&node) {
            load.cpu -= u64::from(task.cpu);
            load.memory -= u64::from(task.memory);
            if after.is_none_or(|after| after.node != task.node || !after.holds_resources()) {
                load.tasks.remove_mut(&task.id);
                if load.tasks.is_empty() {
                    self.by_node.remove_mut(&node);
                }
            }
        }
    }

    fn insert(&mut self, found: &Versioned<Task>) {
        let task = &*found.value;
        if task.is_running() || task.is_pending() {
            if self.by_cluster.get(&task.cluster).is_none() {
                self.by_cluster.insert_mut(task.cluster.clone(), ClusterTasks::default());
            }
            if let Some(count) = self.by_cluster.get_mut(&task.cluster).and_then(|counts| counts.of(task)) {
                *count += 1;
            }
        }
        if let Some(service) = service_of(task) {
            match self.by_service.get_mut(&service) {
                Some(members) => members.insert_mut(task.id, found.clone()),
                None => {
                    self.by_service.insert_mut(service, Members::default().insert(task.id, found.clone()));
                }
            }
        }
        if !task.holds_resources() {
            self.stopped.insert_mut((stopped_at(task), task.key()));
            return;
        }
        self.releasing += usize::from(is_releasing(task));
        let Some(node) = task.node else {
            self.unplaced.insert_mut(task.key());
            return;
        };
        if self.by_node.get(&node).is_none() {
            self.by_node.insert_mut(node, NodeLoad::default());
        }
        if let Some(load) = self.by_node.get_mut(&node) {
            load.cpu += u64::from(task.cpu);
            load.memory += u64::from(task.memory);
            load.tasks.insert_mut(task.id, found.clone());
        }
    }

    /// How many tasks a cluster has that run, or are to.
    #[must_use]
    pub fn in_cluster(&self, cluster: &ClusterId) -> ClusterTasks {
        self.by_cluster.get(cluster).copied().unwrap_or_default()
    }

    /// The tasks of a service, in the order of their ids, STOPPED ones included.
    pub fn of_service(&self, service: &ServiceId) -> impl Iterator<Item = &Versioned<Task>> {
        self.by_service.get(service).into_iter().flat_map(Members::values)
    }

    /// The tasks of a cluster that run a family's definitions, STOPPED ones included, in order.
    pub fn of_family<'a>(
        &'a self,
        cluster: &ClusterId,
        family: &Family,
    ) -> impl Iterator<Item = TaskId> + use<'a> {
        self.by_family.get(&(cluster.clone(), family.clone())).into_iter().flatten().copied()
    }

    /// The tasks of a cluster that were started by this, as `startedBy` says it, STOPPED ones included, in order.
    pub fn of_starter<'a>(
        &'a self,
        cluster: &ClusterId,
        starter: &str,
    ) -> impl Iterator<Item = TaskId> + use<'a> {
        self.by_starter.get(&(cluster.clone(), starter.to_owned())).into_iter().flatten().copied()
    }

    /// The services that have tasks, whether they exist or not.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.by_service.keys()
    }

    /// What the tasks of one incarnation of a node hold.
    #[must_use]
    pub fn on_node(&self, node: NodeId, incarnation: u64) -> Option<&NodeLoad> {
        self.by_node.get(&(node, incarnation))
    }

    /// All nodes, by incarnation, that have tasks which are not STOPPED.
    pub fn nodes(&self) -> impl Iterator<Item = ((NodeId, u64), &NodeLoad)> {
        self.by_node.iter().map(|(node, load)| (*node, load))
    }

    /// Tasks that are not STOPPED and have no node.
    pub fn unplaced(&self) -> impl Iterator<Item = &TaskKey> {
        self.unplaced.iter()
    }

    /// STOPPED tasks, those first that stopped first.
    pub fn stopped(&self) -> impl Iterator<Item = &(Timestamp, TaskKey)> {
        self.stopped.iter()
    }

    /// How many STOPPED tasks there are.
    #[must_use]
    pub fn stopped_len(&self) -> usize {
        self.stopped.size()
    }

    /// How many tasks hold something on a node and are about to give it back.
    #[must_use]
    pub fn releasing(&self) -> usize {
        self.releasing
    }
}

/// At most this many changes are remembered besides those of the last revision; who asks for older ones has to look at
/// everything.
const MAX_REMEMBERED: usize = 50_000;

/// Which records were changed in the last revisions.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The keys of what each revision before the last one changed.
    before: RedBlackTreeMapSync<u64, Arc<Vec<Key>>>,
    /// How many keys that are.
    remembered: usize,
    /// The last revision, and what it has changed so far.
    last: (u64, Arc<Vec<Key>>),
    /// Changes up to this revision are not all remembered.
    forgotten: u64,
}

impl Journal {
    /// One that remembers nothing up to `revision`.
    pub(crate) fn from(revision: u64) -> Self {
        Self { forgotten: revision, ..Self::default() }
    }

    pub(crate) fn note(&mut self, key: Key, revision: u64) {
        if revision < self.last.0 {
            // Not a commit: somebody fills a state with what was there before.
            self.forgotten = self.forgotten.max(revision);
            return;
        }
        if revision > self.last.0 {
            self.begin(revision);
        }
        Arc::make_mut(&mut self.last.1).push(key);
    }

    fn begin(&mut self, revision: u64) {
        let (number, keys) = std::mem::replace(&mut self.last, (revision, Arc::default()));
        if keys.is_empty() {
            return;
        }
        self.remembered += keys.len();
        self.before.insert_mut(number, keys);
        while self.remembered > MAX_REMEMBERED
            && let Some((&first, keys)) = self.before.first()
        {
            self.remembered -= keys.len();
            self.forgotten = self.forgotten.max(first);
            self.before.remove_mut(&first);
        }
    }

    /// The keys of the records that were changed after `revision`, in order, some perhaps more than once; None
    /// when that is too long ago.
    #[must_use]
    pub fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Key>> {
        let complete = revision >= self.forgotten;
        let before = self.before.range(revision.saturating_add(1)..).map(|(_, keys)| keys);
        let last = (self.last.0 > revision).then_some(&self.last.1);
        complete.then(|| before.chain(last).flat_map(|keys| &**keys))
    }
}
