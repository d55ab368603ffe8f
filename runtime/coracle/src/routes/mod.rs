//! The routing table: which service is answered by which containers of this node.
//!
//! It follows the store's records and the agent's endpoints, and of each table only that is worked out which a change
//! concerns. A container keeps its slot, and with it its count of requests in flight, for as long as the agent lists
//! it.

mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use coracle_agent::Endpoint;
use coracle_router::{Router, RoutingTable, ServiceName, Slot};
use coracle_store::Store;
use coracle_types::elb::TargetGroupId;
use coracle_types::{
    ContainerName, Key, LastStatus, Region, Service, ServiceId, ServiceStatus, State, Task, TaskDefinition,
    TaskId, TaskKey,
};
use tokio::sync::watch;

use crate::balancing::activation::{Activity, groups_of};
use crate::balancing::model::{self, Place};
use target::{ServiceTarget, target};

/// Publishes a routing table each time the state or the endpoints change, until the store or the agent goes
/// away; `published` is then the revision of the state it is of.
pub(crate) async fn run(
    router: Router,
    store: Arc<dyn Store>,
    mut endpoints: watch::Receiver<Arc<Vec<Endpoint>>>,
    default_region: Region,
    place: Place,
    published: watch::Sender<u64>,
    activity: Arc<Activity>,
) {
    let mut revisions = store.watch();
    let mut tables = Tables::new(&default_region, place, activity);
    loop {
        // Before the snapshots: what changes after them must wake this loop.
        revisions.mark_unchanged();
        let current = Arc::clone(&endpoints.borrow_and_update());
        let state = store.snapshot();
        let revision = state.revision;
        let advanced = tables.advance(state, &current);
        if advanced.table {
            router.publish(tables.table.clone());
        }
        if advanced.records {
            published.send_replace(revision);
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            changed = endpoints.changed() => if changed.is_err() { return },
        }
    }
}

/// A container of a task.
type Container = (TaskId, ContainerName);

/// The current table, and what it takes to make the next one of it.
struct Tables {
    table: RoutingTable,
    place: Place,
    activity: Arc<Activity>,
    /// What the table is of.
    state: Arc<State>,
    /// The endpoints of the table, in the agent's order.
    endpoints: Arc<Vec<Endpoint>>,
    slots: HashMap<Container, Arc<Slot>>,
    /// Containers by the service they answer for.
    by_service: HashMap<ServiceId, BTreeMap<Container, Endpoint>>,
    /// Services without a target. Why, depends on their tasks.
    empty: HashSet<ServiceId>,
    /// Tasks by the groups they are registered in.
    registered: BTreeMap<TargetGroupId, BTreeSet<TaskKey>>,
}

/// What of a table is no longer right.
#[derive(Default)]
struct Stale {
    services: BTreeSet<ServiceId>,
    groups: BTreeSet<TargetGroupId>,
    listeners: bool,
    /// Whether records have changed that are about services, tasks or load balancing.
    records: bool,
}

/// What a step has changed.
#[derive(Debug, PartialEq, Eq)]
struct Advanced {
    table: bool,
    records: bool,
}

impl Tables {
    fn new(default_region: &Region, place: Place, activity: Arc<Activity>) -> Self {
        Self {
            table: RoutingTable::new(default_region.as_str()),
            place,
            activity,
            state: Arc::default(),
            endpoints: Arc::default(),
            slots: HashMap::new(),
            by_service: HashMap::new(),
            empty: HashSet::new(),
            registered: BTreeMap::new(),
        }
    }

    /// Brings the table up to date.
    fn advance(&mut self, state: Arc<State>, endpoints: &Arc<Vec<Endpoint>>) -> Advanced {
        let mut stale = Stale::default();
        self.compare_endpoints(endpoints, &state, &mut stale);
        match state.changed_since(self.state.revision).filter(|_| self.state.revision > 0) {
            Some(changed) => changed.for_each(|key| self.follow(key, &state, &mut stale)),
            None => self.begin_anew(&state, &mut stale),
        }
        self.state = state;
        let table = stale.listeners || !stale.services.is_empty() || !stale.groups.is_empty();
        self.renew(&stale);
        Advanced { table, records: stale.records }
    }

