//! A cluster in virtual time: nodes die and come back, heartbeats vanish, stops are slow, images fail, people deploy
//! and scale, and plans meet a state that has moved on.
//!
//! Everything comes from one seed. A run asserts that no plan breaks a safety property, that a plan which is still
//! committed on a newer state is safe there too, that a planner which looks only at what changed leaves nothing to do
//! for one that looks at everything, and that all services come to what they should be once the cluster is reliable.
//!
//! `CORACLE_SEEDS=N` runs that many seeds instead of the usual number, on all processors:
//!
//! ```text
//! CORACLE_SEEDS=5000 cargo test --release -p coracle-scheduler --lib many_seeds
//! ```
//!
//! A seed that fails is printed, and kept in `seeds.txt`, whose seeds are run each time.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_types::{
    DesiredStatus, LastStatus, NodeId, NodeStatus, RolloutState, SchedulingStrategy, ServiceStatus, State,
    StopCode, Task, TaskId, TaskStop, Timestamp, attribute,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::harness::{Behaviour, Harness, cluster, service_id};
use crate::after::After;
use crate::{Plan, PlanRng, Planner, check_plan, plan};

const SEEDS: u64 = 100;
const NAMES: [&str; 3] = ["a", "b", "c"];
const NODES: u128 = 5;

struct Simulation {
    harness: Harness,
    rng: StdRng,
    /// When a task's node reports its next step.
    reports: BTreeMap<TaskId, Timestamp>,
}

