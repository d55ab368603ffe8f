//! RunTask: the one action that places tasks itself, because it has to answer whether they fit.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task::{self as wire, RunTask};
use coracle_protocol::{ApiError, Members};
use coracle_scheduler::{Capacity, NewTask, Unplaceable, assign, new_task};
use coracle_store::placing;
use coracle_types::{
    Arn, Change, Changes, Cluster, Key, LaunchType, PropagateTags, Record, Resource, State, Tags, Task,
    TaskDefinition, TaskGroup, TaskKey,
};
use serde_json::Value;

use super::deploy::{Launch, STRATEGY, launch};
use super::requirements::{self, Asked};
use super::settle::{is_started, settle};
use super::token::{Fingerprint, Token};
use super::{clusters, reference, tasks};
use crate::api::{Api, Caller};

/// Placements that are on their way into the store. Two requests that read the same snapshot see each
/// other here and do not both take the last free memory; the store alone would not notice, because new
/// tasks are different records.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Vec<Reservation>>);

#[derive(Debug)]
struct Reservation {
    ticket: uuid::Uuid,
    tasks: Vec<Task>,
    /// When they were committed, and the revision that has them.
    committed: Option<(Instant, u64)>,
}

/// How long a committed reservation still counts for those whose snapshot is older.
const REMEMBERED: Duration = Duration::from_secs(1);

/// One request's place among the others; gives up what it reserved when it is dropped uncommitted.
pub(super) struct Ticket<'a> {
    in_flight: &'a InFlight,
    id: uuid::Uuid,
}

impl InFlight {
    pub(super) fn ticket(&self) -> Ticket<'_> {
        Ticket { in_flight: self, id: uuid::Uuid::new_v4() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Reservation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Places tasks on what `state` and everybody else's reservations leave free, and reserves it.
    pub(super) fn place(&self, state: &State, place: impl FnOnce(&mut Capacity) -> Vec<Task>) -> Vec<Task> {
        let mut all = self.in_flight.lock();
        all.retain(|one| {
            one.ticket != self.id && one.committed.is_none_or(|(at, _)| at.elapsed() < REMEMBERED)
        });
        let mut seen = state.clone();
        for one in
            all.iter().filter(|one| one.committed.is_none_or(|(_, revision)| revision > state.revision))
        {
            for task in one.tasks.iter().filter(|task| !state.tasks.contains_key(&task.key())) {
                seen.apply(&Change::Put(Record::from(task.clone())), state.revision);
            }
        }
        let placed = place(&mut Capacity::of(&seen));
        all.push(Reservation { ticket: self.id, tasks: placed.clone(), committed: None });
        placed
    }

    pub(super) fn committed(&self, revision: u64) {
        if let Some(ours) = self.in_flight.lock().iter_mut().find(|one| one.ticket == self.id) {
            ours.committed = Some((Instant::now(), revision));
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.in_flight.lock().retain(|one| one.ticket != self.id || one.committed.is_some());
    }
}

/// What a request came to.
struct Started {
    tasks: Vec<TaskKey>,
    failures: Vec<Failure>,
}

/// RunTask.
pub(super) async fn run_task(
    api: &Api,
    caller: &Caller,
    members: Members,
    fingerprint: &Fingerprint,
) -> Result<Value, ApiError> {
    let request = RunTask::decode(members)?;
    let cluster = reference::cluster_id(caller, request.cluster.as_deref())?;
    let token = Token::of(&caller.region, "RunTask", request.client_token.as_ref(), fingerprint);
    let ticket = api.in_flight.ticket();
    let turn = placing::shared().await;
    let (state, started) = api
        .transact(|state| {
            if let Some(made) = token.as_ref().map(|token| token.made(state)).transpose()?.flatten() {
                let ids = made.iter().filter_map(|id| id.parse().ok());
                let tasks = ids.map(|id| TaskKey { cluster: cluster.clone(), id }).collect();
                return Ok((Changes::new(), Started { tasks, failures: Vec::new() }));
            }
            let order = Order::new(state, caller, &cluster, &request)?;
            let mut failures = Vec::new();
            let placed = ticket.place(state, |capacity| {
                let mut placed = Vec::new();
                for _ in 0..request.count {
                    let mut task = order.task(api);
                    match capacity.place(task.cpu, task.memory) {
                        Ok(node) => {
                            assign(&mut task, node);
                            placed.push(task);
                        }
                        Err(reason) => failures.push((reason, failure(api, &order, reason))),
                    }
                }
                placed
            });
            if let Some((Unplaceable::NoNodes, _)) = failures.first()
                && order.launch.launch_type != LaunchType::Fargate
            {
                return Err(ApiError::InvalidParameter(Unplaceable::NoNodes.to_string()));
            }
            let mut changes = Changes::new();
            let keys: Vec<TaskKey> = placed.iter().map(Task::key).collect();
            if !placed.is_empty() {
                clusters::guard(&mut changes, &cluster);
                changes.guard(Key::TaskDefinition(order.definition.id.clone()));
                if let Some(token) = &token {
                    token.record(
                        &mut changes,
                        keys.iter().map(|key| key.id.to_string()).collect(),
                        api.now(),
                    );
                }
            }
            for task in placed {
                // A node that registers anew in between has lost whatever was assigned to it.
                task.node.iter().for_each(|(node, _)| changes.guard(Key::Node(*node)));
                changes.put(task);
            }
            let failures = failures.into_iter().map(|(_, failure)| failure).collect();
            Ok((changes, Started { tasks: keys, failures }))
        })
        .await?;
    ticket.committed(state.revision);
    drop(turn);
    let state = settle(api, state, &started.tasks, is_started).await;
    let found = started.tasks.iter().filter_map(|key| reference::task(&state, key));
    let tasks = found.map(|task| tasks::shown(api, &state, &task, true)).collect();
    Ok(wire::tasks(tasks, started.failures))
}

/// A request whose names have been found.
pub(super) struct Order<'a> {
    request: &'a RunTask,
    cluster: std::sync::Arc<Cluster>,
    pub(super) definition: std::sync::Arc<TaskDefinition>,
    launch: Launch,
    group: TaskGroup,
    tags: Tags,
}

impl<'a> Order<'a> {
    pub(super) fn new(
        state: &State,
        caller: &Caller,
        cluster: &coracle_types::ClusterId,
        request: &'a RunTask,
    ) -> Result<Self, ApiError> {
        let cluster = reference::active_cluster(state, cluster)?;
        let definition = reference::active_definition(state, &caller.region, &request.task_definition)?;
        let launch = launch(&cluster, &definition, request.launch_type, request.rest.get(STRATEGY))?;
        requirements::check(Asked(&[&request.rest]), &definition, launch.launch_type)?;
        check_overrides(request, &definition)?;
        let group = match &request.group {
            None => TaskGroup::Family(definition.id.family.clone()),
            Some(group) if group.starts_with("service:") => {
                return Err(ApiError::InvalidParameter(
                    "The group of a task that is run by itself must not begin with service:".to_owned(),
                ));
            }
            Some(group) => TaskGroup::Custom(group.clone()),
        };
        let mut tags = match request.propagate_tags {
            PropagateTags::TaskDefinition => definition.tags.clone(),
            PropagateTags::None => Tags::default(),
            PropagateTags::Service => {
                return Err(ApiError::InvalidParameter(
                    "propagateTags SERVICE is for the tasks of services; use TASK_DEFINITION or NONE."
                        .to_owned(),
                ));
            }
        };
        let own = request.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        tags.merge(own).map_err(|error| ApiError::InvalidParameter(error.to_string()))?;
        Ok(Self { request, cluster, definition, launch, group, tags })
    }