    /// Takes over the agent's list, which is in the order of tasks.
    fn compare_endpoints(&mut self, endpoints: &Arc<Vec<Endpoint>>, state: &State, stale: &mut Stale) {
        if Arc::ptr_eq(&self.endpoints, endpoints) {
            return;
        }
        let before = std::mem::replace(&mut self.endpoints, Arc::clone(endpoints));
        let is_of_same_task = |one: &Endpoint, next: &Endpoint| one.task.id == next.task.id;
        let mut old = before.chunk_by(is_of_same_task).peekable();
        let mut new = endpoints.chunk_by(is_of_same_task).peekable();
        loop {
            let (gone, come): (&[Endpoint], &[Endpoint]) = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(was), Some(is)) if was[0].task.id == is[0].task.id => (was, is),
                (Some(was), Some(is)) if was[0].task.id < is[0].task.id => (was, &[]),
                (Some(was), None) => (was, &[]),
                (_, Some(is)) => (&[], is),
            };
            if !gone.is_empty() {
                old.next();
            }
            if !come.is_empty() {
                new.next();
            }
            let is_in = |list: &[Endpoint], one: &Endpoint| {
                list.iter().any(|other| other.container == one.container && other.target.is(&one.target))
            };
            for endpoint in gone.iter().filter(|endpoint| !is_in(come, endpoint)) {
                self.forget(endpoint);
                note(endpoint, state, stale);
            }
            for endpoint in come.iter().filter(|endpoint| !is_in(gone, endpoint)) {
                self.add(endpoint);
                note(endpoint, state, stale);
            }
        }
    }

    fn add(&mut self, endpoint: &Endpoint) {
        let container = (endpoint.task.id, endpoint.container.clone());
        let id = endpoint.task.id.to_string();
        let slot = match service_of(&endpoint.task) {
            None => Slot::new(id, target(endpoint)),
            Some(service) => {
                let calls = self.activity.calls(&service);
                let slot = Slot::new(id, Arc::new(ServiceTarget { target: target(endpoint), calls }));
                self.activity.add(&service, &slot);
                self.by_service.entry(service).or_default().insert(container.clone(), endpoint.clone());
                slot
            }
        };
        self.slots.insert(container, slot);
    }

    fn forget(&mut self, endpoint: &Endpoint) {
        let container = (endpoint.task.id, endpoint.container.clone());
        self.slots.remove(&container);
        if let Some(service) = service_of(&endpoint.task)
            && let Some(containers) = self.by_service.get_mut(&service)
        {
            containers.remove(&container);
            if containers.is_empty() {
                self.by_service.remove(&service);
            }
        }
    }

    /// Notes what the change of one record concerns.
    fn follow(&mut self, key: &Key, state: &State, stale: &mut Stale) {
        let before = Arc::clone(&self.state);
        match key {
            Key::Service(id) => {
                for service in [&*before, state].iter().filter_map(|state| state.services.get(id)) {
                    stale.groups.extend(groups_of(&service.value));
                }
                stale.services.insert(id.clone());
            }
            Key::Task(key) => {
                let versions = [&*before, state].map(|state| state.tasks.get(key).map(|found| &*found.value));
                let registrations = versions.map(|task| task.map(registrations).unwrap_or_default());
                if registrations[0] != registrations[1] {
                    self.register(key, &registrations[0], &registrations[1]);
                    stale.groups.extend(registrations.into_iter().flatten().map(|(group, ..)| group.clone()));
                }
                let service = versions.into_iter().flatten().find_map(service_of);
                stale.services.extend(service.filter(|service| self.empty.contains(service)));
            }
            Key::TargetGroup(id) => _ = stale.groups.insert(id.clone()),
            Key::Target(id) => _ = stale.groups.insert(id.group.clone()),
            Key::LoadBalancer(_)
            | Key::Listener(_)
            | Key::Rule(_)
            | Key::Certificate(_)
            | Key::TrustStore(_) => {
                stale.listeners = true;
            }
            // A definition is there before anything that is routed to is made by it, and never changes.
            _ => return,
        }
        stale.records = true;
    }

    fn register(&mut self, task: &TaskKey, before: &[Registration<'_>], after: &[Registration<'_>]) {
        for (group, ..) in before {
            if let Some(tasks) = self.registered.get_mut(*group) {
                tasks.remove(task);
                if tasks.is_empty() {
                    self.registered.remove(*group);
                }
            }
        }
        for (group, ..) in after {
            self.registered.entry((*group).clone()).or_default().insert(task.clone());
        }
    }

    /// Everything may have changed.
    fn begin_anew(&mut self, state: &State, stale: &mut Stale) {
        self.registered.clear();
        for task in state.tasks.values().map(|found| &found.value) {
            self.register(&task.key(), &[], &registrations(task));
        }
        for state in [&*self.state, state] {
            stale.services.extend(state.services.keys().cloned());
            stale.groups.extend(state.target_groups.keys().cloned());
        }
        stale.listeners = true;
        stale.records = true;
    }

    /// Works out what is stale.
    fn renew(&mut self, stale: &Stale) {
        let state = Arc::clone(&self.state);
        for id in &stale.services {
            match state.services.get(id).filter(|found| found.value.status != ServiceStatus::Inactive) {
                Some(found) => self.route(&state, &found.value),
                None => {
                    self.table.remove(&name_of(id));
                    self.empty.remove(id);
                }
            }
        }
        let activated = || {
            let services = state.services.values().map(|found| &*found.value);
            services.filter(|service| service.activation().is_some()).flat_map(groups_of).collect()
        };
        let activated: HashSet<TargetGroupId> =
            if stale.groups.is_empty() { HashSet::new() } else { activated() };
        for id in &stale.groups {
            let Some(found) = state.target_groups.get(id) else {
                self.table.remove_target_group(&self.place.id(id.clone()));
                continue;
            };
            let tasks = self.registered.get(id).into_iter().flatten();
            let tasks = tasks.filter_map(|key| Some(&*state.tasks.get(key)?.value));
            let slot = |task, container: &ContainerName| self.slots.get(&(task, container.clone())).cloned();
            let targets = model::targets(&state, id, tasks, slot);
            let group = model::target_group(&found.value, targets, activated.contains(id), &self.place);
            self.table.insert_target_group(group);
        }
        if stale.listeners {
            self.table.clear_listeners();
            for listener in model::listeners(&state, &self.place) {
                self.table.insert_listener(listener);
            }
        }
    }

    /// Puts a service into the table as it is now.
    fn route(&mut self, state: &State, service: &Service) {
        let containers = self.by_service.get(&service.id).into_iter().flatten();
        let targets: Vec<Arc<Slot>> = containers
            .filter(|(_, endpoint)| serves(state, service, endpoint))
            .filter_map(|(container, _)| self.slots.get(container).cloned())
            .collect();
        let reason = if targets.is_empty() {
            self.empty.insert(service.id.clone());
            empty_reason(state, service)
        } else {
            self.empty.remove(&service.id);
            String::new()
        };
        let name = name_of(&service.id);
        self.table.insert(name.clone(), targets, reason);
        if service.activation().is_some() {
            self.table.activate(&name);
        }
    }
}

