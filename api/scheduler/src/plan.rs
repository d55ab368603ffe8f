//! A plan: everything that should change, decided from one snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use coracle_types::{
    Changes, ClusterId, Container, DesiredStatus, Key, LastStatus, NodeId, Service, ServiceDeployment,
    ServiceName, State, StopCode, Task, TaskDefinitionId, TaskId, TaskKey, TaskStop, Timestamp,
};

use crate::capacity::{Capacity, occupied};
use crate::reason::{Reason, lost_reason};
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

/// Decides what should change in `state` at `now`. Takes time in proportion to the tasks and services
/// there are, not to their product.
#[must_use]
pub fn plan(state: &State, now: Timestamp, rng: &mut PlanRng) -> Plan {
    let mut pass = Pass::new(state, now, rng);
    let mut members: HashMap<(&ClusterId, &ServiceName), Vec<Member<'_>>> = HashMap::new();
    let mut waiting = Vec::new();
    for found in state.tasks.values() {
        let task = &*found.value;
        if pass.lose(task) {
            continue;
        }
        pass.releasing |= task.desired_status == DesiredStatus::Stopped && occupied(state, task).is_some();
        if task.node.is_none()
            && task.last_status == LastStatus::Provisioning
            && task.desired_status == DesiredStatus::Running
        {
            waiting.push(task);
        }
        if let Some(name) = task.service() {
            let member = Member { task, revision: found.revision };
            members.entry((&task.cluster, name)).or_default().push(member);
        }
    }
    pass.place_waiting(waiting);
    for found in state.services.values() {
        let id = &found.value.id;
        let tasks = members.remove(&(&id.cluster, &id.name)).unwrap_or_default();
        service::reconcile(&mut pass, &found.value, &tasks);
    }
    let mut orphans: Vec<&Task> = members.into_values().flatten().map(|member| member.task).collect();
    orphans.sort_by_key(|task| task.key());
    for task in orphans {
        pass.stop_orphan(task);
    }
    retention::forget(&mut pass);
    pass.finish()
}

/// One planning pass: the working copy, in which later decisions see earlier ones.
pub(crate) struct Pass<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
    pub(crate) rng: &'a mut PlanRng,
    pub(crate) capacity: Capacity,
    pub(crate) reasons: Vec<Reason>,
    /// Whether something that is stopping will give back what it holds: a reason to wait before
    /// anybody is told that nothing fits.
    pub(crate) releasing: bool,
    /// Tasks that are new or changed.
    tasks: BTreeMap<TaskKey, Task>,
    services: Vec<Service>,
    service_deployments: Vec<ServiceDeployment>,
    deletes: Vec<Key>,
    nodes_used: BTreeSet<NodeId>,
    definitions_used: BTreeSet<TaskDefinitionId>,
    next_wake: Option<Timestamp>,
}

impl<'a> Pass<'a> {
    fn new(state: &'a State, now: Timestamp, rng: &'a mut PlanRng) -> Self {
        Self {
            state,
            now,
            rng,
            capacity: Capacity::of(state),
            reasons: Vec::new(),
            releasing: false,
            tasks: BTreeMap::new(),
            services: Vec::new(),
            service_deployments: Vec::new(),
            deletes: Vec::new(),
            nodes_used: BTreeSet::new(),
            definitions_used: BTreeSet::new(),
            next_wake: None,
        }
    }

    /// Makes sure there is another plan at `at`, if that is still to come.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.next_wake = Some(self.next_wake.map_or(at, |next| next.min(at)));
        }
    }

    /// Ends a task whose node, or whose node's incarnation, is gone. Says whether it did.
    fn lose(&mut self, task: &Task) -> bool {
        let Some((node, incarnation)) = task.node else { return false };
        if task.last_status == LastStatus::Stopped {
            return false;
        }
        if self.state.nodes.get(&node).is_some_and(|found| found.value.incarnation <= incarnation) {
            return false;
        }
        let reason = lost_reason(node);
        let mut task = task.clone();
        task.stop
            .get_or_insert_with(|| TaskStop { code: StopCode::TerminationNotice, reason: reason.clone() });
        // Nobody saw how they ended, so they have no exit code.
        for container in task.containers.iter_mut().filter(|container| !has_ended(container)) {
            container.reason.get_or_insert_with(|| reason.clone());
        }
        task.end(self.now);
        self.reasons.push(Reason::Lost { task: task.id, node });
        self.tasks.insert(task.key(), task);
        true
    }

    /// Places accepted tasks that have no node yet, the oldest first; what fits nowhere goes on waiting.
    fn place_waiting(&mut self, mut waiting: Vec<&Task>) {
        waiting.sort_by_key(|task| (task.created_at, task.id));
        for task in waiting {
            if let Ok(node) = self.capacity.place(task.cpu, task.memory) {
                let mut task = task.clone();
                assign(&mut task, node);
                self.reasons.push(Reason::Placed { task: task.id, node: node.0 });
                self.add_placed(task);
            }
        }
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

    /// Takes a task that has just been assigned to a node.
    pub(crate) fn add_placed(&mut self, task: Task) {
        if let Some((node, _)) = task.node {
            self.nodes_used.insert(node);
        }
        self.definitions_used.insert(task.task_definition.clone());
        self.tasks.insert(task.key(), task);
    }

    /// Tells a task to stop. Says whether it is over with that, because no node knew of it.
    pub(crate) fn stop(&mut self, task: &Task, stop: TaskStop) -> bool {
        let changed = self.tasks.entry(task.key()).or_insert_with(|| task.clone());
        changed.stop(stop, self.now);
        let over = changed.last_status == LastStatus::Stopped;
        self.releasing |= !over;
        over
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

    pub(crate) fn delete(&mut self, key: Key) {
        self.deletes.push(key);
    }

    fn finish(self) -> Plan {
        let mut changes = Changes::new();
        self.tasks.into_values().for_each(|task| changes.put(task));
        self.services.into_iter().for_each(|service| changes.put(service));
        self.service_deployments.into_iter().for_each(|record| changes.put(record));
        self.deletes.into_iter().for_each(|key| changes.delete(key));
        // A node that registers anew, or a definition that goes away, makes these placements wrong.
        self.nodes_used.into_iter().for_each(|node| changes.guard(Key::Node(node)));
        self.definitions_used.into_iter().for_each(|id| changes.guard(Key::TaskDefinition(id)));
        Plan { now: self.now, changes, reasons: self.reasons, next_wake: self.next_wake }
    }
}

fn has_ended(container: &Container) -> bool {
    container.exit_code.is_some() || container.status == coracle_types::ContainerStatus::Stopped
}
