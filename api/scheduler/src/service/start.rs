//! Starting the tasks that are missing, as far as the back-off, the room under the upper bound and the nodes allow.

use std::collections::{BTreeMap, HashMap};

use coracle_types::{
    Deployment, DeploymentId, JsonMap, LaunchType, NodeId, PropagateTags, RolloutState, Service,
    StrategyItem, Tags, Task, TaskDefinition, TaskDefinitionId, TaskGroup, TaskId, TaskOverride, TaskSet,
    launch_type_of, next_provider, strategy_items,
};
use serde_json::Value;

use super::Classified;
use super::draft::Draft;
use crate::placement::{Batch, Need, Unplaceable, node_takes_tasks};
use crate::plan::Pass;
use crate::reason::Reason;
use crate::task::{NewTask, assign, new_task};

/// Where a missing task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Wherever there is room (REPLICA).
    Any,
    /// On this node (DAEMON).
    Node(NodeId),
    /// In this zone.
    Zone(String),
}

/// What wants tasks: a deployment, or a task set.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) id: DeploymentId,
    task_definition: TaskDefinitionId,
    launch_type: LaunchType,
    /// Members kept as sent.
    rest: JsonMap,
    started_by: String,
}

impl From<&Deployment> for Origin {
    fn from(deployment: &Deployment) -> Self {
        Self {
            id: deployment.id,
            task_definition: deployment.task_definition.clone(),
            launch_type: deployment.launch_type,
            rest: deployment.rest.clone(),
            started_by: deployment.id.to_string(),
        }
    }
}

impl From<&TaskSet> for Origin {
    fn from(set: &TaskSet) -> Self {
        Self {
            id: set.id,
            task_definition: set.task_definition.clone(),
            launch_type: set.launch_type,
            rest: set.rest.clone(),
            started_by: set.started_by.clone().unwrap_or_else(|| set.id.to_string()),
        }
    }
}

/// What became of the missing tasks.
#[derive(Default)]
pub(super) struct Starts {
    pub(super) started: Vec<TaskId>,
    /// How many are missing still, if any may be started at all now.
    pub(super) missing: usize,
    /// Whether the upper bound left no room for a single one.
    pub(super) no_room: bool,
    pub(super) short: Option<Unplaceable>,
}

