//! The loops on a store in memory, with a pretended node and a paused clock.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coracle_control::{node_link, run};
use coracle_scheduler::{NewDeployment, NewTask, PlanRng, new_deployment, new_task};
use coracle_store::{BoxFuture, CommitError, MemoryStore, Store, transact};
use coracle_types::{
    Assigned, Change, Changes, ClusterId, ContainerDefinition, ContainerStatus, DeploymentConfiguration,
    DesiredStatus, JsonMap, Key, LastStatus, LaunchBackoff, LaunchType, Node, NodeId, PropagateTags, Record,
    SchedulingStrategy, Service, ServiceId, ServiceStatus, State, Tags, Task, TaskDefinition,
    TaskDefinitionId, TaskGroup, TaskId, TaskKey, TaskObservation, TaskOverride, Timestamp,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const NODE: NodeId = NodeId(7);

fn cluster() -> ClusterId {
    ClusterId { region: "us-east-1".parse().unwrap(), name: "default".parse().unwrap() }
}

fn definition() -> TaskDefinition {
    let id = TaskDefinitionId {
        region: "us-east-1".parse().unwrap(),
        family: "web".parse().unwrap(),
        revision: 1,
    };
    let container = ContainerDefinition {
        cpu: 10,
        memory: Some(50),
        ..ContainerDefinition::new("app".parse().unwrap(), "hello")
    };
    TaskDefinition::new(id, Timestamp(0), vec![container])
}

fn service(desired_count: u32) -> Service {
    let new = NewDeployment {
        task_definition: definition().id,
        launch_type: LaunchType::Ec2,
        desired_count,
        rest: JsonMap::new(),
    };
    let deployment = new_deployment(new, Timestamp(0), &mut PlanRng::new(99));
    Service {
        id: ServiceId { cluster: cluster(), name: "web".parse().unwrap() },
        status: ServiceStatus::Active,
        desired_count,
        scheduling_strategy: SchedulingStrategy::Replica,
        task_definition: deployment.task_definition.clone(),
        launch_type: LaunchType::Ec2,
        launch_type_hidden: false,
        deployment_configuration: DeploymentConfiguration::default(),
        deployments: vec![deployment],
        last_completed: None,
        last_completed_revision: None,
        task_sets: Vec::new(),
        events: std::collections::VecDeque::new(),
        steady: false,
        backoff: LaunchBackoff::default(),
        failures_counted_to: 0,
        propagate_tags: PropagateTags::None,
        created_at: Timestamp(0),
        deleted_at: None,
        tags: Tags::default(),
        rest: JsonMap::new(),
    }
}

fn run_task(id: u128) -> Task {
    let new = NewTask {
        id: TaskId(id),
        cluster: cluster(),
        group: TaskGroup::Family("web".parse().unwrap()),
        deployment: None,
        started_by: None,
        launch_type: LaunchType::Ec2,
        overrides: TaskOverride::default(),
        tags: Tags::default(),
        rest: JsonMap::new(),
    };
    new_task(&definition(), new, Timestamp(0), &mut PlanRng::new(5))
}

async fn put(store: &dyn Store, record: impl Into<Record>) -> Arc<State> {
    let record = record.into();
    transact(store, |_| {
        let changes = Changes { changes: vec![Change::Put(record.clone())], ..Changes::default() };
        Ok::<_, Infallible>((changes, ()))
    })
    .await
    .unwrap()
    .0
}

/// Waits until the state is so, within a virtual hour.
async fn until(store: &dyn Store, is: impl Fn(&State) -> bool) -> Arc<State> {
    let mut changed = store.watch();
    let wait = async {
        loop {
            changed.borrow_and_update();
            let state = store.snapshot();
            if is(&state) {
                return state;
            }
            changed.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(3600), wait).await.expect("the state never gets there")
}

fn count(state: &State, status: LastStatus) -> usize {
    state.tasks.values().filter(|found| found.value.last_status == status).count()
}

fn see(task: &Task, status: LastStatus) -> TaskObservation {
    let reached = |at: LastStatus| (status >= at).then_some(Timestamp(1));
    let mut seen = TaskObservation {
        status,
        started_at: reached(LastStatus::Running),
        stopping_at: reached(LastStatus::Stopping),
        execution_stopped_at: reached(LastStatus::Stopped),
        stopped_at: reached(LastStatus::Stopped),
        ..TaskObservation::unseen(task)
    };
    let stopped = status == LastStatus::Stopped;
    for container in &mut seen.containers {
        container.status = if stopped { ContainerStatus::Stopped } else { ContainerStatus::Running };
    }
    seen
}

/// Does at once what it is told.
async fn pretend_node(
    mut assigned: watch::Receiver<Arc<Assigned>>,
    observed: mpsc::UnboundedSender<TaskObservation>,
) {
    loop {
        let now = Arc::clone(&assigned.borrow_and_update());
        for one in &now.tasks {
            let status = match one.task.desired_status {
                DesiredStatus::Running => LastStatus::Running,
                DesiredStatus::Stopped => LastStatus::Stopped,
            };
            observed.send(see(&one.task, status)).unwrap();
        }
        if assigned.changed().await.is_err() {
            return;
        }
    }
}

struct Running {
    store: Arc<MemoryStore>,
    stop: watch::Sender<bool>,
    loops: Vec<JoinHandle<()>>,
}

impl Running {
    /// A node with room for many, everything wired as in the binary.
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        put(&*store, definition()).await;
        let node =
            node_link::register(&*store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(0)).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let (assigned_tx, assigned) = watch::channel(Arc::default());
        let (observed, observed_rx) = mpsc::unbounded_channel();
        let begin = Instant::now();
        let clock = move || Timestamp(1_000_000).after(begin.elapsed());
        let shared = || Arc::clone(&store) as Arc<dyn Store>;
        let loops = vec![
            tokio::spawn(run(shared(), clock, 1, stopping.clone())),
            tokio::spawn(node_link::feed(shared(), node, assigned_tx, stopping.clone())),
            tokio::spawn(node_link::report(shared(), observed_rx, stopping)),
            tokio::spawn(pretend_node(assigned, observed)),
        ];
        Self { store, stop, loops }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        for ended in self.loops {
            timeout(Duration::from_secs(5), ended).await.expect("every loop ends").unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_three_converges_and_scales() {
    let running = Running::start().await;
    let store = Arc::clone(&running.store);
    put(&*store, service(3)).await;
    let steady = |state: &State| state.services.values().all(|found| found.value.steady);
    let state = until(&*store, |state| count(state, LastStatus::Running) == 3 && steady(state)).await;
    let found = state.services.values().next().unwrap();
    assert_eq!(found.value.events[0].message, "(service web) has reached a steady state.");

    let mut less = Service::clone(&found.value);
    less.desired_count = 1;
    put(&*store, less).await;
    until(&*store, |state| {
        count(state, LastStatus::Running) == 1 && count(state, LastStatus::Stopped) == 2 && steady(state)
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn time_alone_wakes_the_loop() {
    let running = Running::start().await;
    let store = Arc::clone(&running.store);
    let mut task = run_task(1);
    task.end(Timestamp(1_000_000));
    put(&*store, task).await;
    let begin = Instant::now();
    let mut changed = store.watch();
    timeout(Duration::from_secs(7200), async {
        while !store.snapshot().tasks.is_empty() {
            changed.changed().await.unwrap();
        }
    })
    .await
    .expect("a stopped task is forgotten after an hour");
    assert!(begin.elapsed() >= Duration::from_secs(3590), "{:?}", begin.elapsed());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_registers_again_loses_its_tasks() {
    let running = Running::start().await;
    let store = Arc::clone(&running.store);
    put(&*store, service(2)).await;
    until(&*store, |state| count(state, LastStatus::Running) == 2).await;
    let node = node_link::register(&*store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(5)).await.unwrap();
    assert_eq!(node.incarnation, 2);
    let state = until(&*store, |state| {
        count(state, LastStatus::Stopped) == 2 && node_link::assigned(state, &node).tasks.len() == 2
    })
    .await;
    let old = Node { incarnation: 1, ..node };
    assert_eq!(node_link::assigned(&state, &old).tasks.len(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn observations_that_wait_are_one_commit_of_the_latest() {
    let store = Arc::new(MemoryStore::new());
    let node = node_link::register(&*store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(0)).await.unwrap();
    let mut tasks = Vec::new();
    for id in 1..=10 {
        let mut task = run_task(id);
        coracle_scheduler::assign(&mut task, (node.id, node.incarnation));
        // Tasks of several clusters are found by their ids alone.
        task.cluster.name = format!("cluster-{}", id % 3).parse().unwrap();
        put(&*store, task.clone()).await;
        tasks.push(task);
    }
    let before = store.snapshot().revision;
    let (observed, rx) = mpsc::unbounded_channel();
    for status in [LastStatus::Activating, LastStatus::Running, LastStatus::Stopped] {
        tasks.iter().for_each(|task| observed.send(see(task, status)).unwrap());
    }
    // One nobody knows does no harm.
    observed.send(see(&run_task(999), LastStatus::Running)).unwrap();
    drop(observed);
    let (_stop, stopping) = watch::channel(false);
    node_link::report(Arc::clone(&store) as Arc<dyn Store>, rx, stopping).await;
    let state = store.snapshot();
    assert_eq!(state.revision, before + 1);
    assert_eq!(count(&state, LastStatus::Stopped), 10);
    assert!(state.tasks.values().all(|found| found.value.started_at.is_some()));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_end_is_written() {
    let store = Arc::new(MemoryStore::new());
    let task = run_task(1);
    put(&*store, task.clone()).await;
    let (observed, rx) = mpsc::unbounded_channel();
    let (stop, stopping) = watch::channel(false);
    observed.send(see(&task, LastStatus::Running)).unwrap();
    stop.send(true).unwrap();
    node_link::report(Arc::clone(&store) as Arc<dyn Store>, rx, stopping).await;
    assert_eq!(count(&store.snapshot(), LastStatus::Running), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_fed_only_what_it_must_act_on() {
    let store = Arc::new(MemoryStore::new());
    put(&*store, definition()).await;
    let node = node_link::register(&*store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(0)).await.unwrap();
    let (tx, mut assigned) = watch::channel(Arc::default());
    let (stop, stopping) = watch::channel(false);
    let feeding =
        tokio::spawn(node_link::feed(Arc::clone(&store) as Arc<dyn Store>, node.clone(), tx, stopping));
    assigned.changed().await.unwrap();
    assert!(assigned.borrow_and_update().tasks.is_empty());

    let mut task = run_task(1);
    coracle_scheduler::assign(&mut task, (node.id, node.incarnation));
    put(&*store, task.clone()).await;
    assigned.changed().await.unwrap();
    let first = Arc::clone(&assigned.borrow_and_update());
    assert_eq!((first.tasks.len(), first.generation), (1, store.snapshot().revision));

    // Its own report is no news.
    assert!(task.observe(&see(&task.clone(), LastStatus::Running)));
    put(&*store, task.clone()).await;
    assert!(timeout(Duration::from_secs(1), assigned.changed()).await.is_err());

    let reason = "Task stopped by user".to_owned();
    task.stop(coracle_types::TaskStop { code: coracle_types::StopCode::UserInitiated, reason }, Timestamp(1));
    put(&*store, task.clone()).await;
    assigned.changed().await.unwrap();
    let second = Arc::clone(&assigned.borrow_and_update());
    assert_eq!(second.tasks[0].task.desired_status, DesiredStatus::Stopped);
    assert!(second.generation > first.generation);

    task.end(Timestamp(2));
    put(&*store, task).await;
    assigned.changed().await.unwrap();
    assert!(assigned.borrow_and_update().tasks.is_empty());
    stop.send(true).unwrap();
    feeding.await.unwrap();
}

#[tokio::test]
async fn a_plan_is_used_once() {
    let store = MemoryStore::new();
    put(&store, definition()).await;
    node_link::register(&store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(0)).await.unwrap();
    let base = put(&store, service(3)).await;
    let plan = coracle_scheduler::plan(&base, Timestamp(1), &mut PlanRng::new(1));
    let again = plan.clone();
    store.commit(Arc::clone(&base), plan.changes).await.unwrap();
    let refused = store.commit(Arc::clone(&base), again.changes.clone()).await.unwrap_err();
    assert!(matches!(refused, CommitError::Conflict(_)), "{refused:?}");
    assert_eq!(store.snapshot().tasks.size(), 3);

    // One whose node has registered anew meanwhile places nothing.
    let store = MemoryStore::with_state(State::clone(&base));
    node_link::register(&store, NODE, 4096, 4096, &BTreeMap::new(), Timestamp(2)).await.unwrap();
    let refused = store.commit(base, again.changes).await.unwrap_err();
    assert_eq!(refused, CommitError::Conflict(Key::Node(NODE)));
}

/// A store whose first commits fail as a full disk would.
struct Failing {
    inner: MemoryStore,
    failures: std::sync::atomic::AtomicU32,
}

impl Store for Failing {
    fn snapshot(&self) -> Arc<State> {
        self.inner.snapshot()
    }

    fn commit(
        &self,
        base: Arc<State>,
        changes: Changes,
    ) -> BoxFuture<'static, Result<Arc<State>, CommitError>> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Box::pin(async { Err(CommitError::Io("no space left on device".to_owned())) });
        }
        self.inner.commit(base, changes)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.watch()
    }
}

#[tokio::test(start_paused = true)]
async fn observations_survive_a_disk_that_fails_for_a_while() {
    let inner = MemoryStore::new();
    let task = run_task(1);
    put(&inner, task.clone()).await;
    let store = Arc::new(Failing { inner, failures: 3.into() });
    let (observed, rx) = mpsc::unbounded_channel();
    observed.send(see(&task, LastStatus::Running)).unwrap();
    let (_stop, stopping) = watch::channel(false);
    let reporting = tokio::spawn(node_link::report(Arc::clone(&store) as Arc<dyn Store>, rx, stopping));
    tokio::task::yield_now().await;
    observed.send(see(&task, LastStatus::Stopped)).unwrap();
    until(&*store, |state| count(state, LastStatus::Stopped) == 1).await;
    drop(observed);
    reporting.await.unwrap();
    let key = Key::Task(TaskKey { cluster: cluster(), id: task.id });
    assert!(store.snapshot().revision_of(&key).is_some());
}
