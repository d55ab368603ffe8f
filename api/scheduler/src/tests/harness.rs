//! A state, a clock and nodes that do as they are told, or as the test tells them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_types::{
    Change, Changes, ClusterId, ContainerDefinition, ContainerStatus, DeploymentConfiguration,
    DeploymentController, DesiredStatus, HealthCheck, HealthStatus, Key, LastStatus, LaunchType, Node,
    NodeId, PropagateTags, Record, RolloutState, SchedulingStrategy, Service, ServiceId, ServiceStatus,
    State, StopCode, Task, TaskDefinition, TaskDefinitionId, TaskGroup, TaskId, TaskKey, TaskObservation,
    TaskOverride, TaskStop, Timestamp,
};

use crate::{NewDeployment, NewTask, Plan, PlanRng, Planner, Reason, check_plan, deploy, new_task, plan};

/// What a node makes of the tasks of one revision of the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// They run until they are told to stop.
    Runs,
    /// Their image can't be pulled.
    FailsToStart,
    /// They run, and stop in the same moment.
    ExitsAtOnce,
    /// They run, and their health check passes.
    Healthy,
    /// They run, and their health check fails.
    Unhealthy,
    /// They stay where they are.
    Hangs,
}

pub(crate) struct Harness {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    pub(crate) rng: PlanRng,
    /// Every reason so far.
    pub(crate) reasons: Vec<Reason>,
    /// By revision of the definition; [`Behaviour::Runs`] when not named.
    pub(crate) behaviours: BTreeMap<u32, Behaviour>,
    pub(crate) next_wake: Option<Timestamp>,
    /// Plans instead of [`plan`], if there is one.
    pub(crate) planner: Option<Planner>,
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId { region: "us-east-1".parse().unwrap(), name: "default".parse().unwrap() }
}

pub(crate) fn service_id(name: &str) -> ServiceId {
    ServiceId { cluster: cluster(), name: name.parse().unwrap() }
}

pub(crate) fn definition_id(revision: u32) -> TaskDefinitionId {
    TaskDefinitionId { region: "us-east-1".parse().unwrap(), family: "web".parse().unwrap(), revision }
}

/// A definition of 100 CPU units and 100 MiB; revisions from 100 on have a health check.
pub(crate) fn definition(revision: u32) -> TaskDefinition {
    let check = HealthCheck {
        command: vec!["CMD".to_owned(), "check".to_owned()],
        interval_s: 5,
        timeout_s: 5,
        retries: 2,
        start_period_s: 0,
    };
    let container = ContainerDefinition {
        cpu: 10,
        memory_reservation: Some(50),
        health_check: (revision >= 100).then_some(check),
        ..ContainerDefinition::new("app".parse().unwrap(), "hello:latest")
    };
    TaskDefinition {
        cpu: Some(100),
        memory: Some(100),
        ..TaskDefinition::new(definition_id(revision), Timestamp(0), vec![container])
    }
}

impl Harness {
    /// One node with room for 20 tasks, and revisions 1, 2 and 100 of the definition.
    pub(crate) fn new() -> Self {
        let mut harness = Self {
            state: State::default(),
            now: Timestamp(1_000_000_000),
            rng: PlanRng::new(1),
            reasons: Vec::new(),
            behaviours: BTreeMap::from([(100, Behaviour::Healthy)]),
            next_wake: None,
            planner: None,
        };
        harness.node(1, 2000, 2000);
        for revision in [1, 2, 100] {
            harness.put(definition(revision));
        }
        harness
    }

    pub(crate) fn commit(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        self.state.revision += 1;
        let revision = self.state.revision;
        changes.changes.iter().for_each(|change| self.state.apply(change, revision));
    }

    pub(crate) fn put(&mut self, record: impl Into<Record>) {
        let mut changes = Changes::new();
        changes.put(record);
        self.commit(&changes);
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.commit(&Changes { changes: vec![Change::Delete(key)], ..Changes::default() });
    }

    /// Registers a node, or registers it again.
    pub(crate) fn node(&mut self, id: u128, cpu_units: u32, memory_mib: u32) {
        self.node_with(id, cpu_units, memory_mib, |_| {});
    }

