//! What tasks use, for metrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_sandbox::{Container, ContainerStats, CpuBudget, MemoryBudget};
use coracle_types::{ClusterName, ContainerName, Task, TaskId, TaskObservation};
use parking_lot::Mutex;

use crate::exec::Beside;

/// At most this many groups are counted apart; those past it are counted as [`OTHER_GROUPS`].
const GROUPS_MAX: usize = 1_000;
/// The group that stands for those past the bound.
const OTHER_GROUPS: &str = "_other";

/// What one task uses and has used: the sums over its containers.
///
/// A task that has ended is listed, with its final sums, for as long as it is assigned to the node.
#[derive(Clone, Debug)]
pub struct TaskUsage {
    /// The task, as it was when it was assigned.
    pub task: Arc<Task>,
    /// Fuel used by instances that have ended, in wasmtime's units.
    pub fuel_used: u64,
    /// CPU time used, health checks included.
    pub cpu_time: Duration,
    /// Bytes of memory in use now.
    pub memory_current: u64,
    /// The most bytes of memory that were ever in use at once.
    pub memory_peak: u64,
    /// Instances created.
    pub instances_started: u64,
    /// Instances alive now.
    pub instances_live: u32,
    /// Instances that trapped, or ran out of memory or fuel.
    pub traps: u64,
    /// Time spent on creating instances.
    pub instantiate_time: Duration,
}

/// What the agent keeps of a task beside its driver: what it last reported, and where to read what it uses.
pub(crate) struct TaskRecord {
    pub(crate) task: Arc<Task>,
    pub(crate) reported: Mutex<Option<TaskObservation>>,
    meters: Mutex<Meters>,
    /// The containers that take commands, for as long as they run.
    commands: Mutex<HashMap<ContainerName, Weak<Beside>>>,
}

#[derive(Default)]
struct Meters {
    budgets: Option<(CpuBudget, MemoryBudget)>,
    live: Vec<Container>,
    ended: Sums,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    fuel_used: u64,
    instances_started: u64,
    instances_live: u32,
    traps: u64,
    instantiate_nanos: u64,
}

impl Sums {
    fn add(&mut self, stats: &ContainerStats) {
        self.fuel_used = self.fuel_used.saturating_add(stats.fuel_used);
        self.instances_started += stats.instances_started;
        self.instances_live += stats.instances_live;
        self.traps += stats.traps;
        self.instantiate_nanos += stats.instantiate_nanos_total;
    }
}

impl TaskRecord {
    pub(crate) fn new(task: Arc<Task>) -> Arc<Self> {
        Arc::new(Self {
            task,
            reported: Mutex::default(),
            meters: Mutex::default(),
            commands: Mutex::default(),
        })
    }

    pub(crate) fn set_budgets(&self, cpu: CpuBudget, memory: MemoryBudget) {
        self.meters.lock().budgets = Some((cpu, memory));
    }

    pub(crate) fn started(&self, container: Container) {
        self.meters.lock().live.push(container);
    }

    /// Commands can be run beside a container from now on, until `beside` is dropped.
    pub(crate) fn takes_commands(&self, container: ContainerName, beside: &Arc<Beside>) {
        self.commands.lock().insert(container, Arc::downgrade(beside));
    }

    /// What commands run in beside a container; None if it does not run, or takes none.
    pub(crate) fn beside(&self, container: &ContainerName) -> Option<Arc<Beside>> {
        self.commands.lock().get(container)?.upgrade()
    }

    /// Keeps the sums of containers that will not run again, and lets go of the containers.
    pub(crate) fn ended(&self) {
        let mut meters = self.meters.lock();
        for container in std::mem::take(&mut meters.live) {
            let stats = container.stats();
            meters.ended.add(&ContainerStats { instances_live: 0, ..stats });
        }
    }

