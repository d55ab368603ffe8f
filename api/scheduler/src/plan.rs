//! A plan: everything that should change, decided from one snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_types::{
    Changes, ClusterId, Container, DesiredStatus, Key, LastStatus, NodeId, NodeStatus, Record, Service,
    ServiceDeployment, ServiceId, State, StopCode, Task, TaskDefinitionId, TaskId, TaskKey, TaskStop,
    Timestamp,
};

use crate::placement::{Need, Rooms};
use crate::reason::{Reason, deregistered_reason, lost_reason};
use crate::rng::PlanRng;
use crate::service::Member;
use crate::task::assign;
use crate::{retention, service};

/// Everything that should change, and why. Committing it twice changes nothing more: the second time it
/// conflicts with the first.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The moment it was made for.
    pub now: Timestamp,
    /// What to commit against the snapshot the plan was made from.
    pub changes: Changes,
    /// The reason of each decision, in order.
    pub reasons: Vec<Reason>,
    /// When the passing of time alone makes another plan necessary.
    pub next_wake: Option<Timestamp>,
}

/// Decides what should change in `state` at `now`, looking at everything. A [`crate::Planner`] looks only at
/// what may have a reason to change.
#[must_use]
pub fn plan(state: &State, now: Timestamp, rng: &mut PlanRng) -> Plan {
    let mut pass = Pass::new(state, now, rng);
    pass.everything();
    pass.finish()
}

/// One planning pass: the working copy, in which later decisions see earlier ones.
pub(crate) struct Pass<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
    pub(crate) rng: &'a mut PlanRng,
    pub(crate) reasons: Vec<Reason>,
    /// Whether something that is stopping will give back what it holds: a reason to wait before
    /// anybody is told that nothing fits.
    pub(crate) releasing: bool,
    /// What nodes have left; None until something is to be placed.
    rooms: Option<Rooms<'a>>,
    /// Tasks that are new or changed.
    tasks: BTreeMap<TaskKey, Task>,
    /// Tasks that died with their nodes, in this plan.
    lost: BTreeSet<TaskKey>,
    services: Vec<Service>,
    service_deployments: Vec<ServiceDeployment>,
    /// Other records, by their keys.
    others: BTreeMap<Key, Record>,
    deletes: Vec<Key>,
    nodes_used: BTreeSet<NodeId>,
    /// Nodes of whose other tasks more than the room they leave was relied on.
    exclusive: BTreeSet<NodeId>,
    definitions_used: BTreeSet<TaskDefinitionId>,
    /// What the service that is being looked at waits for.
    waits: Waits,
    /// What others wait for.
    next_wake: Option<Timestamp>,
}

