//! How fast the scheduler decides: `cargo bench -p coracle-scheduler` prints
//!
//! - placements per second: one plan that places 1,000 tasks among 100,000 others on 10,000 nodes;
//! - a quiet plan: nothing has changed, and then one task has, among 100,000;
//! - C2M, the size Nomad published: 6,100 nodes and 2,000,000 tasks, placed by plans that are checked, compared with
//!   the state and committed as the store commits them, in virtual time. Fewer with `CORACLE_C2M_TASKS`.
//!
//! One thread, no I/O: what is measured is what the scheduler and the state cost.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and its panic is its report"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coracle_scheduler::{NewDeployment, Plan, PlanRng, Planner, contain, deploy};
use coracle_types::{
    Change, Changes, ClusterId, ContainerDefinition, ContainerStatus, DeploymentConfiguration, HealthStatus,
    JsonMap, LastStatus, LaunchBackoff, LaunchType, Node, NodeId, PropagateTags, Record, SchedulingStrategy,
    Service, ServiceId, ServiceStatus, State, Tags, Task, TaskDefinition, TaskDefinitionId,
    TaskDefinitionStatus, Timestamp, attribute,
};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn cluster() -> ClusterId {
    ClusterId { region: "us-east-1".parse().unwrap(), name: "default".parse().unwrap() }
}

fn definition_id() -> TaskDefinitionId {
    TaskDefinitionId { region: "us-east-1".parse().unwrap(), family: "web".parse().unwrap(), revision: 1 }
}

fn definition() -> TaskDefinition {
    TaskDefinition {
        id: definition_id(),
        status: TaskDefinitionStatus::Active,
        registered_at: NOW,
        deregistered_at: None,
        cpu: Some(10),
        memory: Some(10),
        network_mode: None,
        requires_compatibilities: Vec::new(),
        containers: vec![ContainerDefinition {
            name: "app".parse().unwrap(),
            image: "hello:latest".to_owned(),
            cpu: 10,
            memory: None,
            memory_reservation: None,
            essential: true,
            entry_point: Vec::new(),
            command: Vec::new(),
            environment: Vec::new(),
            port_mappings: Vec::new(),
            depends_on: Vec::new(),
            start_timeout_s: None,
            stop_timeout_s: None,
            health_check: None,
            log_configuration: None,
            mount_points: Vec::new(),
            docker_labels: BTreeMap::new(),
            rest: JsonMap::new(),
        }],
        volumes: Vec::new(),
        tags: Tags::default(),
        rest: JsonMap::new(),
    }
}

/// The store without the disk: what a commit checks, and what it changes.
struct Cluster {
    state: State,
    planner: Planner,
    rng: PlanRng,
}

impl Cluster {
    /// Nodes with room for `room` tasks each, in three zones.
    fn new(nodes: u32, room: u32) -> Self {
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

    fn create(&mut self, name: &str, desired_count: u32) {
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
    fn plan(&mut self) -> (Plan, Duration) {
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
    fn settle(&mut self) -> Duration {
        let mut worst = Duration::ZERO;
        loop {
            let (plan, decided) = self.plan();
            worst = worst.max(decided);
            if plan.changes.is_empty() {
                return worst;
            }
            let base = self.state.clone();
            self.commit(&base, &plan.changes);
            drop(base);
            self.run_all(&plan);
        }
    }
}

fn per_second(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn placements() {
    let mut cluster = Cluster::new(10_000, 20);
    for service in 0..100 {
        cluster.create(&format!("s{service}"), 1000);
        cluster.settle();
    }
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for round in 0..5 {
        cluster.create(&format!("one{round}"), 1000);
        let (plan, decided) = cluster.plan();
        assert_eq!(started(&plan), 1000);
        one.push(decided);
        let base = cluster.state.clone();
        cluster.commit(&base, &plan.changes);
        cluster.run_all(&plan);
        cluster.settle();
        for service in 0..1000 {
            cluster.create(&format!("many{round}x{service}"), 1);
        }
        let (plan, decided) = cluster.plan();
        assert_eq!(started(&plan), 1000);
        many.push(decided);
        let base = cluster.state.clone();
        cluster.commit(&base, &plan.changes);
        cluster.run_all(&plan);
        cluster.settle();
    }
    println!("10,000 nodes, 100,000 tasks, 1,000 to place");
    println!("  of one service:       {:>12.0} placements/s", per_second(1000, median(one)));
    println!("  of 1,000 services:    {:>12.0} placements/s", per_second(1000, median(many)));

    let quiet = (0..1000).map(|_| cluster.plan().1).collect();
    println!("  quiet plan:           {:>12.1?}", median(quiet));
    let task = cluster.state.tasks.values().next().unwrap().value.clone();
    let changed = (0..200).map(|_| {
        let mut changes = Changes::new();
        let mut task = Task::clone(&task);
        task.version += 1;
        changes.put(task);
        let base = cluster.state.clone();
        cluster.commit(&base, &changes);
        cluster.plan().1
    });
    println!("  one task has changed: {:>12.1?} (its service has 1,000)", median(changed.collect()));
}

fn started(plan: &Plan) -> usize {
    let tasks = plan.changes.changes.iter().filter(|change| matches!(change, Change::Put(Record::Task(_))));
    tasks.count()
}

/// Resident memory, in MiB, as the kernel counts it.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn c2m() {
    let tasks = std::env::var("CORACLE_C2M_TASKS").ok().and_then(|tasks| tasks.parse().ok());
    let tasks: u32 = tasks.unwrap_or(2_000_000);
    let per_service: u32 = tasks.clamp(1, 1000);
    let mut cluster = Cluster::new(6100, tasks.div_ceil(6100) + 50);
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    for service in 0..tasks / per_service {
        cluster.create(&format!("s{service}"), per_service);
        worst = worst.max(cluster.settle());
    }
    let time = begun.elapsed();
    let running = cluster.state.tasks.values().filter(|found| found.value.last_status == LastStatus::Running);
    assert_eq!(running.count(), (tasks / per_service * per_service) as usize);
    println!("C2M: 6,100 nodes, {tasks} tasks in services of {per_service}, until all are RUNNING");
    println!("  placed and RUNNING:   {:>12.0} tasks/s ({time:.1?} in all)", per_second(tasks, time));
    println!("  worst decision:       {worst:>12.1?}");
    println!("  memory:               {:>8} MiB", resident_mib());
}

fn main() {
    placements();
    c2m();
}