/// A place of a task in a target group.
type Registration<'a> = (&'a TargetGroupId, &'a ContainerName, u16);

/// Where a task is registered and may be sent requests.
fn registrations(task: &Task) -> Vec<Registration<'_>> {
    let live = task.targets.iter().filter(|target| target.draining_since.is_none());
    live.map(|target| (&target.group, &target.container, target.port)).collect()
}

/// Notes what the coming or going of an endpoint concerns.
fn note(endpoint: &Endpoint, state: &State, stale: &mut Stale) {
    stale.services.extend(service_of(&endpoint.task));
    if let Some(task) = state.tasks.get(&endpoint.task.key()) {
        stale.groups.extend(task.value.targets.iter().map(|target| target.group.clone()));
    }
}

fn name_of(id: &ServiceId) -> ServiceName {
    ServiceName {
        region: id.cluster.region.to_string(),
        cluster: id.cluster.name.to_string(),
        service: id.name.to_string(),
    }
}

/// The service a task's containers answer for.
fn service_of(task: &Task) -> Option<ServiceId> {
    Some(ServiceId { cluster: task.cluster.clone(), name: task.service()?.clone() })
}

/// Whether this container is the one that answers for the service: the one its load balancer names,
/// else the first that maps a port, else the first there is that serves HTTP.
fn serves(state: &State, service: &Service, endpoint: &Endpoint) -> bool {
    let named =
        service.rest.get("loadBalancers").and_then(|list| list.get(0)?.get("containerName")?.as_str());
    if let Some(name) = named {
        return endpoint.container.as_str() == name;
    }
    let Some(definition) = state.task_definitions.get(&endpoint.task.task_definition) else {
        return true;
    };
    first_port(&definition.value).is_none_or(|name| *name == endpoint.container)
}

fn first_port(definition: &TaskDefinition) -> Option<&ContainerName> {
    definition
        .containers
        .iter()
        .find(|container| !container.port_mappings.is_empty())
        .map(|container| &container.name)
}

/// Why a service has no task that could answer, in words for whoever called.
fn empty_reason(state: &State, service: &Service) -> String {
    if service.status == ServiceStatus::Draining {
        return format!("service {} is being deleted", service.id.name);
    }
    if service.desired_count == 0 {
        return format!("service {} has a desired count of 0", service.id.name);
    }
    let tasks = state.tasks_of(&service.id);
    let (mut starting, mut running, mut newest_stop) = (0, 0, None);
    for task in tasks {
        match task.last_status {
            LastStatus::Running => running += 1,
            LastStatus::Stopped => newest_stop = newest_stop.max(task.stopped_at.map(|at| (at, task.id))),
            status if status < LastStatus::Running => starting += 1,
            _ => {}
        }
    }
    let mut reason = format!(
        "service {} wants {} tasks: {starting} starting, {running} running",
        service.id.name, service.desired_count
    );
    if running > 0 {
        reason.push_str(", none of which serves HTTP (the component must export wasi:http, or listen with wasi:sockets on the first port of its portMappings)");
    }
    let stopped =
        newest_stop.and_then(|(_, id)| state.tasks.get(&TaskKey { cluster: service.id.cluster.clone(), id }));
    if let Some(stop) = stopped.and_then(|task| task.value.stop.as_ref()) {
        reason.push_str("; the last one stopped: ");
        reason.push_str(&stop.reason);
    }
    reason
}

#[cfg(test)]
mod tests;
