//! A state as a plan leaves it, without making it: a look at the snapshot, past what the plan changes.
//!
//! Applying a plan to a copy of the state costs the whole index for each of its tasks. A check wants to see a few nodes
//! and services, and costs what the plan changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_types::{
    Change, ClusterId, Key, Node, NodeId, NodeLoad, Record, Service, ServiceId, State, Task, TaskDefinition,
    TaskDefinitionId, TaskId, TaskKey,
};

/// What a record is after the plan: None when it takes it away.
type Changed<'a, T> = Option<&'a Arc<T>>;

/// What nodes of one incarnation hold: CPU units, and memory in MiB.
pub(crate) type Load = (u64, u64);

/// A state as changes leave it.
pub(crate) struct After<'a> {
    state: &'a State,
    tasks: BTreeMap<(TaskId, &'a ClusterId), Changed<'a, Task>>,
    services: BTreeMap<&'a ServiceId, Changed<'a, Service>>,
    nodes: BTreeMap<NodeId, Changed<'a, Node>>,
    definitions: BTreeMap<&'a TaskDefinitionId, Changed<'a, TaskDefinition>>,
    /// The changed tasks of each service.
    of_services: BTreeMap<ServiceId, Vec<&'a Arc<Task>>>,
    /// The changed tasks that hold something on a node, by its incarnation.
    on_nodes: BTreeMap<(NodeId, u64), Vec<&'a Arc<Task>>>,
    /// What tasks that are changed held before on a node, by its incarnation.
    given_back: BTreeMap<(NodeId, u64), Load>,
}

impl<'a> After<'a> {
    pub(crate) fn of(state: &'a State, changes: &'a [Change]) -> Self {
        let mut this = Self {
            state,
            tasks: BTreeMap::new(),
            services: BTreeMap::new(),
            nodes: BTreeMap::new(),
            definitions: BTreeMap::new(),
            of_services: BTreeMap::new(),
            on_nodes: BTreeMap::new(),
            given_back: BTreeMap::new(),
        };
        changes.iter().for_each(|change| this.note(change));
        for ((id, cluster), after) in &this.tasks {
            let key = TaskKey { cluster: (*cluster).clone(), id: *id };
            if let Some(before) = state.tasks.get(&key).map(|found| &*found.value)
                && let Some(node) = held(before)
            {
                add(this.given_back.entry(node).or_default(), before);
            }
            let Some(task) = after else { continue };
            if let Some(service) = service_id(task) {
                this.of_services.entry(service).or_default().push(task);
            }
            if let Some(node) = held(task) {
                this.on_nodes.entry(node).or_default().push(task);
            }
        }
        this
    }

    /// Takes in one change; a later one of the same record counts.
    fn note(&mut self, change: &'a Change) {
        match change {
            Change::Put(Record::Task(task)) => {
                self.tasks.insert((task.id, &task.cluster), Some(task));
            }
            Change::Delete(Key::Task(key)) => {
                self.tasks.insert((key.id, &key.cluster), None);
            }
            Change::Put(Record::Service(service)) => {
                self.services.insert(&service.id, Some(service));
            }
            Change::Delete(Key::Service(id)) => {
                self.services.insert(id, None);
            }
            Change::Put(Record::Node(node)) => {
                self.nodes.insert(node.id, Some(node));
            }
            Change::Delete(Key::Node(id)) => {
                self.nodes.insert(*id, None);
            }
            Change::Put(Record::TaskDefinition(definition)) => {
                self.definitions.insert(&definition.id, Some(definition));
            }
            Change::Delete(Key::TaskDefinition(id)) => {
                self.definitions.insert(id, None);
            }
            _ => {}
        }
    }

    pub(crate) fn service(&self, id: &ServiceId) -> Option<&'a Arc<Service>> {
        let before = || self.state.services.get(id).map(|found| &found.value);
        self.services.get(id).copied().unwrap_or_else(before)
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&'a Arc<Node>> {
        let before = || self.state.nodes.get(&id).map(|found| &found.value);
        self.nodes.get(&id).copied().unwrap_or_else(before)
    }

    pub(crate) fn definition(&self, id: &TaskDefinitionId) -> Option<&'a Arc<TaskDefinition>> {
        let before = || self.state.task_definitions.get(id).map(|found| &found.value);
        self.definitions.get(id).copied().unwrap_or_else(before)
    }

    /// The tasks of a service, STOPPED ones included.
    pub(crate) fn tasks_of(&self, service: &ServiceId) -> impl Iterator<Item = &'a Arc<Task>> {
        let changed = self.of_services.get(service).into_iter().flatten().copied();
        self.state.tasks_of(service).filter(|task| !self.is_changed(task)).chain(changed)
    }

    /// The tasks that hold something on a node as it is then.
    pub(crate) fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &'a Arc<Task>> {
        let at = self.incarnation(node);
        let before = at.and_then(|(node, incarnation)| self.state.index().on_node(node, incarnation));
        let before = before.into_iter().flat_map(NodeLoad::tasks).map(|found| &found.value);
        let changed = at.and_then(|at| self.on_nodes.get(&at)).into_iter().flatten().copied();
        before.filter(|task| !self.is_changed(task)).chain(changed)
    }

    /// What the tasks of a node as it is then hold.
    pub(crate) fn load_of(&self, node: NodeId) -> Load {
        let Some(at) = self.incarnation(node) else { return (0, 0) };
        let before = self.state.index().on_node(at.0, at.1).map_or((0, 0), |load| (load.cpu, load.memory));
        let less = self.given_back.get(&at).copied().unwrap_or_default();
        let mut load = (before.0 - less.0, before.1 - less.1);
        for task in self.on_nodes.get(&at).into_iter().flatten() {
            add(&mut load, task);
        }
        load
    }

    fn incarnation(&self, node: NodeId) -> Option<(NodeId, u64)> {
        self.node(node).map(|found| (node, found.incarnation))
    }

    fn is_changed(&self, task: &Task) -> bool {
        self.tasks.contains_key(&(task.id, &task.cluster))
    }
}

/// Where a task holds what it reserved.
fn held(task: &Task) -> Option<(NodeId, u64)> {
    task.node.filter(|_| task.holds_resources())
}

fn add(load: &mut Load, task: &Task) {
    load.0 += u64::from(task.cpu);
    load.1 += u64::from(task.memory);
}

/// The service a task belongs to.
pub(crate) fn service_id(task: &Task) -> Option<ServiceId> {
    Some(ServiceId { cluster: task.cluster.clone(), name: task.service()?.clone() })
}
