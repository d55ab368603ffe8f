//! Container instances: what ECS calls a node. A node of ours is one in every cluster; one that
//! RegisterContainerInstance made is one in its cluster alone.

use std::collections::BTreeMap;

use coracle_types::{AccountId, Arn, ClusterId, JsonMap, Node, NodeStatus, Resource, Tags};
use serde_json::{Value, json};

use super::{Failure, attribute, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// At most this many instances change their state in one request.
const UPDATED_MAX: usize = 10;

/// ListContainerInstances.
#[derive(Clone, Debug, PartialEq)]
pub struct ListContainerInstances {
    /// The cluster.
    pub cluster: Option<String>,
    /// Only those an expression of the cluster query language holds for.
    pub filter: Option<String>,
    /// Only those with this status. None is all that are not INACTIVE; some of ECS's states no node is ever in.
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
            filter: members.text("filter")?.filter(|filter| !filter.is_empty()),
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
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeContainerInstances {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, or there are none or more than 100 instances.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let cluster = members.text("cluster")?;
        let container_instances = some_instances(&mut members, 100)?;
        Ok(Self { cluster, container_instances, include: include(&mut members)? })
    }
}

/// Takes `containerInstances`, of which there must be some.
///
/// # Errors
/// When there are none or more than `max`.
pub fn some_instances(members: &mut Members, max: usize) -> Result<Vec<String>, ApiError> {
    let named = names(members, "containerInstances", max)?;
    if named.is_empty() {
        return Err(members.refuse("Container instances cannot be empty."));
    }
    Ok(named)
}

/// UpdateContainerInstancesState.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateContainerInstancesState {
    /// The cluster.
    pub cluster: Option<String>,
    /// Ids or ARNs.
    pub container_instances: Vec<String>,
    /// What they are to be: ACTIVE or DRAINING.
    pub status: NodeStatus,
}

impl UpdateContainerInstancesState {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are none or too many instances, or they are to be in a state nobody can put them in.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let cluster = members.text("cluster")?;
        let container_instances = some_instances(&mut members, UPDATED_MAX)?;
        let status = match members.required_text("status")?.as_str() {
            "ACTIVE" => NodeStatus::Active,
            "DRAINING" => NodeStatus::Draining,
            _ => {
                return Err(members.refuse("Container instances status should be one of [ACTIVE, DRAINING]"));
            }
        };
        Ok(Self { cluster, container_instances, status })
    }
}

/// RegisterContainerInstance.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterContainerInstance {
    /// The cluster.
    pub cluster: Option<String>,
    /// The ARN of the instance that registers again.
    pub again: Option<String>,
    /// CPU units it has.
    pub cpu_units: u32,
    /// Memory it has, MiB.
    pub memory_mib: u32,
    /// Ports nobody may have.
    pub reserved_ports: Vec<u16>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Its tags.
    pub tags: Tags,
    /// Members kept as sent: versionInfo, platformDevices, and the id from the identity document.
    pub rest: JsonMap,
}

