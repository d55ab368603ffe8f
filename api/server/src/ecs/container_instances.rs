//! Container instances: every node is one in every cluster.

use std::sync::Arc;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::container_instance::{
    DescribeContainerInstances, ListContainerInstances, NodeUse, container_instance,
    describe_container_instances, list_container_instances,
};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, ClusterId, DesiredStatus, LastStatus, Node, Resource, State};
use serde_json::Value;

use super::reference;
use crate::api::{Api, Caller};

/// ListContainerInstances.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListContainerInstances::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let active = request.status.as_deref().is_none_or(|status| status == "ACTIVE");
    let nodes = state.nodes.keys().copied().filter(|_| active);
    let page = request.page.of(
        "containerInstances",
        nodes,
        |id| *id,
        ToString::to_string,
        |text| text.parse().ok(),
    )?;
    let arns = page
        .items
        .into_iter()
        .map(|node| Arn::new(api.account(), Resource::ContainerInstance(cluster.clone(), node)).to_string());
    Ok(list_container_instances(arns.collect(), page.next))
}

/// DescribeContainerInstances.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeContainerInstances::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for given in &request.container_instances {
        let id = reference::node_id(&cluster, given)?;
        match state.nodes.get(&id) {
            Some(found) => {
                let usage = usage(&state, &cluster, &found.value);
                instances.push(container_instance(api.account(), &cluster, &found.value, usage));
            }
            None => {
                let arn = Arn::new(api.account(), Resource::ContainerInstance(cluster.clone(), id));
                failures.push(Failure::missing(arn.to_string()));
            }
        }
    }
    Ok(describe_container_instances(instances, failures))
}

fn usage(state: &State, cluster: &ClusterId, node: &Arc<Node>) -> NodeUse {
    let mut usage = NodeUse { free_cpu: node.cpu_units, free_memory: node.memory_mib, ..NodeUse::default() };
    let here = state.tasks.values().map(|found| &found.value);
    for task in here.filter(|task| task.node == Some((node.id, node.incarnation)) && task.holds_resources()) {
        usage.free_cpu = usage.free_cpu.saturating_sub(task.cpu);
        usage.free_memory = usage.free_memory.saturating_sub(task.memory);
        if task.cluster == *cluster {
            usage.running += usize::from(task.last_status == LastStatus::Running);
            let waits =
                task.last_status < LastStatus::Running && task.desired_status == DesiredStatus::Running;
            usage.pending += usize::from(waits);
        }
    }
    usage
}
