//! A cluster without a disk and without nodes, in which the scheduler is measured: the store's part of a commit, and
//! tasks that run as soon as they are placed. One thread, no I/O: what is measured is what the scheduler and the state
//! cost.
//!
//! It belongs to `cargo bench -p coracle-scheduler` and to the bench `scheduler` of `coracle bench`, which show the same
//! figures in their own ways.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement of something that went wrong has no figure"
)]

use std::time::{Duration, Instant};

use coracle_scheduler::{NewDeployment, Plan, PlanRng, Planner, contain, deploy};
use coracle_types::{
    Change, Changes, ClusterId, ContainerDefinition, ContainerStatus, DeploymentConfiguration, HealthStatus,
    JsonMap, LastStatus, LaunchBackoff, LaunchType, Node, NodeId, PropagateTags, Record, SchedulingStrategy,
    Service, ServiceId, ServiceStatus, State, Tags, Task, TaskDefinition, TaskDefinitionId, Timestamp,
    attribute,
};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn cluster() -> ClusterId {
    ClusterId { region: "us-east-1".parse().unwrap(), name: "default".parse().unwrap() }
}

fn definition_id() -> TaskDefinitionId {
    TaskDefinitionId { region: "us-east-1".parse().unwrap(), family: "web".parse().unwrap(), revision: 1 }
}

fn definition() -> TaskDefinition {
    let container =
        ContainerDefinition { cpu: 10, ..ContainerDefinition::new("app".parse().unwrap(), "hello:latest") };
    TaskDefinition {
        cpu: Some(10),
        memory: Some(10),
        ..TaskDefinition::new(definition_id(), NOW, vec![container])
    }
}

/// The store without the disk: what a commit checks, and what it changes.
pub(crate) struct Cluster {
    pub(crate) state: State,
    planner: Planner,
    rng: PlanRng,
}

impl Cluster {
    /// Nodes with room for `room` tasks each, in three zones.
    pub(crate) fn new(nodes: u32, room: u32) -> Self {
        let mut this =
            Self { state: State::default(), planner: Planner::new(PlanRng::new(1)), rng: PlanRng::new(2) };
        let mut changes = Changes::new();
        changes.put(definition());
        for id in 0..nodes {
            let mut node = Node::new(NodeId(u128::from(id)), room * 10, room * 10, NOW, 1);
            let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][(id % 3) as usize];
            node.attributes.insert(attribute::ZONE.to_owned(), Some(zone.to_owned()));
            changes.put(node);
        }
        this.commit(&this.state.clone(), &changes);
        this
    }

    fn commit(&mut self, base: &State, changes: &Changes) {
        assert_eq!(changes.conflict(base, &self.state), None);
        self.state.revision += 1;
        let revision = self.state.revision;
        changes.changes.iter().for_each(|change| self.state.apply(change, revision));
    }

    pub(crate) fn create(&mut self, name: &str, desired_count: u32) {
        let mut service = Service {
            id: ServiceId { cluster: cluster(), name: name.parse().unwrap() },
            status: ServiceStatus::Active,
            desired_count,
            scheduling_strategy: SchedulingStrategy::Replica,
            task_definition: definition_id(),
            launch_type: LaunchType::Ec2,
            launch_type_hidden: false,
            deployment_configuration: DeploymentConfiguration::default(),
            deployments: Vec::new(),
            last_completed: None,
            last_completed_revision: None,
            task_sets: Vec::new(),
            events: std::collections::VecDeque::new(),
            steady: false,
            backoff: LaunchBackoff::default(),
            failures_counted_to: self.state.revision,
            propagate_tags: PropagateTags::None,
            created_at: NOW,
            deleted_at: None,
            tags: Tags::default(),
            rest: JsonMap::new(),
        };
        let new = NewDeployment {
            task_definition: definition_id(),
            launch_type: LaunchType::Ec2,
            desired_count,
            rest: JsonMap::new(),
        };
        let mut changes = Changes::new();
        deploy(&self.state, &mut service, new, NOW, &mut self.rng, &mut changes);
        changes.put(service);
        self.commit(&self.state.clone(), &changes);
    }

    /// One plan as the control loop makes it, and how long the decision took.
    pub(crate) fn plan(&mut self) -> (Plan, Duration) {
        let begun = Instant::now();
        let plan = self.planner.plan(&self.state, NOW);
        let decided = begun.elapsed();
        let (plan, violations) = contain(&self.state, plan);
        assert_eq!(violations, []);
        (plan, decided)
    }

    /// Every task that was placed is RUNNING from now on.
    fn run_all(&mut self, plan: &Plan) {
        let mut changes = Changes::new();
        for change in &plan.changes.changes {
            if let Change::Put(Record::Task(task)) = change
                && task.last_status == LastStatus::Pending
            {
                let mut task = Task::clone(task);
                task.last_status = LastStatus::Running;
                task.started_at = Some(NOW);
                for container in &mut task.containers {
                    (container.status, container.health) = (ContainerStatus::Running, HealthStatus::Unknown);
                }
                changes.put(task);
            }
        }
        if !changes.is_empty() {
            self.commit(&self.state.clone(), &changes);
        }
    }

    /// Plans, commits and runs until nothing changes; the longest decision.
    pub(crate) fn settle(&mut self) -> Duration {
        let mut worst = Duration::ZERO;
        loop {
            let (plan, decided) = self.plan();
            worst = worst.max(decided);
            if plan.changes.is_empty() {
                return worst;
            }
            self.carry_out(&plan);
        }
    }

    /// Commits a plan, and runs what it placed.
    fn carry_out(&mut self, plan: &Plan) {
        let base = self.state.clone();
        self.commit(&base, &plan.changes);
        drop(base);
        self.run_all(plan);
    }

    /// One plan that places so many tasks, carried out; how long the decision took.
    fn place(&mut self, count: u32) -> Duration {
        let (plan, decided) = self.plan();
        assert_eq!(started(&plan), count as usize);
        self.carry_out(&plan);
        self.settle();
        decided
    }

    /// The first so many nodes start anew: what ran there is gone.
    fn restart_nodes(&mut self, count: u32) {
        let mut changes = Changes::new();
        for id in 0..count {
            let mut node = Node::clone(&self.state.nodes.get(&NodeId(u128::from(id))).unwrap().value);
            node.incarnation += 1;
            changes.put(node);
        }
        self.commit(&self.state.clone(), &changes);
    }

    /// Tasks whose node has started anew.
    fn on_old_nodes(&self) -> usize {
        let is_old = |task: &Task| {
            let Some((node, incarnation)) = task.node else { return false };
            task.last_status == LastStatus::Running
                && self.state.nodes.get(&node).is_some_and(|found| found.value.incarnation != incarnation)
        };
        self.state.tasks.values().filter(|found| is_old(&found.value)).count()
    }

    fn running(&self) -> usize {
        let tasks = self.state.tasks.values();
        tasks.filter(|found| found.value.last_status == LastStatus::Running).count()
    }
}

