//! The safety properties of a plan, stated once and apart from how plans are made.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use coracle_types::{
    Change, DeploymentController, DeploymentStrategy, DesiredStatus, Key, LastStatus, LaunchType, Node,
    NodeId, NodeStatus, PlacementConstraint, Record, SchedulingStrategy, Service, ServiceId, ServiceStatus,
    State, Task, TaskId, Timestamp, placement_constraints,
};

use crate::after::{After, service_id};
use crate::bounds::Bounds;
use crate::classify::{Context, Phase, replacing};
use crate::placement::host_ports;
use crate::placement::query::{Expression, Subject};
use crate::plan::Plan;

/// A safety property a plan would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It changes the same record twice.
    ChangedTwice(Key),
    /// A new task, or a new event, has an id that is taken.
    DuplicateId(String),
    /// A STOPPED task is changed other than by being deleted.
    StoppedTaskChanged(TaskId),
    /// A task that is not STOPPED is deleted.
    LiveTaskDeleted(TaskId),
    /// A task that was to stop is to run again.
    Revived(TaskId),
    /// A task's state goes back.
    WentBack(TaskId),
    /// A task that has a node gets another one.
    Moved(TaskId),
    /// A task is placed on a node, or an incarnation of one, that is not there.
    NoSuchNode(TaskId),
    /// A placement takes more than its node has.
    OverCapacity(NodeId),
    /// A task is started for a service that is not ACTIVE.
    StartedForInactive(TaskId),
    /// A start takes a service above its upper bound.
    AboveUpperBound {
        /// Whose.
        service: ServiceId,
        /// RUNNING tasks and those on the way there, with the plan's.
        active: usize,
        /// What is allowed.
        upper: u32,
    },
    /// A stop takes a service below its lower bound.
    BelowLowerBound {
        /// Whose.
        service: ServiceId,
        /// RUNNING tasks that are left.
        ready: usize,
        /// What is needed.
        lower: u32,
    },
    /// A DAEMON service gets a second task of one deployment on one node.
    SecondDaemon(TaskId),
    /// A task is placed on a node that takes none, is not in contact, or belongs to another cluster.
    NodeClosed(TaskId),
    /// A task is placed where a constraint forbids it.
    ConstraintBroken(TaskId),
    /// A task is placed where another one has a port it needs.
    PortTaken(TaskId),
    /// A protected task is stopped by its service.
    ProtectedStopped(TaskId),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which safety properties `plan` breaks, if it is committed on `state`. None, or there is a bug in the
/// scheduler and the plan must not be committed. Takes no longer than planning.
#[must_use]
pub fn check_plan(state: &State, plan: &Plan) -> Vec<Violation> {
    let after = After::of(state, &plan.changes.changes);
    let mut check = Check { state, after: &after, now: plan.now, violations: Vec::new() };
    check.ids(plan);
    let mut touched = Touched::default();
    for change in &plan.changes.changes {
        check.task(change, &mut touched);
    }
    check.nodes(&touched.nodes);
    check.services(&touched);
    check.violations
}

/// What the changed tasks touch.
#[derive(Default)]
struct Touched {
    /// Nodes that got a task.
    nodes: BTreeSet<NodeId>,
    /// Services that got a task.
    grown: BTreeSet<ServiceId>,
    /// Services of which a RUNNING and healthy task is told to stop.
    shrunk: BTreeSet<ServiceId>,
}