fn reliable(id: u128) -> (u32, u32) {
    (3000 + 500 * u32::try_from(id).unwrap(), 4000)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut harness = Harness::new();
        // Other ids than the harness makes.
        harness.planner = Some(Planner::new(PlanRng::new(!seed)));
        let mut this = Self { harness, rng: StdRng::seed_from_u64(seed), reports: BTreeMap::new() };
        (1..=NODES).for_each(|node| this.register(node));
        this
    }

    fn register(&mut self, id: u128) {
        let (cpu, memory) = reliable(id);
        self.harness.node_with(id, cpu, memory, |node| {
            let zone = ["a", "b"][usize::from(id.is_multiple_of(2))];
            node.attributes.insert(attribute::ZONE.to_owned(), Some(zone.to_owned()));
        });
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn is_active(&self, name: &str) -> bool {
        let found = self.harness.state.services.get(&service_id(name));
        found.is_some_and(|found| found.value.status == ServiceStatus::Active)
    }

    /// Something people do, or that happens to nodes.
    fn disturb(&mut self) {
        let name = self.pick(&NAMES);
        let node = self.rng.random_range(1..=NODES);
        match self.rng.random_range(0..12) {
            0..=2 if !self.harness.state.services.contains_key(&service_id(name)) => self.create(name),
            0 if self.is_active(name) => {
                let desired = self.rng.random_range(0..12);
                self.harness.update(name, |service| {
                    if service.scheduling_strategy == SchedulingStrategy::Replica {
                        service.desired_count = desired;
                    }
                });
            }
            1 | 2 if self.is_active(name) => {
                let revision = self.pick(&[1, 2, 100]);
                self.harness.deploy(name, revision);
            }
            3 if self.chance(20) && self.is_active(name) => {
                self.harness.update(name, |service| service.status = ServiceStatus::Draining);
            }
            4 => {
                let revision = self.pick(&[2, 100]);
                let behaviour = self.pick(&[
                    Behaviour::Runs,
                    Behaviour::Healthy,
                    Behaviour::FailsToStart,
                    Behaviour::ExitsAtOnce,
                    Behaviour::Unhealthy,
                    Behaviour::Hangs,
                ]);
                self.harness.behaviours.insert(revision, behaviour);
            }
            // Its process dies and is started again.
            5 => self.register(node),
            // Its heartbeats vanish, or are back.
            6 => self.harness.edit_node(node, |node| node.agent_connected = !node.agent_connected),
            7 => {
                let status = self.pick(&[NodeStatus::Active, NodeStatus::Draining]);
                self.harness.edit_node(node, |node| node.status = status);
            }
            8 => {
                self.harness.run_task(1);
            }
            9 => self.stop_some_task(),
            10 => self.protect_some_task(),
            _ => {}
        }
    }

    fn create(&mut self, name: &str) {
        let desired = self.rng.random_range(0..8);
        let revision = self.pick(&[1, 2, 100]);
        let daemon = self.chance(15);
        let (minimum, maximum) = self.pick(&[(100, 200), (50, 100), (0, 100), (100, 150), (50, 150)]);
        let breaker = self.chance(40);
        let strategy = self.pick(&["ROLLING", "ROLLING", "BLUE_GREEN", "LINEAR", "CANARY"]);
        let rest = self.pick(&[
            "{}",
            r#"{"placementConstraints": [{"type": "distinctInstance"}]}"#,
            r#"{"placementStrategy": [{"type": "binpack", "field": "memory"}]}"#,
            r#"{"placementStrategy": [{"type": "spread", "field": "instanceId"}, {"type": "random"}]}"#,
            r#"{"availabilityZoneRebalancing": "ENABLED"}"#,
            r#"{"placementConstraints": [{"type": "memberOf", "expression": "attribute:ecs.availability-zone == a"}]}"#,
        ]);
        self.harness.create_with(name, desired, revision, |service| {
            let rest: serde_json::Value = serde_json::from_str(rest).unwrap();
            service.rest = rest.as_object().unwrap().clone();
            let configuration = &mut service.deployment_configuration;
            configuration.circuit_breaker.enable = breaker;
            configuration.circuit_breaker.rollback = breaker;
            (configuration.minimum_healthy_percent, configuration.maximum_percent) = (minimum, maximum);
            if daemon {
                service.scheduling_strategy = SchedulingStrategy::Daemon;
                (configuration.minimum_healthy_percent, configuration.maximum_percent) = (0, 100);
            } else {
                configuration.rest.insert("strategy".to_owned(), json!(strategy));
                configuration.rest.insert("bakeTimeInMinutes".to_owned(), json!(1));
            }
        });
    }

    fn some_task(&mut self) -> Option<Task> {
        let live: Vec<&Arc<Task>> = self.harness.live().collect();
        (!live.is_empty()).then(|| Task::clone(live[self.rng.random_range(0..live.len())]))
    }

    fn stop_some_task(&mut self) {
        if let Some(mut task) = self.some_task() {
            let stop = TaskStop { code: StopCode::UserInitiated, reason: "Task stopped by user".to_owned() };
            task.stop(stop, self.harness.now);
            self.harness.put(task);
        }
    }

    fn protect_some_task(&mut self) {
        if let Some(mut task) = self.some_task() {
            let minutes = self.rng.random_range(1..10);
            task.protected_until = Some(self.harness.now.after(Duration::from_secs(60 * minutes)));
            task.version += 1;
            self.harness.put(task);
        }
    }

    /// Some nodes report what they have seen.
    fn report(&mut self) {
        let now = self.harness.now;
        let live: Vec<Arc<Task>> = self.harness.live().cloned().collect();
        for task in live {
            let due = match self.reports.get(&task.id) {
                Some(&due) => due,
                None => {
                    // Stops are slow now and then.
                    let slow = task.desired_status == DesiredStatus::Stopped && self.chance(30);
                    let wait = if slow { self.rng.random_range(1..120) } else { self.rng.random_range(0..3) };
                    let due = now.after(Duration::from_secs(wait));
                    self.reports.insert(task.id, due);
                    due
                }
            };
            let connected = task.node.is_some_and(|(node, _)| {
                self.harness.state.nodes.get(&node).is_some_and(|found| found.value.agent_connected)
            });
            if due <= now
                && connected
                && let Some(seen) = self.harness.next_observation(&task)
            {
                self.harness.observe(&seen);
                self.reports.remove(&task.id);
            }
        }
    }

    /// One plan, committed at once or, now and then, when others have been faster.
    fn plan(&mut self) {
        if !self.chance(20) {
            self.harness.plan();
            return;
        }
        let base: State = self.harness.state.clone();
        let planner = self.harness.planner.as_mut().unwrap();
        let planned = planner.plan(&base, self.harness.now);
        let violations = check_plan(&base, &planned);
        assert!(violations.is_empty(), "{violations:?}\n{}", self.harness.told(&planned));
        assert_seen_alike(&base, &planned);
        self.disturb();
        self.report();
        if planned.changes.conflict(&base, &self.harness.state).is_none() {
            let before = self.harness.state.clone();
            self.harness.commit(&planned.changes);
            self.assert_no_node_is_over(&before);
        }
    }

    fn assert_no_node_is_over(&self, before: &State) {
        for found in self.harness.state.nodes.values() {
            let node = &found.value;
            let memory = |state: &State| state.load_of(node.id).map_or(0, |load| load.memory);
            let (before, after) = (memory(before), memory(&self.harness.state));
            assert!(after <= before.max(u64::from(node.memory_mib)), "{}: {after} MiB", node.id);
        }
    }

    /// The cluster is reliable from now on: every service comes to what it should be.
    fn converge(&mut self) {
        let harness = &mut self.harness;
        harness.behaviours = BTreeMap::from([(100, Behaviour::Healthy)]);
        for id in 1..=NODES {
            harness.edit_node(id, |node| (node.agent_connected, node.status) = (true, NodeStatus::Active));
        }
        // What has failed and was not counted yet may still make a deployment be given up.
        harness.settle();
        for name in NAMES {
            let Some(found) = harness.state.services.get(&service_id(name)) else { continue };
            let service = found.value.clone();
            // What was given up, or leaves no room to move, stays as it is by design.
            if service.status == ServiceStatus::Active {
                harness.update(name, |service| {
                    service.desired_count = service.desired_count.min(5);
                    service.deployment_configuration.minimum_healthy_percent = 0;
                    if service.rest.contains_key("placementConstraints") {
                        service.desired_count = service.desired_count.min(2);
                    }
                });
                if service.primary().is_some_and(|one| one.rollout_state == RolloutState::Failed) {
                    harness.deploy(name, 1);
                }
            }
        }
        // A linear deployment takes an hour, and may have to wait for longest back-off first.
        harness.pass(Duration::from_secs(3 * 3600));
        let (state, now) = (harness.state.clone(), harness.now);
        let all = plan(&state, now, &mut PlanRng::new(0));
        assert!(all.changes.is_empty(), "a look at everything finds more to do: {:#?}", all.reasons);
        for found in state.services.values().filter(|found| found.value.status == ServiceStatus::Active) {
            let service = &found.value;
            let tasks =
                state.tasks_of(&service.id).filter(|task| task.desired_status == DesiredStatus::Running);
            assert_eq!(tasks.count(), service.desired_count as usize, "{}", harness.told(&all));
            assert!(service.steady, "{}", harness.told(&all));
        }
        let unplaced = state.tasks_in(&cluster()).filter(|task| task.last_status == LastStatus::Provisioning);
        assert_eq!(unplaced.count(), 0);
    }

    fn run(seed: u64) {
        let mut this = Self::new(seed);
        for _ in 0..this.rng.random_range(20..80) {
            if this.chance(40) {
                this.disturb();
            }
            this.report();
            this.plan();
            let wait = this.pick(&[0, 0, 1, 1, 5, 30, 61]);
            this.harness.now = this.harness.now.after(Duration::from_secs(wait));
        }
        this.converge();
    }
}