/// What a service waits for, besides changes of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    /// A moment.
    pub(crate) until: Option<Timestamp>,
    /// Room on the nodes, or a task definition.
    pub(crate) for_room: bool,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(state: &'a State, now: Timestamp, rng: &'a mut PlanRng) -> Self {
        Self {
            state,
            now,
            rng,
            reasons: Vec::new(),
            releasing: state.index().releasing() > 0,
            rooms: None,
            tasks: BTreeMap::new(),
            lost: BTreeSet::new(),
            services: Vec::new(),
            service_deployments: Vec::new(),
            others: BTreeMap::new(),
            deletes: Vec::new(),
            nodes_used: BTreeSet::new(),
            exclusive: BTreeSet::new(),
            definitions_used: BTreeSet::new(),
            waits: Waits::default(),
            next_wake: None,
        }
    }

    fn everything(&mut self) {
        self.lose_tasks();
        self.place_waiting();
        let services: Vec<ServiceId> = self.state.services.keys().cloned().collect();
        for id in &services {
            if let Some(at) = self.service(id).until {
                self.wake_at(at);
            }
        }
        self.stop_orphans();
        if let Some(at) = retention::forget(self) {
            self.wake_at(at);
        }
    }

    /// Plans for one service, or for what is left of one that is gone, and says what it waits for.
    pub(crate) fn service(&mut self, id: &ServiceId) -> Waits {
        self.waits = Waits::default();
        let members: Vec<Member<'a>> = self
            .state
            .index()
            .of_service(id)
            .filter(|found| !self.lost.contains(&found.value.key()))
            .map(|found| Member { task: &found.value, revision: found.revision })
            .collect();
        match self.state.services.get(id) {
            Some(found) => service::reconcile(self, &found.value, &members),
            None => members.iter().for_each(|member| self.stop_orphan(member.task)),
        }
        std::mem::take(&mut self.waits)
    }

    /// Makes sure there is another plan for the service that is being looked at when it is `at`, if that is
    /// still to come.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.waits.until = Some(self.waits.until.map_or(at, |until| until.min(at)));
        }
    }

    /// Notes that the service that is being looked at would do more if there were room.
    pub(crate) fn wait_for_room(&mut self) {
        self.waits.for_room = true;
    }

    pub(crate) fn wake_at(&mut self, at: Timestamp) {
        if at > self.now {
            self.next_wake = Some(self.next_wake.map_or(at, |next| next.min(at)));
        }
    }

    /// Ends the tasks whose nodes, or whose nodes' incarnations, are gone.
    pub(crate) fn lose_tasks(&mut self) {
        let state = self.state;
        for ((node, incarnation), load) in state.index().nodes() {
            let found = state.nodes.get(&node).map(|found| &*found.value);
            let deregistered = found.is_some_and(|found| found.status == NodeStatus::Inactive);
            if !deregistered && found.is_some_and(|found| found.incarnation <= incarnation) {
                continue;
            }
            for task in load.tasks() {
                self.lose(&task.value, node, deregistered);
            }
        }
    }

    fn lose(&mut self, task: &Task, node: NodeId, deregistered: bool) {
        let reason = if deregistered { deregistered_reason() } else { lost_reason(node) };
        let mut task = task.clone();
        task.stop
            .get_or_insert_with(|| TaskStop { code: StopCode::TerminationNotice, reason: reason.clone() });
        // Nobody saw how they ended, so they have no exit code.
        for container in task.containers.iter_mut().filter(|container| !has_ended(container)) {
            container.reason.get_or_insert_with(|| reason.clone());
        }
        task.end(self.now);
        self.reasons.push(Reason::Lost { task: task.id, node });
        self.lost.insert(task.key());
        self.tasks.insert(task.key(), task);
    }

    /// Places accepted tasks that have no node yet, the oldest first; what fits nowhere goes on waiting.
    pub(crate) fn place_waiting(&mut self) {
        let state = self.state;
        let found = state.index().unplaced().filter_map(|key| state.tasks.get(key));
        let mut waiting: Vec<&Arc<Task>> = found
            .map(|found| &found.value)
            .filter(|task| {
                task.last_status == LastStatus::Provisioning && task.desired_status == DesiredStatus::Running
            })
            .collect();
        waiting.sort_by_key(|task| (task.created_at, task.id));
        for task in waiting {
            let Some(definition) = state.task_definitions.get(&task.task_definition) else { continue };
            let need = Need::of(task, &definition.value).asked_by(&task.rest);
            let minds_others = need.minds_others();
            if let Some(node) = self.place(need) {
                let mut task = Task::clone(task);
                assign(&mut task, node);
                self.reasons.push(Reason::Placed { task: task.id, node: node.0 });
                self.add_placed(task, minds_others);
            }
        }
    }

    fn place(&mut self, need: Need) -> Option<(NodeId, u64)> {
        let rooms = self.rooms.get_or_insert_with(|| Rooms::of(self.state));
        rooms.batch(need, self.rng).try_place(rooms, self.rng)
    }

    /// What nodes have left in this plan, and where numbers come from.
    pub(crate) fn rooms(&mut self) -> (&mut Rooms<'a>, &mut PlanRng) {
        (self.rooms.get_or_insert_with(|| Rooms::of(self.state)), self.rng)
    }

    /// An id no task of the cluster has: a seed that is used twice must not overwrite a task.
    pub(crate) fn new_task_id(&mut self, cluster: &ClusterId) -> TaskId {
        loop {
            let key = TaskKey { cluster: cluster.clone(), id: self.rng.task_id() };
            if !self.state.tasks.contains_key(&key) && !self.tasks.contains_key(&key) {
                return key.id;
            }
        }
    }

    /// Takes a task that has just been assigned to a node; `minds_others` is [`Need::minds_others`].
    pub(crate) fn add_placed(&mut self, task: Task, minds_others: bool) {
        if let Some((node, _)) = task.node {
            self.nodes_used.insert(node);
            if minds_others {
                self.exclusive.insert(node);
            }
        }
        self.definitions_used.insert(task.task_definition.clone());
        self.tasks.insert(task.key(), task);
    }

    /// A task as this plan leaves it, to be changed.
    pub(crate) fn edit_task(&mut self, task: &Task) -> &mut Task {
        self.tasks.entry(task.key()).or_insert_with(|| task.clone())
    }

    /// Tells a task to stop. Says whether it is over with that, because no node knew of it.
    pub(crate) fn stop(&mut self, task: &Task, stop: TaskStop) -> bool {
        let now = self.now;
        let changed = self.edit_task(task);
        changed.stop(stop, now);
        let over = changed.last_status == LastStatus::Stopped;
        self.releasing |= !over;
        over
    }

    /// Stops the tasks of services that are gone.
    pub(crate) fn stop_orphans(&mut self) {
        let state = self.state;
        let gone: Vec<&ServiceId> =
            state.index().services().filter(|id| !state.services.contains_key(id)).collect();
        for id in gone {
            self.service(id);
        }
    }

    /// Stops a service's task whose service is gone, if it is not stopping yet.
    pub(crate) fn stop_orphan(&mut self, task: &Task) {
        let Some(deployment) = task.deployment else { return };
        if task.desired_status == DesiredStatus::Stopped || task.last_status == LastStatus::Stopped {
            return;
        }
        self.reasons.push(Reason::Orphaned { task: task.id });
        let reason = crate::reason::scaling_reason(deployment);
        self.stop(task, TaskStop { code: StopCode::ServiceSchedulerInitiated, reason });
    }

    pub(crate) fn put_service_deployment(&mut self, record: ServiceDeployment) {
        self.service_deployments.push(record);
    }

    pub(crate) fn put_service(&mut self, service: Service) {
        self.services.push(service);
    }

    /// Writes some other record, unless this plan writes it already. Says whether it does.
    pub(crate) fn put_once(&mut self, record: Record) -> bool {
        match self.others.entry(record.key()) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(record);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.deletes.push(key);
    }

    pub(crate) fn finish(self) -> Plan {
        let mut changes = Changes::new();
        self.tasks.into_values().for_each(|task| changes.put(task));
        self.services.into_iter().for_each(|service| changes.put(service));
        self.service_deployments.into_iter().for_each(|record| changes.put(record));
        self.others.into_values().for_each(|record| changes.put(record));
        self.deletes.into_iter().for_each(|key| changes.delete(key));
        // A node that registers anew, or a definition that goes away, makes these placements wrong.
        self.nodes_used.into_iter().for_each(|node| changes.guard(Key::Node(node)));
        self.exclusive.into_iter().for_each(|node| changes.guard_tasks_on(node));
        self.definitions_used.into_iter().for_each(|id| changes.guard(Key::TaskDefinition(id)));
        Plan { now: self.now, changes, reasons: self.reasons, next_wake: self.next_wake }
    }
}

fn has_ended(container: &Container) -> bool {
    container.exit_code.is_some() || container.status == coracle_types::ContainerStatus::Stopped
}