    pub(crate) fn usage(&self) -> TaskUsage {
        let meters = self.meters.lock();
        let mut sums = meters.ended;
        for container in &meters.live {
            sums.add(&container.stats());
        }
        let (cpu_time, memory_current, memory_peak) = meters
            .budgets
            .as_ref()
            .map_or((Duration::ZERO, 0, 0), |(cpu, memory)| (cpu.used(), memory.current(), memory.peak()));
        TaskUsage {
            task: Arc::clone(&self.task),
            fuel_used: sums.fuel_used,
            cpu_time,
            memory_current,
            memory_peak,
            instances_started: sums.instances_started,
            instances_live: sums.instances_live,
            traps: sums.traps,
            instantiate_time: Duration::from_nanos(sums.instantiate_nanos),
        }
    }
}

/// Tasks that are counted together: those of one service or family of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageGroup {
    /// The cluster. Clusters of the same name in two regions are counted together.
    pub cluster: ClusterName,
    /// The task's group as ECS prints it: `service:NAME`, `family:FAMILY` or what RunTask was given.
    pub group: String,
}

impl UsageGroup {
    /// The group of a task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self { cluster: task.cluster.name.clone(), group: task.group.to_string() }
    }
}

/// What the tasks of a group use, and what they and all earlier ones have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageTotals {
    /// Fuel used, in wasmtime's units.
    pub fuel_used: u64,
    /// CPU time used.
    pub cpu_time: Duration,
    /// Bytes of memory in use now.
    pub memory_current: u64,
    /// The most bytes any one task ever had in use at once.
    pub memory_peak: u64,
    /// Instances created.
    pub instances_started: u64,
    /// Instances alive now.
    pub instances_live: u64,
    /// Instances that trapped, or ran out of memory or fuel.
    pub traps: u64,
}

impl UsageTotals {
    fn add(&mut self, task: &TaskUsage) {
        self.fuel_used = self.fuel_used.saturating_add(task.fuel_used);
        self.cpu_time += task.cpu_time;
        self.memory_current += task.memory_current;
        self.memory_peak = self.memory_peak.max(task.memory_peak);
        self.instances_started += task.instances_started;
        self.instances_live += u64::from(task.instances_live);
        self.traps += task.traps;
    }
}

/// Groups and their sums, bounded in number.
#[derive(Clone, Default)]
struct Groups(BTreeMap<UsageGroup, UsageTotals>);

impl Groups {
    fn add(&mut self, task: &TaskUsage) {
        let mut group = UsageGroup::of(&task.task);
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&group) {
            OTHER_GROUPS.clone_into(&mut group.group);
        }
        self.0.entry(group).or_default().add(task);
    }
}

/// The tasks that run or are still assigned, and the sums of those that are neither any more.
#[derive(Default)]
pub(crate) struct Ledger {
    records: HashMap<TaskId, Arc<TaskRecord>>,
    past: Groups,
}

impl Ledger {
    pub(crate) fn insert(&mut self, record: Arc<TaskRecord>) {
        self.records.insert(record.task.id, record);
    }

    pub(crate) fn get(&self, task: TaskId) -> Option<Arc<TaskRecord>> {
        self.records.get(&task).cloned()
    }

    /// Forgets a task, but not what it has used.
    pub(crate) fn remove(&mut self, task: TaskId) {
        if let Some(record) = self.records.remove(&task) {
            record.ended();
            // What an instance that is just being dropped still holds is not for the sums of the past.
            self.past.add(&TaskUsage { memory_current: 0, instances_live: 0, ..record.usage() });
        }
    }

    pub(crate) fn usage(&self) -> Vec<TaskUsage> {
        self.records.values().map(|record| record.usage()).collect()
    }

    /// Forgets what tasks that are gone have used, but for these groups.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&UsageGroup) -> bool) {
        self.past.0.retain(|group, _| group.group == OTHER_GROUPS || keep(group));
    }

    pub(crate) fn totals(&self) -> BTreeMap<UsageGroup, UsageTotals> {
        let mut groups = self.past.clone();
        for record in self.records.values() {
            groups.add(&record.usage());
        }
        groups.0
    }
}