/// What the checks look at is what applying the plan makes.
fn assert_seen_alike(base: &State, planned: &Plan) {
    let seen = After::of(base, &planned.changes.changes);
    let mut applied = base.clone();
    planned.changes.changes.iter().for_each(|change| applied.apply(change, base.revision + 1));
    fn sorted<'t>(tasks: &mut dyn Iterator<Item = &'t Arc<Task>>) -> Vec<&'t Task> {
        let mut tasks: Vec<&Task> = tasks.map(|task| &**task).collect();
        tasks.sort_by_key(|task| task.id);
        tasks
    }
    for id in (1..=NODES).map(NodeId) {
        let load = applied.load_of(id).map_or((0, 0), |load| (load.cpu, load.memory));
        assert_eq!(seen.load_of(id), load);
        assert_eq!(sorted(&mut seen.tasks_on(id)), sorted(&mut applied.tasks_on(id)));
    }
    for id in NAMES.map(service_id) {
        assert_eq!(seen.service(&id), applied.services.get(&id).map(|found| &found.value));
        assert_eq!(sorted(&mut seen.tasks_of(&id)), sorted(&mut applied.tasks_of(&id)));
    }
}

/// Names the seed when a run panics, and keeps it.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/seeds.txt");
            let kept = match keep(&path, seed) {
                Ok(()) => format!("it is in {} now", path.display()),
                Err(error) => format!("it could not be written to {}: {error}", path.display()),
            };
            eprintln!("the simulation failed with seed {seed}; {kept}");
        }
    }
}

/// The seeds of a file of them, one a line.
fn seeds(text: &str) -> impl Iterator<Item = u64> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim().parse().unwrap())
}

/// Adds a seed to a file of them, unless it is there.
fn keep(path: &Path, seed: u64) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    if seeds(&text).any(|known| known == seed) {
        return Ok(());
    }
    std::fs::write(path, format!("{}\n{seed}\n", text.trim_end()))
}

fn run(seed: u64) {
    let named = Named(seed);
    Simulation::run(named.0);
}

#[test]
fn seeds_that_failed_once() {
    seeds(include_str!("seeds.txt")).for_each(run);
}

#[test]
fn a_seed_that_fails_is_kept_once() {
    let path = std::env::temp_dir().join(format!("coracle-seeds-{}", std::process::id()));
    std::fs::write(&path, "# Seeds that failed once.\n7\n").unwrap();
    for seed in [9, 7, 9] {
        keep(&path, seed).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# Seeds that failed once.\n7\n9\n");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn many_seeds() {
    let count = std::env::var("CORACLE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let take = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        seeds.take_while(|&seed| seed < count).for_each(run);
    };
    std::thread::scope(|threads| {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        (0..count).for_each(|_| drop(threads.spawn(take)));
    });
}