    pub(super) fn task(&self, api: &Api) -> Task {
        let mut rest = self.request.rest.clone();
        if let Some(provider) = &self.launch.provider {
            rest.insert("capacityProviderName".to_owned(), provider.as_str().into());
        }
        let now = api.now();
        api.ids(|rng| {
            let new = NewTask {
                id: rng.task_id(),
                cluster: self.cluster.id.clone(),
                group: self.group.clone(),
                deployment: None,
                started_by: self.request.started_by.clone(),
                launch_type: self.launch.launch_type,
                overrides: self.request.overrides.clone(),
                tags: self.tags.clone(),
                rest,
            };
            new_task(&self.definition, new, now, rng)
        })
    }
}

fn check_overrides(request: &RunTask, definition: &TaskDefinition) -> Result<(), ApiError> {
    for change in &request.overrides.containers {
        let name = change.name.as_ref().ok_or_else(|| {
            ApiError::InvalidParameter("Container override name should not be null or empty.".to_owned())
        })?;
        if definition.container(name).is_none() {
            return Err(ApiError::InvalidParameter(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            )));
        }
    }
    Ok(())
}

/// Why a task was not placed, as `failures` say it.
pub(super) fn failure(api: &Api, order: &Order<'_>, reason: Unplaceable) -> Failure {
    let arn = match reason {
        Unplaceable::Cpu { closest } | Unplaceable::Memory { closest } => {
            let instance = Resource::ContainerInstance(order.cluster.id.clone(), closest);
            Some(Arn::new(api.account(), instance).to_string())
        }
        Unplaceable::NoNodes => None,
    };
    Failure { arn, reason: reason.failure().to_owned(), detail: Some(reason.to_string()) }
}
