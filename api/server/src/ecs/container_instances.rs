//! Container instances. A node of ours is one in every cluster, so what is said about it in one cluster holds
//! in all; one that RegisterContainerInstance makes has no agent of ours, and nothing is placed on it.

use std::sync::Arc;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::container_instance::{
    self as wire, DeregisterContainerInstance, DescribeContainerInstances, ListContainerInstances, NodeUse,
    RegisterContainerInstance, UpdateContainerInstancesState,
};
use coracle_protocol::names::Named as _;
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, Changes, ClusterId, Node, NodeId, NodeStatus, Resource, State};
use serde_json::Value;

use super::expressions::{self, Instance};
use super::{clusters, reference};
use crate::api::{Api, Caller};

/// The container instances of a cluster that are not deregistered.
pub(super) fn of_cluster<'a>(
    state: &'a State,
    cluster: &'a ClusterId,
) -> impl Iterator<Item = &'a Arc<Node>> {
    let nodes = state.nodes.values().map(|found| &found.value);
    nodes.filter(|node| node.serves(cluster) && node.status != NodeStatus::Inactive)
}

/// A container instance of a cluster that is not deregistered.
pub(super) fn find<'a>(state: &'a State, cluster: &ClusterId, id: NodeId) -> Option<&'a Arc<Node>> {
    let found = state.nodes.get(&id).map(|found| &found.value);
    found.filter(|node| node.serves(cluster) && node.status != NodeStatus::Inactive)
}

fn arn(api: &Api, cluster: &ClusterId, id: NodeId) -> String {
    Arn::new(api.account(), Resource::ContainerInstance(cluster.clone(), id)).to_string()
}

fn not_found(given: &str) -> ApiError {
    let shown: String = given.chars().take(300).collect();
    ApiError::InvalidParameter(format!("Referenced container instance {shown} not found."))
}

fn shown(api: &Api, state: &State, cluster: &ClusterId, node: &Node, include: &[String]) -> Value {
    wire::container_instance(api.account(), cluster, node, &usage(state, cluster, node), include)
}

/// What an action that changes an instance shows of it.
fn everything() -> Vec<String> {
    vec!["TAGS".to_owned()]
}

/// ListContainerInstances.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListContainerInstances::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let wanted = |node: &Node| match request.status.as_deref() {
        None => true,
        Some(status) => node.status.name() == status,
    };
    let filter = request.filter.as_deref().map(expressions::filter).transpose()?;
    let passes = |node: &Node| {
        let instance = Instance { state: &state, cluster: &cluster, node };
        filter.as_ref().is_none_or(|filter| filter.holds(&instance))
    };
    let nodes = of_cluster(&state, &cluster).filter(|node| wanted(node) && passes(node)).map(|node| node.id);
    let page = request.page.of(
        "containerInstances",
        nodes,
        |id| *id,
        ToString::to_string,
        |text| text.parse().ok(),
    )?;
    let arns = page.items.into_iter().map(|node| arn(api, &cluster, node));
    Ok(wire::list_container_instances(arns.collect(), page.next))
}

/// DescribeContainerInstances.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeContainerInstances::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for given in &request.container_instances {
        let id = reference::node_id(&cluster, given)?;
        match state.nodes.get(&id).filter(|found| found.value.serves(&cluster)) {
            Some(found) => instances.push(shown(api, &state, &cluster, &found.value, &request.include)),
            None => failures.push(Failure::missing(arn(api, &cluster, id))),
        }
    }
    Ok(wire::container_instances(instances, failures))
}

/// UpdateContainerInstancesState.
pub(super) async fn update_state(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateContainerInstancesState::decode(members)?;
    let (state, (cluster, updated, failures)) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let (mut changes, mut updated, mut failures) = (Changes::new(), Vec::new(), Vec::new());
            for given in &request.container_instances {
                let id = reference::node_id(&cluster, given)?;
                let Some(found) = state.nodes.get(&id).filter(|found| found.value.serves(&cluster)) else {
                    failures.push(Failure::missing(arn(api, &cluster, id)));
                    continue;
                };
                if found.value.status == NodeStatus::Inactive {
                    failures.push(Failure {
                        arn: Some(arn(api, &cluster, id)),
                        reason: "INACTIVE".to_owned(),
                        detail: None,
                    });
                    continue;
                }
                updated.push(id);
                if found.value.status != request.status {
                    changes.put(Node { status: request.status, ..Node::clone(&found.value) });
                }
            }
            Ok((changes, (cluster, updated, failures)))
        })
        .await?;
    let nodes = updated.iter().filter_map(|id| state.nodes.get(id));
    let instances = nodes.map(|found| shown(api, &state, &cluster, &found.value, &everything()));
    Ok(wire::container_instances(instances.collect(), failures))
}