struct Check<'a> {
    state: &'a State,
    after: &'a After<'a>,
    now: Timestamp,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn ids(&mut self, plan: &Plan) {
        let mut keys = BTreeSet::new();
        let mut events = BTreeSet::new();
        let mut tasks = BTreeSet::new();
        for change in &plan.changes.changes {
            let key = change.key();
            match change {
                Change::Put(Record::Service(service)) => {
                    for event in &service.events {
                        if !events.insert(event.id) {
                            self.violations.push(Violation::DuplicateId(event.id.to_string()));
                        }
                    }
                }
                Change::Put(Record::Task(task)) => {
                    if !tasks.insert(task.id) {
                        self.violations.push(Violation::DuplicateId(task.id.to_string()));
                    }
                    let mut containers = BTreeSet::new();
                    if !task.containers.iter().all(|container| containers.insert(container.id)) {
                        self.violations.push(Violation::DuplicateId(task.id.to_string()));
                    }
                }
                _ => {}
            }
            if !keys.insert(key.clone()) {
                self.violations.push(Violation::ChangedTwice(key));
            }
        }
    }

    fn task(&mut self, change: &Change, touched: &mut Touched) {
        let (before, task) = match change {
            Change::Put(Record::Task(task)) => (self.state.tasks.get(&task.key()), task),
            Change::Delete(Key::Task(key)) => {
                let live = self.state.tasks.get(key).filter(|found| found.value.holds_resources());
                if live.is_some() {
                    self.violations.push(Violation::LiveTaskDeleted(key.id));
                }
                return;
            }
            _ => return,
        };
        if task.node.is_some() && before.is_none_or(|before| before.value.node.is_none()) {
            match occupied(self.after, task) {
                Some(node) => {
                    touched.nodes.insert(node);
                    self.placement(task, node);
                }
                None => self.violations.push(Violation::NoSuchNode(task.id)),
            }
        }
        let Some(before) = before.map(|found| &*found.value) else {
            self.new_task(task, touched);
            return;
        };
        if before.last_status == LastStatus::Stopped {
            self.violations.push(Violation::StoppedTaskChanged(task.id));
        }
        if before.desired_status == DesiredStatus::Stopped && task.desired_status == DesiredStatus::Running {
            self.violations.push(Violation::Revived(task.id));
        }
        if task.last_status < before.last_status {
            self.violations.push(Violation::WentBack(task.id));
        }
        if before.node.is_some() && before.node != task.node {
            self.violations.push(Violation::Moved(task.id));
        }
        let stopped = before.desired_status == DesiredStatus::Running
            && task.desired_status == DesiredStatus::Stopped
            && task.last_status != LastStatus::Stopped;
        if stopped && before.is_protected(self.now) && before.service().is_some() {
            self.protected(before);
        }
        if stopped
            && self.is_ready(before)
            && let Some(service) = service_id(task)
        {
            touched.shrunk.insert(service);
        }
    }

    fn new_task(&mut self, task: &Task, touched: &mut Touched) {
        let Some(id) = service_id(task) else { return };
        match self.after.service(&id) {
            Some(service) if service.status == ServiceStatus::Active => {
                touched.grown.insert(id);
            }
            _ => self.violations.push(Violation::StartedForInactive(task.id)),
        }
    }

    fn is_ready(&self, task: &Task) -> bool {
        let service = service_id(task).and_then(|id| self.state.services.get(&id));
        let replacing = service.and_then(|found| replacing(&found.value));
        let context = Context { state: self.state, now: self.now, grace: Duration::ZERO, replacing };
        context.classify(task) == Phase::Ready
    }

    /// Only what is wrong with a task may stop it while it is protected, and the end of its service.
    fn protected(&mut self, task: &Task) {
        let id = service_id(task);
        let service = id.and_then(|id| self.after.service(&id));
        let active = service.is_some_and(|service| service.status == ServiceStatus::Active);
        if active && self.is_ready(task) {
            self.violations.push(Violation::ProtectedStopped(task.id));
        }
    }

    /// Whether a task may be where it was placed, whatever room there is.
    fn placement(&mut self, task: &Task, node: NodeId) {
        let Some(node) = self.after.node(node) else { return };
        if node.status != NodeStatus::Active || !node.agent_connected || !node.serves(&task.cluster) {
            self.violations.push(Violation::NodeClosed(task.id));
        }
        let Some(definition) = self.after.definition(&task.task_definition) else { return };
        let others = || self.after.tasks_on(node.id).filter(|other| other.id != task.id);
        let ports = host_ports(definition, task.launch_type);
        if !ports.is_empty() {
            let taken = others().any(|other| {
                let definition = self.after.definition(&other.task_definition);
                definition.is_some_and(|definition| {
                    host_ports(definition, other.launch_type).iter().any(|port| ports.contains(port))
                })
            });
            if taken {
                self.violations.push(Violation::PortTaken(task.id));
            }
        }
        let service = service_id(task).and_then(|id| self.after.service(&id));
        let asked = service.map_or(&task.rest, |service| &service.rest);
        let of_definition = if task.launch_type == LaunchType::Fargate {
            Vec::new()
        } else {
            placement_constraints(&definition.rest)
        };
        let subject = CheckedNode { after: self.after, node, without: task.id };
        let broken =
            of_definition.into_iter().chain(placement_constraints(asked)).any(
                |constraint| match constraint {
                    PlacementConstraint::DistinctInstance => others().any(|other| {
                        other.cluster == task.cluster
                            && other.group == task.group
                            && other.last_status <= LastStatus::Running
                    }),
                    PlacementConstraint::MemberOf(text) => {
                        // What depends on other tasks held when it was decided; tasks placed after it may change that.
                        Expression::parse(&text).map_or(true, |expression| {
                            !expression.depends_on_tasks() && !expression.holds(&subject)
                        })
                    }
                },
            );
        if broken {
            self.violations.push(Violation::ConstraintBroken(task.id));
        }
    }

    fn nodes(&mut self, nodes: &BTreeSet<NodeId>) {
        for node in nodes {
            let before = self.state.load_of(*node).map_or((0, 0), |load| (load.cpu, load.memory));
            let after = self.after.load_of(*node);
            let fits = self.after.node(*node).is_some_and(|found| {
                // A node that offers less than it did, or that others placed on meanwhile, may be over
                // already; that is no violation as long as the plan does not add to it.
                let fits = |before: u64, after: u64, offered: u32| after <= before.max(u64::from(offered));
                fits(before.0, after.0, found.cpu_units) && fits(before.1, after.1, found.memory_mib)
            });
            if !fits {
                self.violations.push(Violation::OverCapacity(*node));
            }
        }
    }

    fn services(&mut self, touched: &Touched) {
        let after = self.after;
        for id in touched.grown.union(&touched.shrunk) {
            let Some(service) = after.service(id) else { continue };
            // Whoever directs task sets from outside decides how many tasks there are.
            let external = DeploymentController::of(&service.rest) == DeploymentController::External;
            if service.status == ServiceStatus::Active && !external {
                let tasks: Vec<&Task> = after.tasks_of(id).map(|task| &**task).collect();
                self.bounds(service, &tasks, touched);
            }
        }
    }

    fn bounds(&mut self, service: &Service, tasks: &[&Task], touched: &Touched) {
        let configuration = &service.deployment_configuration;
        let bounds = if configuration.strategy() == DeploymentStrategy::Rolling {
            Bounds::of(service.desired_count, configuration)
        } else {
            Bounds::of_shifting(service.desired_count, configuration)
        };
        let active = tasks.iter().filter(|task| task.last_status <= LastStatus::Running).count();
        if touched.grown.contains(&service.id) {
            if active > usize::try_from(bounds.upper).unwrap_or(usize::MAX) {
                let service = service.id.clone();
                self.violations.push(Violation::AboveUpperBound { service, active, upper: bounds.upper });
            }
            if service.scheduling_strategy == SchedulingStrategy::Daemon {
                let mut taken = BTreeSet::new();
                for task in tasks.iter().filter(|task| task.desired_status == DesiredStatus::Running) {
                    if task.last_status <= LastStatus::Running && !taken.insert((task.deployment, task.node))
                    {
                        self.violations.push(Violation::SecondDaemon(task.id));
                    }
                }
            }
        }
        if touched.shrunk.contains(&service.id) {
            let ready = tasks.iter().filter(|task| self.is_ready(task)).count();
            if ready < usize::try_from(bounds.lower).unwrap_or(usize::MAX) {
                let service = service.id.clone();
                self.violations.push(Violation::BelowLowerBound { service, ready, lower: bounds.lower });
            }
        }
    }
}

/// A node as expressions see it when a task has just been placed on it.
struct CheckedNode<'a> {
    after: &'a After<'a>,
    node: &'a Node,
    without: TaskId,
}

impl Subject for CheckedNode<'_> {
    fn node(&self) -> &Node {
        self.node
    }

    fn running_tasks(&self) -> usize {
        self.after.tasks_on(self.node.id).filter(|task| task.last_status == LastStatus::Running).count()
    }

    fn has_task_of(&self, group: &str) -> bool {
        let mut others = self.after.tasks_on(self.node.id).filter(|task| task.id != self.without);
        others.any(|task| task.group.to_string() == group)
    }
}

/// The node a task really occupies: None when it is on none, or died with an earlier incarnation of it.
fn occupied(after: &After<'_>, task: &Task) -> Option<NodeId> {
    let (node, incarnation) = task.node?;
    (task.holds_resources() && after.node(node)?.incarnation == incarnation).then_some(node)
}