    pub(crate) fn node_with(
        &mut self,
        id: u128,
        cpu_units: u32,
        memory_mib: u32,
        change: impl FnOnce(&mut Node),
    ) {
        let id = NodeId(id);
        let incarnation = self.state.nodes.get(&id).map_or(1, |found| found.value.incarnation + 1);
        let mut node = Node::new(id, cpu_units, memory_mib, self.now, incarnation);
        change(&mut node);
        self.put(node);
    }

    /// Changes a node without its process starting anew.
    pub(crate) fn edit_node(&mut self, id: u128, change: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(&self.state.nodes.get(&NodeId(id)).unwrap().value);
        change(&mut node);
        self.put(node);
    }

    /// How many tasks that are to run each node has.
    pub(crate) fn on_nodes(&self) -> BTreeMap<u128, usize> {
        let mut counts = BTreeMap::new();
        for task in self.tasks().iter().filter(|task| task.desired_status == DesiredStatus::Running) {
            if let Some((node, _)) = task.node.filter(|_| task.last_status <= LastStatus::Running) {
                *counts.entry(node.0).or_default() += 1;
            }
        }
        counts
    }

    pub(crate) fn create(&mut self, name: &str, desired: u32, revision: u32) {
        self.create_with(name, desired, revision, |_| {});
    }

    pub(crate) fn create_with(
        &mut self,
        name: &str,
        desired: u32,
        revision: u32,
        change: impl FnOnce(&mut Service),
    ) {
        let mut service = Service {
            id: service_id(name),
            status: ServiceStatus::Active,
            desired_count: desired,
            scheduling_strategy: SchedulingStrategy::Replica,
            task_definition: definition_id(revision),
            launch_type: LaunchType::Ec2,
            launch_type_hidden: false,
            deployment_configuration: DeploymentConfiguration::default(),
            deployments: Vec::new(),
            last_completed: None,
            last_completed_revision: None,
            task_sets: Vec::new(),
            events: std::collections::VecDeque::new(),
            steady: false,
            backoff: coracle_types::LaunchBackoff::default(),
            failures_counted_to: 0,
            propagate_tags: PropagateTags::None,
            created_at: self.now,
            deleted_at: None,
            tags: coracle_types::Tags::default(),
            rest: coracle_types::JsonMap::new(),
        };
        change(&mut service);
        let mut changes = Changes::new();
        if DeploymentController::of(&service.rest) == DeploymentController::Ecs {
            let new = NewDeployment {
                task_definition: definition_id(revision),
                launch_type: LaunchType::Ec2,
                desired_count: service.desired_count,
                rest: coracle_types::JsonMap::new(),
            };
            deploy(&self.state, &mut service, new, self.now, &mut self.rng, &mut changes);
        }
        changes.put(service);
        self.commit(&changes);
    }

    pub(crate) fn service(&self, name: &str) -> Service {
        Service::clone(&self.state.services.get(&service_id(name)).unwrap().value)
    }

    pub(crate) fn update(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        let mut service = self.service(name);
        change(&mut service);
        self.put(service);
    }

    /// As UpdateService with another revision.
    pub(crate) fn deploy(&mut self, name: &str, revision: u32) {
        let new = NewDeployment {
            task_definition: definition_id(revision),
            launch_type: LaunchType::Ec2,
            desired_count: self.service(name).desired_count,
            rest: coracle_types::JsonMap::new(),
        };
        let mut service = self.service(name);
        let mut changes = Changes::new();
        deploy(&self.state, &mut service, new, self.now, &mut self.rng, &mut changes);
        changes.put(service);
        self.commit(&changes);
    }

    /// As RunTask without a placement.
    pub(crate) fn run_task(&mut self, revision: u32) -> TaskId {
        let id = self.rng.task_id();
        let new = NewTask {
            id,
            cluster: cluster(),
            group: TaskGroup::Family("web".parse().unwrap()),
            deployment: None,
            started_by: None,
            launch_type: LaunchType::Ec2,
            overrides: TaskOverride::default(),
            tags: coracle_types::Tags::default(),
            rest: coracle_types::JsonMap::new(),
        };
        let task = new_task(&definition(revision), new, self.now, &mut self.rng);
        self.put(task);
        id
    }

