//! Container instances: what ECS calls a node. Each node is one in every cluster.

use coracle_types::{AccountId, Arn, ClusterId, Node, Resource};
use serde_json::{Value, json};

use super::{Failure, names};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// ListContainerInstances.
#[derive(Clone, Debug, PartialEq)]
pub struct ListContainerInstances {
    /// The cluster.
    pub cluster: Option<String>,
    /// Only those with this status; a node is always ACTIVE.
    pub status: Option<String>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListContainerInstances {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            cluster: members.text("cluster")?,
            status: members.text("status")?,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// DescribeContainerInstances.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeContainerInstances {
    /// The cluster.
    pub cluster: Option<String>,
    /// Ids or ARNs.
    pub container_instances: Vec<String>,
}

impl DescribeContainerInstances {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, or there are none or more than 100 instances.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let cluster = members.text("cluster")?;
        let container_instances = names(&mut members, "containerInstances", 100)?;
        if container_instances.is_empty() {
            return Err(members.refuse("Container instances cannot be empty."));
        }
        Ok(Self { cluster, container_instances })
    }
}

/// What of a node is in use by the tasks of one cluster, and free for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// CPU units nobody has reserved.
    pub free_cpu: u32,
    /// Memory nobody has reserved, MiB.
    pub free_memory: u32,
    /// RUNNING tasks of the cluster.
    pub running: usize,
    /// Tasks of the cluster that are to run and do not yet.
    pub pending: usize,
}

/// One container instance.
#[must_use]
pub fn container_instance(account: AccountId, cluster: &ClusterId, node: &Node, usage: NodeUse) -> Value {
    let resources = |cpu: u32, memory: u32| {
        json!([
            {"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": cpu},
            {"name": "MEMORY", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": memory},
        ])
    };
    let arn = Arn::new(account, Resource::ContainerInstance(cluster.clone(), node.id));
    Object::new()
        .with("containerInstanceArn", arn.to_string())
        .with("version", node.incarnation)
        .with("versionInfo", json!({"agentVersion": env!("CARGO_PKG_VERSION")}))
        .with("registeredResources", resources(node.cpu_units, node.memory_mib))
        .with("remainingResources", resources(usage.free_cpu, usage.free_memory))
        .with("status", "ACTIVE")
        .with("agentConnected", true)
        .with("runningTasksCount", usage.running)
        .with("pendingTasksCount", usage.pending)
        .with("attributes", json!([{"name": "ecs.os-type", "value": "linux"}]))
        .time("registeredAt", Some(node.registered_at))
        .with("attachments", json!([]))
        .with("tags", json!([]))
        .into()
}

/// The answer to ListContainerInstances.
#[must_use]
pub fn list_container_instances(arns: Vec<String>, next: Option<String>) -> Value {
    Object::new().with("containerInstanceArns", arns).maybe("nextToken", next).into()
}

/// The answer to DescribeContainerInstances.
#[must_use]
pub fn describe_container_instances(instances: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("containerInstances", instances).with("failures", list(failures)).into()
}