/// RegisterContainerInstance: a record with no agent behind it.
pub(super) async fn register(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = RegisterContainerInstance::decode(members)?;
    let new = NodeId(api.ids(coracle_scheduler::PlanRng::task_id).0);
    let (state, (cluster, id)) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let (id, incarnation) = match &request.again {
                None => (new, 1),
                Some(given) => {
                    let id = reference::node_id(&cluster, given)?;
                    let before = state.nodes.get(&id).map(|found| &found.value);
                    let before = before.filter(|node| node.cluster.as_ref() == Some(&cluster));
                    (id, before.ok_or_else(|| not_found(given))?.incarnation + 1)
                }
            };
            let mut changes = Changes::new();
            clusters::guard(&mut changes, &cluster);
            changes.put(Node {
                agent_connected: false,
                cluster: Some(cluster.clone()),
                attributes: request.attributes.clone(),
                reserved_ports: request.reserved_ports.clone(),
                tags: request.tags.clone(),
                rest: request.rest.clone(),
                ..Node::new(id, request.cpu_units, request.memory_mib, api.now(), incarnation)
            });
            Ok((changes, (cluster, id)))
        })
        .await?;
    one(api, &state, &cluster, id)
}

fn one(api: &Api, state: &State, cluster: &ClusterId, id: NodeId) -> Result<Value, ApiError> {
    let found = state.nodes.get(&id).ok_or_else(|| not_found(&id.to_string()))?;
    Ok(wire::one(shown(api, state, cluster, &found.value, &everything())))
}

/// DeregisterContainerInstance: what still runs there is lost to ECS, so that has to be said explicitly.
pub(super) async fn deregister(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DeregisterContainerInstance::decode(members)?;
    let (state, (cluster, id)) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let given = &request.container_instance;
            let id = reference::node_id(&cluster, given)?;
            let node = find(state, &cluster, id).ok_or_else(|| not_found(given))?;
            if state.load_of(id).is_some() && !request.force {
                return Err(ApiError::InvalidParameter("Found running tasks on the instance.".to_owned()));
            }
            let mut changes = Changes::new();
            changes.put(Node { status: NodeStatus::Inactive, ..Node::clone(node) });
            Ok((changes, (cluster, id)))
        })
        .await?;
    one(api, &state, &cluster, id)
}

/// UpdateContainerAgent: an agent is part of its process, which is as new as it is.
pub(super) fn update_agent(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, members.text("cluster")?.as_deref())?;
    let given = members.required_text("containerInstance")?;
    let id = reference::node_id(&cluster, &given)?;
    let node = find(&state, &cluster, id).ok_or_else(|| not_found(&given))?;
    let version = node.rest.get("versionInfo").and_then(|info| info.get("agentVersion"));
    if node.agent_connected || version.is_some() {
        Err(ApiError::NoUpdateAvailable)
    } else {
        Err(ApiError::MissingVersion)
    }
}

/// DiscoverPollEndpoint: the same for every container instance, also for one that is still to be registered.
pub(super) fn discover_poll_endpoint(caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    reference::cluster_id(caller, members.text("cluster")?.as_deref())?;
    Ok(wire::poll_endpoint(&caller.endpoint()))
}

fn usage(state: &State, cluster: &ClusterId, node: &Node) -> NodeUse {
    let (cpu, memory) = state.load_of(node.id).map_or((0, 0), |load| (load.cpu, load.memory));
    let left = |all: u32, taken: u64| all.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
    let mut usage = NodeUse {
        free_cpu: left(node.cpu_units, cpu),
        free_memory: left(node.memory_mib, memory),
        ..NodeUse::default()
    };
    for task in state.tasks_on(node.id).filter(|task| task.cluster == *cluster) {
        usage.running += usize::from(task.is_running());
        usage.pending += usize::from(task.is_pending());
    }
    usage
}