impl RegisterContainerInstance {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the identity document is not JSON, a resource has no amount, or an attribute breaks a rule.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let mut request = Self {
            cluster: members.text("cluster")?,
            again: members.text("containerInstanceArn")?.filter(|arn| !arn.is_empty()),
            cpu_units: 0,
            memory_mib: 0,
            reserved_ports: Vec::new(),
            attributes: attribute::take(&mut members)?.into_iter().map(|one| (one.name, one.value)).collect(),
            tags: tag::take_tags(&mut members)?,
            rest: members.keep(&["versionInfo", "platformDevices"]),
        };
        if let Some(document) = members.text("instanceIdentityDocument")?.filter(|text| !text.is_empty()) {
            let document: Value = serde_json::from_str(&document)
                .map_err(|_| members.refuse("The instanceIdentityDocument is not a JSON document."))?;
            if let Some(id) = document.get("instanceId").and_then(Value::as_str) {
                request.rest.insert(EC2_INSTANCE_ID.to_owned(), id.into());
            }
        }
        for mut resource in members.objects("totalResources")?.unwrap_or_default() {
            match resource.required_text("name")?.as_str() {
                "CPU" => request.cpu_units = amount(&mut resource)?,
                "MEMORY" => request.memory_mib = amount(&mut resource)?,
                "PORTS" => {
                    let ports = resource.texts("stringSetValue")?.unwrap_or_default();
                    let ports = ports.iter().map(|port| {
                        port.parse().map_err(|_| resource.invalid("stringSetValue", "it has no port numbers"))
                    });
                    request.reserved_ports = ports.collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

fn amount(resource: &mut Members) -> Result<u32, ApiError> {
    let amount = resource.integer_in("integerValue", 0..=1 << 30)?;
    amount.ok_or_else(|| resource.missing("integerValue"))
}

/// The member that keeps the id of the machine an instance is on.
const EC2_INSTANCE_ID: &str = "ec2InstanceId";

/// DeregisterContainerInstance.
#[derive(Clone, Debug, PartialEq)]
pub struct DeregisterContainerInstance {
    /// The cluster.
    pub cluster: Option<String>,
    /// Its id or ARN.
    pub container_instance: String,
    /// Whether tasks that run there don't matter.
    pub force: bool,
}

impl DeregisterContainerInstance {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the instance is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            cluster: members.text("cluster")?,
            container_instance: members.required_text("containerInstance")?,
            force: members.flag("force")?.unwrap_or(false),
        })
    }
}

/// What of a node is in use by the tasks of one cluster, and free for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

fn number(name: &str, value: u32) -> Value {
    json!({"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": value})
}

fn ports(name: &str, ports: &[u16]) -> Value {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    json!({
        "name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0,
        "stringSetValue": ports,
    })
}

/// The id of the machine: that of its identity document, or one derived from the node's own, because scripts go
/// by it.
fn machine(node: &Node) -> String {
    let known = node.rest.get(EC2_INSTANCE_ID).and_then(Value::as_str);
    known.map_or_else(|| format!("i-0{:016x}", node.id.0 & u128::from(u64::MAX)), str::to_owned)
}

/// One container instance, with what `include` asks for.
#[must_use]
pub fn container_instance(
    account: AccountId,
    cluster: &ClusterId,
    node: &Node,
    usage: &NodeUse,
    include: &[String],
) -> Value {
    let asked = |what: &str| include.iter().any(|asked| asked == what);
    let resources = |cpu, memory| {
        let taken = &node.reserved_ports;
        json!([number("CPU", cpu), number("MEMORY", memory), ports("PORTS", taken), ports("PORTS_UDP", &[])])
    };
    let arn = Arn::new(account, Resource::ContainerInstance(cluster.clone(), node.id));
    let version = json!({"agentVersion": env!("CARGO_PKG_VERSION")});
    let health = || {
        let status = if node.agent_connected { "OK" } else { "INSUFFICIENT_DATA" };
        json!({"overallStatus": status, "details": [{"type": "CONTAINER_RUNTIME", "status": status}]})
    };
    Object::new()
        .with("containerInstanceArn", arn.to_string())
        .with("ec2InstanceId", machine(node))
        .maybe("capacityProviderName", node.capacity_provider.clone())
        .with("version", node.incarnation)
        .kept_or(&node.rest, "versionInfo", version)
        .with("registeredResources", resources(node.cpu_units, node.memory_mib))
        .with("remainingResources", resources(usage.free_cpu, usage.free_memory))
        .with("status", node.status.name())
        .with("agentConnected", node.agent_connected)
        .with("runningTasksCount", usage.running)
        .with("pendingTasksCount", usage.pending)
        .with(
            "attributes",
            list(node.attributes.iter().map(|(name, value)| attribute::bare(name, value.as_deref()))),
        )
        .time("registeredAt", Some(node.registered_at))
        .with("attachments", json!([]))
        .with("tags", if asked("TAGS") { tag::tags(&node.tags) } else { json!([]) })
        .maybe("healthStatus", asked("CONTAINER_INSTANCE_HEALTH").then(health))
        .into()
}

/// The answer to ListContainerInstances.
#[must_use]
pub fn list_container_instances(arns: Vec<String>, next: Option<String>) -> Value {
    Object::new().with("containerInstanceArns", arns).maybe("nextToken", next).into()
}

/// The answer to DescribeContainerInstances and UpdateContainerInstancesState.
#[must_use]
pub fn container_instances(instances: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("containerInstances", instances).with("failures", list(failures)).into()
}

/// The answer with one instance.
#[must_use]
pub fn one(instance: Value) -> Value {
    Object::new().with("containerInstance", instance).into()
}

/// The answer to DiscoverPollEndpoint: everything is at one address.
#[must_use]
pub fn poll_endpoint(endpoint: &str) -> Value {
    Object::new()
        .with("endpoint", endpoint)
        .with("telemetryEndpoint", endpoint)
        .with("serviceConnectEndpoint", endpoint)
        .into()
}