/// Starts what is missing of `origin`, at most `room` tasks. `tasks` are all of the service.
pub(super) fn start(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    origin: &Origin,
    wanted: Vec<Target>,
    room: usize,
    tasks: &[Classified<'_>],
) -> Starts {
    let mut starts = Starts::default();
    let service = draft.service();
    if wanted.is_empty() {
        return starts;
    }
    if pass.now < service.backoff.not_before {
        pass.wake(service.backoff.not_before);
        return starts;
    }
    let Some(definition) = pass.state.task_definitions.get(&origin.task_definition) else {
        let reason = Reason::NoTaskDefinition {
            service: service.id.name.clone(),
            task_definition: origin.task_definition.clone(),
        };
        pass.wait_for_room();
        draft.say_once(pass, reason);
        return starts;
    };
    starts.missing = wanted.len();
    starts.no_room = room == 0;
    let mut providers = Providers::of(origin, tasks);
    // Tasks that need the same share a batch; by provider and zone, they need the same.
    let mut batches: HashMap<(Option<String>, Option<String>), Option<Batch>> = HashMap::new();
    let mut needs: HashMap<(Option<String>, Option<String>), Need> = HashMap::new();
    for target in wanted {
        if starts.started.len() == room {
            break;
        }
        let provider = providers.next();
        let zone = if let Target::Zone(zone) = &target { Some(zone.clone()) } else { None };
        let batch = (provider.clone(), zone);
        if batches.get(&batch).is_some_and(Option::is_none) {
            // Those before it that need the same found no room; it waits with them.
            providers.count(provider);
            continue;
        }
        let mut task = service_task(service, origin, provider.clone(), &definition.value, pass);
        let need = needs.entry(batch.clone()).or_insert_with(|| {
            let mut need = Need::of(&task, &definition.value).asked_by(&service.rest);
            need.zone.clone_from(&batch.1);
            need
        });
        let minds_others = need.minds_others();
        let placed = if let Target::Node(node) = target {
            pass.rooms().0.place_on(node, need)
        } else {
            let (rooms, rng) = pass.rooms();
            let made = batches.entry(batch.clone()).or_insert_with(|| Some(rooms.batch(need.clone(), rng)));
            made.as_mut().map_or(Err(Unplaceable::NoNodes), |made| made.place(rooms, rng))
        };
        match placed {
            Ok(node) => {
                assign(&mut task, node);
                starts.started.push(task.id);
                pass.add_placed(task, minds_others);
                providers.count(provider);
            }
            Err(short) => {
                providers.count(provider);
                starts.short.get_or_insert(short);
                if !matches!(target, Target::Node(_)) {
                    batches.insert(batch, None);
                }
            }
        }
    }
    starts.missing -= starts.started.len();
    if starts.missing > 0 {
        pass.wait_for_room();
    }
    starts
}

/// Which capacity provider the next task comes from.
struct Providers {
    items: Vec<StrategyItem>,
    have: BTreeMap<String, usize>,
}

impl Providers {
    fn of(origin: &Origin, tasks: &[Classified<'_>]) -> Self {
        let items = origin.rest.get("capacityProviderStrategy").map(strategy_items).unwrap_or_default();
        let mut have = BTreeMap::new();
        if items.len() > 1 {
            let ours = |one: &&Classified<'_>| one.task.deployment == Some(origin.id) && one.phase.counts();
            for one in tasks.iter().filter(ours) {
                if let Some(provider) = one.task.rest.get("capacityProviderName").and_then(Value::as_str) {
                    *have.entry(provider.to_owned()).or_default() += 1;
                }
            }
        }
        Self { items, have }
    }

    fn next(&self) -> Option<String> {
        next_provider(&self.items, |name| self.have.get(name).copied().unwrap_or(0)).map(str::to_owned)
    }

    /// Takes in that a task comes from a provider, or waits for it.
    fn count(&mut self, provider: Option<String>) {
        if let Some(provider) = provider {
            *self.have.entry(provider).or_default() += 1;
        }
    }
}

/// A new task of a service.
fn service_task(
    service: &Service,
    origin: &Origin,
    provider: Option<String>,
    definition: &TaskDefinition,
    pass: &mut Pass<'_>,
) -> Task {
    let tags = match service.propagate_tags {
        PropagateTags::TaskDefinition => definition.tags.clone(),
        PropagateTags::Service => service.tags.clone(),
        PropagateTags::None => Tags::default(),
    };
    let mut rest = JsonMap::new();
    let kept = [
        (&origin.rest, "networkConfiguration"),
        (&origin.rest, "platformVersion"),
        (&service.rest, "enableExecuteCommand"),
        (&service.rest, "enableECSManagedTags"),
    ];
    for (from, member) in kept {
        if let Some(value) = from.get(member) {
            rest.insert(member.to_owned(), value.clone());
        }
    }
    let launch_type = provider.as_deref().map_or(origin.launch_type, launch_type_of);
    if let Some(provider) = provider {
        rest.insert("capacityProviderName".to_owned(), provider.into());
    }
    let new = NewTask {
        id: pass.new_task_id(&service.id.cluster),
        cluster: service.id.cluster.clone(),
        group: TaskGroup::Service(service.id.name.clone()),
        deployment: Some(origin.id),
        started_by: Some(origin.started_by.clone()),
        launch_type,
        overrides: TaskOverride::default(),
        tags,
        rest,
    };
    new_task(definition, new, pass.now, pass.rng)
}

/// The nodes a DAEMON service should have a task on: those that take tasks and that its constraints allow.
pub(super) fn daemon_nodes(pass: &mut Pass<'_>, service: &Service) -> Vec<NodeId> {
    let state = pass.state;
    let serving =
        state.nodes.values().map(|found| &found.value).filter(|node| {
            node_takes_tasks(node) && node.agent_connected && node.serves(&service.id.cluster)
        });
    let nodes: Vec<NodeId> = serving.map(|node| node.id).collect();
    let Some(primary) = service.primary() else { return nodes };
    let Some(definition) = state.task_definitions.get(&primary.task_definition) else { return nodes };
    let need = Need::of_service(service, &definition.value, primary.launch_type);
    if need.is_anywhere() {
        return nodes;
    }
    let (rooms, _) = pass.rooms();
    nodes.into_iter().filter(|&node| rooms.allows(node, &need)).collect()
}

/// What keeps a deployment that was given up, or aborted, from starting anything.
pub(super) fn may_start(deployment: &Deployment) -> bool {
    deployment.rollout_state != RolloutState::Failed
}