    /// Plans once, checks, commits.
    #[track_caller]
    pub(crate) fn plan(&mut self) -> Plan {
        let plan = match &mut self.planner {
            Some(planner) => planner.plan(&self.state, self.now),
            None => plan(&self.state, self.now, &mut self.rng),
        };
        let violations = check_plan(&self.state, &plan);
        assert!(violations.is_empty(), "{violations:?}\n{}", self.told(&plan));
        self.commit(&plan.changes);
        self.reasons.extend(plan.reasons.iter().cloned());
        self.next_wake = plan.next_wake;
        plan
    }

    /// A plan and what it was made from, in a form people can read.
    pub(crate) fn told(&self, plan: &Plan) -> String {
        let mut told = String::new();
        for reason in &plan.reasons {
            told += &format!("  {reason}\n");
        }
        for found in self.state.services.values() {
            let service = &found.value;
            let configuration = &service.deployment_configuration;
            told += &format!(
                "{} {:?} {:?} desired {} ({}/{}) {:?} {:?}\n",
                service.id.name,
                service.status,
                service.scheduling_strategy,
                service.desired_count,
                configuration.minimum_healthy_percent,
                configuration.maximum_percent,
                configuration.rest,
                service.rest,
            );
            for one in &service.deployments {
                told += &format!(
                    "  {} {:?} {:?} {}\n",
                    one.id, one.status, one.rollout_state, one.task_definition
                );
            }
            for task in
                self.state.tasks_of(&service.id).filter(|task| task.last_status != LastStatus::Stopped)
            {
                let node = task.node.and_then(|(node, _)| self.state.nodes.get(&node));
                told += &format!(
                    "  task {} of {} {:?}/{:?} {:?} on {:?} until {:?}\n",
                    task.id,
                    task.deployment.unwrap(),
                    task.last_status,
                    task.desired_status,
                    task.health(),
                    node.map(|found| (found.value.id.0, found.value.status)),
                    task.protected_until,
                );
            }
        }
        for found in self.state.service_deployments.values().filter(|found| !found.value.status.is_over()) {
            let record = &found.value;
            told += &format!("record of {} {:?} {:?}\n", record.deployment, record.status, record.stage);
        }
        told
    }

    pub(crate) fn tasks(&self) -> Vec<Task> {
        self.state.tasks.values().map(|found| Task::clone(&found.value)).collect()
    }