/// How large the cluster is in which decisions are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    /// Services of as many tasks as are placed by one plan.
    pub(crate) services: u32,
    /// How many tasks one plan places.
    pub(crate) placed: u32,
    /// How often each thing is measured.
    pub(crate) rounds: u32,
}

impl Size {
    /// 10,000 nodes, 100,000 tasks, 1,000 to place.
    pub(crate) const FULL: Self = Self { nodes: 10_000, services: 100, placed: 1000, rounds: 5 };

    pub(crate) fn tasks(self) -> u32 {
        self.services * self.placed
    }
}

/// How long decisions took.
pub(crate) struct Decisions {
    /// That place the tasks of one new service.
    pub(crate) one_service: Vec<Duration>,
    /// That place as many tasks, each of a new service.
    pub(crate) many_services: Vec<Duration>,
    /// That find nothing to do.
    pub(crate) quiet: Vec<Duration>,
    /// That find one task changed, whose service has as many as are placed at once.
    pub(crate) one_changed: Vec<Duration>,
    /// From a tenth of the nodes starting anew until all tasks run again, every commit included.
    pub(crate) convergence: Vec<Duration>,
    /// How many tasks were placed anew in that, each time.
    pub(crate) replaced: Vec<usize>,
}

/// Measures decisions in a cluster of this size.
pub(crate) fn decisions(size: Size) -> Decisions {
    let mut cluster = Cluster::new(size.nodes, 20);
    for service in 0..size.services {
        cluster.create(&format!("s{service}"), size.placed);
        cluster.settle();
    }
    let (mut one_service, mut many_services) = (Vec::new(), Vec::new());
    for round in 0..size.rounds {
        cluster.create(&format!("one{round}"), size.placed);
        one_service.push(cluster.place(size.placed));
        for service in 0..size.placed {
            cluster.create(&format!("many{round}x{service}"), 1);
        }
        many_services.push(cluster.place(size.placed));
    }
    let quiet = (0..200 * size.rounds).map(|_| cluster.plan().1).collect();
    let task = cluster.state.tasks.values().next().unwrap().value.clone();
    let one_changed = (0..40 * size.rounds).map(|round| {
        let mut changes = Changes::new();
        let mut task = Task::clone(&task);
        task.version += u64::from(round) + 1;
        changes.put(task);
        cluster.commit(&cluster.state.clone(), &changes);
        cluster.plan().1
    });
    let one_changed = one_changed.collect();
    let (mut convergence, mut replaced) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let before = cluster.running();
        cluster.restart_nodes(size.nodes / 10);
        let lost = cluster.on_old_nodes();
        let begun = Instant::now();
        cluster.settle();
        convergence.push(begun.elapsed());
        assert_eq!(cluster.running(), before, "not all tasks run again");
        replaced.push(lost);
    }
    Decisions { one_service, many_services, quiet, one_changed, convergence, replaced }
}

/// What placing very many tasks came to.
pub(crate) struct Challenge {
    pub(crate) tasks: u32,
    /// Until all of them run, every commit included.
    pub(crate) time: Duration,
    pub(crate) worst_decision: Duration,
    /// Resident memory that came with the cluster, in bytes.
    pub(crate) bytes: u64,
}

/// Nodes of the challenge, which Nomad published as C2M.
pub(crate) const CHALLENGE_NODES: u32 = 6100;

/// Places so many tasks on [`CHALLENGE_NODES`], in services of at most a thousand.
pub(crate) fn challenge(tasks: u32) -> Challenge {
    let per_service = tasks.clamp(1, 1000);
    let tasks = tasks / per_service * per_service;
    let before = resident();
    let mut cluster = Cluster::new(CHALLENGE_NODES, tasks.div_ceil(CHALLENGE_NODES) + 50);
    let begun = Instant::now();
    let mut worst_decision = Duration::ZERO;
    for service in 0..tasks / per_service {
        cluster.create(&format!("s{service}"), per_service);
        worst_decision = worst_decision.max(cluster.settle());
    }
    let time = begun.elapsed();
    let bytes = resident().saturating_sub(before);
    assert_eq!(cluster.running(), tasks as usize);
    Challenge { tasks, time, worst_decision, bytes }
}

/// Resident memory of this process, in bytes, as the kernel counts it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn started(plan: &Plan) -> usize {
    let tasks = plan.changes.changes.iter().filter(|change| matches!(change, Change::Put(Record::Task(_))));
    tasks.count()
}
