//! StartTask: tasks on the container instances somebody names, whatever the scheduler would have chosen.

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task::{self as wire, StartTask};
use coracle_protocol::{ApiError, Members};
use coracle_scheduler::{Rooms, assign};
use coracle_types::{Arn, Changes, ClusterId, Key, LaunchType, NodeId, NodeStatus, Resource, State, Task};
use serde_json::Value;

use super::run_task::{Order, failure};
use super::settle::{is_started, settle};
use super::{clusters, reference, tasks};
use crate::api::{Api, Caller};

/// StartTask.
pub(super) async fn start_task(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let mut request = StartTask::decode(members)?;
    request.task.launch_type = Some(LaunchType::Ec2);
    let cluster = reference::cluster_id(caller, request.task.cluster.as_deref())?;
    let (state, (keys, failures)) = api
        .transact(|state| {
            let order = Order::new(state, caller, &cluster, &request.task)?;
            let (mut nodes, mut failures) = (Vec::new(), Vec::new());
            for given in &request.container_instances {
                match usable(api, state, &cluster, reference::node_id(&cluster, given)?) {
                    Ok(node) => nodes.push(node),
                    Err(failure) => failures.push(failure),
                }
            }
            let mut changes = Changes::new();
            let placed = place(api, &order, state, &nodes, &mut changes, &mut failures);
            if !placed.is_empty() {
                clusters::guard(&mut changes, &cluster);
                changes.guard(Key::TaskDefinition(order.definition.id.clone()));
            }
            let keys: Vec<_> = placed.iter().map(Task::key).collect();
            for task in placed {
                changes.put(task);
            }
            Ok((changes, (keys, failures)))
        })
        .await?;
    let state = settle(api, state, &keys, is_started).await;
    let found = keys.iter().filter_map(|key| reference::task(&state, key));
    let shown = found.map(|task| tasks::shown(api, &state, &task, true)).collect();
    Ok(wire::tasks(shown, failures))
}

/// A node that takes tasks of a cluster, or why it does not.
fn usable(api: &Api, state: &State, cluster: &ClusterId, id: NodeId) -> Result<NodeId, Failure> {
    let arn = Arn::new(api.account(), Resource::ContainerInstance(cluster.clone(), id)).to_string();
    let because = |reason: &str| Failure { arn: Some(arn.clone()), reason: reason.to_owned(), detail: None };
    let node = state.nodes.get(&id).map(|found| &found.value).filter(|node| node.serves(cluster));
    match node {
        None => Err(Failure::missing(arn)),
        Some(node) if node.status == NodeStatus::Inactive => Err(because("INACTIVE")),
        Some(node) if !node.agent_connected => Err(because("AGENT")),
        Some(_) => Ok(id),
    }
}

fn place(
    api: &Api,
    order: &Order<'_>,
    state: &State,
    nodes: &[NodeId],
    changes: &mut Changes,
    failures: &mut Vec<Failure>,
) -> Vec<Task> {
    let mut rooms = Rooms::of(state);
    let mut placed = Vec::new();
    for &node in nodes {
        let mut task = order.task(api, order.launch.provider.as_deref());
        let need = order.need(&task);
        match rooms.place_on(node, &need) {
            Ok(node) => {
                need.guard(changes, node.0);
                assign(&mut task, node);
                placed.push(task);
            }
            Err(reason) => failures.push(failure(api, order, &reason)),
        }
    }
    placed
}