    /// Tasks that have a node and are not STOPPED.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.state.index().nodes().flat_map(|(_, load)| load.tasks()).map(|found| &found.value)
    }

    pub(crate) fn task(&self, id: TaskId) -> Task {
        self.tasks().into_iter().find(|task| task.id == id).unwrap()
    }

    /// As [`Harness::task`], without looking through all of them.
    pub(crate) fn task_by_key(&self, id: TaskId) -> Task {
        Task::clone(&self.state.tasks.get(&TaskKey { cluster: cluster(), id }).unwrap().value)
    }

    /// Protects a task from its service for so long.
    pub(crate) fn protect(&mut self, id: TaskId, time: Duration) {
        let mut task = self.task_by_key(id);
        task.protected_until = Some(self.now.after(time));
        task.version += 1;
        self.put(task);
    }

    /// RUNNING tasks that are to go on running, of one revision.
    pub(crate) fn running(&self, revision: u32) -> usize {
        let is = |task: &Task| {
            task.last_status == LastStatus::Running
                && task.desired_status == DesiredStatus::Running
                && task.task_definition.revision == revision
        };
        self.tasks().iter().filter(|task| is(task)).count()
    }

    /// Tasks that are RUNNING or on the way there.
    pub(crate) fn active(&self) -> usize {
        self.tasks().iter().filter(|task| task.last_status <= LastStatus::Running).count()
    }

    /// Takes in what a node saw.
    pub(crate) fn observe(&mut self, seen: &TaskObservation) -> bool {
        let mut task = self.task_by_key(seen.task);
        let changed = task.observe(seen);
        if changed {
            self.put(task);
        }
        changed
    }

    pub(crate) fn see(task: &Task, status: LastStatus, now: Timestamp) -> TaskObservation {
        let stopped = status == LastStatus::Stopped;
        // What is not checked has proved itself long ago: time stands still in most tests.
        let checked = task.containers.iter().any(|container| container.has_health_check);
        let started = if checked { now } else { Timestamp(now.as_millis() - 1000) };
        let mut seen = TaskObservation {
            status,
            started_at: (status == LastStatus::Running).then_some(started),
            stopping_at: (status > LastStatus::Running).then_some(now),
            execution_stopped_at: stopped.then_some(now),
            stopped_at: stopped.then_some(now),
            ..TaskObservation::unseen(task)
        };
        for (seen, container) in seen.containers.iter_mut().zip(&task.containers) {
            seen.status = match status {
                LastStatus::Stopped => ContainerStatus::Stopped,
                LastStatus::Running => ContainerStatus::Running,
                _ => container.status,
            };
        }
        seen
    }

    /// A task stops by itself, now.
    pub(crate) fn exit(&mut self, id: TaskId) {
        let mut seen = Self::see(&self.task(id), LastStatus::Stopped, self.now);
        seen.stop = Some(TaskStop {
            code: StopCode::EssentialContainerExited,
            reason: "Essential container in task exited".to_owned(),
        });
        assert!(self.observe(&seen));
    }

    /// What the node would report next of a task, if anything: one step of its life.
    pub(crate) fn next_observation(&self, task: &Task) -> Option<TaskObservation> {
        let (node, incarnation) = task.node?;
        if self.state.nodes.get(&node).is_none_or(|found| found.value.incarnation != incarnation) {
            return None;
        }
        let behaviour =
            self.behaviours.get(&task.task_definition.revision).copied().unwrap_or(Behaviour::Runs);
        let health = match behaviour {
            Behaviour::Healthy => HealthStatus::Healthy,
            Behaviour::Unhealthy => HealthStatus::Unhealthy,
            _ => HealthStatus::Unknown,
        };
        let status = match (task.last_status, task.desired_status, behaviour) {
            (LastStatus::Stopped, ..) => return None,
            (_, _, Behaviour::Hangs) => return None,
            (last, DesiredStatus::Stopped, _) if last < LastStatus::Deactivating => LastStatus::Deactivating,
            (last, DesiredStatus::Stopped, _) if last < LastStatus::Stopping => LastStatus::Stopping,
            (_, DesiredStatus::Stopped, _) => LastStatus::Stopped,
            (_, _, Behaviour::FailsToStart | Behaviour::ExitsAtOnce) => LastStatus::Stopped,
            (LastStatus::Running, ..) if task.health() == health => return None,
            _ => LastStatus::Running,
        };
        let mut seen = Self::see(task, status, self.now);
        match (status, behaviour) {
            (LastStatus::Running, _) => seen.containers.iter_mut().for_each(|one| one.health = health),
            (LastStatus::Stopped, Behaviour::FailsToStart) => {
                seen.stop = Some(TaskStop {
                    code: StopCode::TaskFailedToStart,
                    reason: "CannotPullContainerError: no such image".to_owned(),
                });
            }
            (LastStatus::Stopped, Behaviour::ExitsAtOnce) => {
                seen.started_at = Some(self.now);
                seen.stop = Some(TaskStop {
                    code: StopCode::EssentialContainerExited,
                    reason: "Essential container in task exited".to_owned(),
                });
            }
            _ => {}
        }
        Some(seen)
    }

    /// Each node reports one step of each of its tasks. Says whether any did.
    pub(crate) fn step(&mut self) -> bool {
        let seen: Vec<TaskObservation> = self.live().filter_map(|task| self.next_observation(task)).collect();
        let mut changed = false;
        for seen in &seen {
            changed |= self.observe(seen);
        }
        changed
    }

    /// Plans and steps in turns until nothing changes; time stands still.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            let planned = !self.plan().changes.is_empty();
            let stepped = self.step();
            if !planned && !stepped {
                return;
            }
        }
        panic!("it does not settle: {:#?}", &self.reasons[self.reasons.len().saturating_sub(20)..]);
    }

    /// Lets `time` pass, planning whenever the scheduler asked for it.
    #[track_caller]
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.settle();
        while let Some(next) = self.next_wake.filter(|&next| next <= end) {
            assert!(next > self.now, "a wake in the past would spin");
            self.now = next;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// How many reasons so far are such.
    pub(crate) fn said(&self, is: impl Fn(&Reason) -> bool) -> usize {
        self.reasons.iter().filter(|reason| is(reason)).count()
    }

    pub(crate) fn rollout(&self, name: &str) -> RolloutState {
        self.service(name).primary().unwrap().rollout_state
    }
}
