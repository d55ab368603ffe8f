//! RunTask: the one action that places tasks itself, because it has to answer whether they fit.

use std::collections::BTreeMap;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task::{self as wire, RunTask};
use coracle_protocol::{ApiError, Members};
use coracle_scheduler::{Need, NewTask, Rooms, Unplaceable, assign, new_task};
use coracle_types::{
    Arn, Changes, Cluster, Key, LaunchType, PropagateTags, Resource, State, StrategyItem, Tags, Task,
    TaskDefinition, TaskGroup, TaskKey, next_provider, strategy_items,
};
use serde_json::Value;

use super::deploy::{Launch, STRATEGY, launch};
use super::requirements::{self, Asked};
use super::settle::{is_started, settle};
use super::token::{Fingerprint, Token};
use super::{clusters, reference, tasks};
use crate::api::{Api, Caller};

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
    let (state, started) = api
        .transact(|state| {
            if let Some(made) = token.as_ref().map(|token| token.made(state)).transpose()?.flatten() {
                let ids = made.iter().filter_map(|id| id.parse().ok());
                let tasks = ids.map(|id| TaskKey { cluster: cluster.clone(), id }).collect();
                return Ok((Changes::new(), Started { tasks, failures: Vec::new() }));
            }
            let order = Order::new(state, caller, &cluster, &request)?;
            let mut failures = Vec::new();
            let mut changes = Changes::new();
            let placed = place(api, state, &order, &mut changes, &mut failures);
            if let Some((Unplaceable::NoNodes, _)) = failures.first()
                && order.launch.launch_type != LaunchType::Fargate
            {
                return Err(ApiError::InvalidParameter(Unplaceable::NoNodes.to_string()));
            }
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
            placed.into_iter().for_each(|task| changes.put(task));
            let failures = failures.into_iter().map(|(_, failure)| failure).collect();
            Ok((changes, Started { tasks: keys, failures }))
        })
        .await?;
    let state = settle(api, state, &started.tasks, is_started).await;
    let found = started.tasks.iter().filter_map(|key| reference::task(&state, key));
    let tasks = found.map(|task| tasks::shown(api, &state, &task, true)).collect();
    Ok(wire::tasks(tasks, started.failures))
}

/// Places the tasks that were asked for, one after the other, each with a provider of the strategy.
fn place(
    api: &Api,
    state: &State,
    order: &Order<'_>,
    changes: &mut Changes,
    failures: &mut Vec<(Unplaceable, Failure)>,
) -> Vec<Task> {
    let mut rooms = Rooms::of(state);
    let mut have: BTreeMap<&str, usize> = BTreeMap::new();
    let mut placed = Vec::new();
    for _ in 0..order.request.count {
        let provider = next_provider(&order.strategy, |name| have.get(name).copied().unwrap_or(0));
        *have.entry(provider.unwrap_or_default()).or_default() += 1;
        let mut task = order.task(api, provider.or(order.launch.provider.as_deref()));
        let need = order.need(&task);
        match api.ids(|rng| rooms.batch(need.clone(), rng).place(&mut rooms, rng)) {
            Ok(node) => {
                need.guard(changes, node.0);
                assign(&mut task, node);
                placed.push(task);
            }
            Err(reason) => {
                let failure = failure(api, order, &reason);
                failures.push((reason, failure));
            }
        }
    }
    placed
}

/// A request whose names have been found.
pub(super) struct Order<'a> {
    request: &'a RunTask,
    cluster: std::sync::Arc<Cluster>,
    pub(super) definition: std::sync::Arc<TaskDefinition>,
    pub(super) launch: Launch,
    /// The capacity provider strategy the tasks are divided by.
    strategy: Vec<StrategyItem>,
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
        let strategy = request.rest.get(STRATEGY).or(launch.default_strategy.as_ref());
        let strategy = strategy.filter(|_| launch.provider.is_some()).map(strategy_items).unwrap_or_default();
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
        Ok(Self { request, cluster, definition, launch, strategy, group, tags })
    }

    /// What a task of it needs of a node.
    pub(super) fn need(&self, task: &Task) -> Need {
        Need::of(task, &self.definition).asked_by(&self.request.rest)
    }

    pub(super) fn task(&self, api: &Api, provider: Option<&str>) -> Task {
        let mut rest = self.request.rest.clone();
        if let Some(provider) = provider {
            rest.insert("capacityProviderName".to_owned(), provider.into());
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
pub(super) fn failure(api: &Api, order: &Order<'_>, reason: &Unplaceable) -> Failure {
    let arn = reason.closest().map(|closest| {
        let instance = Resource::ContainerInstance(order.cluster.id.clone(), closest);
        Arn::new(api.account(), instance).to_string()
    });
    Failure { arn, reason: reason.failure().to_owned(), detail: Some(reason.to_string()) }
}
