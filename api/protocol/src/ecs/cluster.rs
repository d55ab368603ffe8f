//! Clusters.

use coracle_types::{AccountId, Arn, Cluster, JsonMap, Resource, Tags};
use serde_json::{Value, json};

use super::{Failure, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

const KEPT: [&str; 5] = [
    "settings",
    "configuration",
    "capacityProviders",
    "defaultCapacityProviderStrategy",
    "serviceConnectDefaults",
];

/// CreateCluster.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateCluster {
    /// Its name; `default` when not given.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Members that are kept.
    pub rest: JsonMap,
}

impl CreateCluster {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type or a tag breaks a rule.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            name: members.text("clusterName")?.filter(|name| !name.is_empty()),
            tags: tag::take_tags(&mut members)?,
            rest: members.keep(&KEPT),
        })
    }
}

/// UpdateCluster, UpdateClusterSettings and PutClusterCapacityProviders: they differ in which members
/// they may carry.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateCluster {
    /// Which one.
    pub cluster: String,
    /// Members to keep instead of those of before.
    pub rest: JsonMap,
}

impl UpdateCluster {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the cluster is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { cluster: members.required_text("cluster")?, rest: members.keep(&KEPT) })
    }
}

/// DescribeClusters.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeClusters {
    /// Names or ARNs; the default cluster when there are none.
    pub clusters: Vec<String>,
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeClusters {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, or there are more than 100 clusters.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { clusters: names(&mut members, "clusters", 100)?, include: include(&mut members)? })
    }
}

/// What is counted in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Nodes.
    pub nodes: usize,
    /// RUNNING tasks with launch type EC2 (and EXTERNAL).
    pub running_ec2: usize,
    /// RUNNING tasks with launch type FARGATE.
    pub running_fargate: usize,
    /// Tasks that are to run and do not yet, EC2 (and EXTERNAL).
    pub pending_ec2: usize,
    /// Tasks that are to run and do not yet, FARGATE.
    pub pending_fargate: usize,
    /// ACTIVE services, EC2 (and EXTERNAL).
    pub active_ec2_services: usize,
    /// ACTIVE services, FARGATE.
    pub active_fargate_services: usize,
    /// DRAINING services, EC2 (and EXTERNAL).
    pub draining_ec2_services: usize,
    /// DRAINING services, FARGATE.
    pub draining_fargate_services: usize,
}

/// One cluster, with what `include` asks for.
#[must_use]
pub fn cluster(account: AccountId, cluster: &Cluster, counts: ClusterCounts, include: &[String]) -> Value {
    let asked = |what: &str| include.iter().any(|asked| asked == what);
    let statistics = || {
        let figures = [
            ("runningEC2TasksCount", counts.running_ec2),
            ("runningFargateTasksCount", counts.running_fargate),
            ("pendingEC2TasksCount", counts.pending_ec2),
            ("pendingFargateTasksCount", counts.pending_fargate),
            ("activeEC2ServiceCount", counts.active_ec2_services),
            ("activeFargateServiceCount", counts.active_fargate_services),
            ("drainingEC2ServiceCount", counts.draining_ec2_services),
            ("drainingFargateServiceCount", counts.draining_fargate_services),
        ];
        list(figures.map(|(name, count)| Object::new().with("name", name).with("value", count.to_string())))
    };
    let settings = cluster.rest.get("settings").cloned();
    let settings = settings.unwrap_or_else(|| json!([{"name": "containerInsights", "value": "disabled"}]));
    Object::new()
        .with("clusterArn", Arn::new(account, Resource::Cluster(cluster.id.clone())).to_string())
        .with("clusterName", cluster.id.name.as_str())
        .with("status", cluster.status.name())
        .with("registeredContainerInstancesCount", counts.nodes)
        .with("runningTasksCount", counts.running_ec2 + counts.running_fargate)
        .with("pendingTasksCount", counts.pending_ec2 + counts.pending_fargate)
        .with("activeServicesCount", counts.active_ec2_services + counts.active_fargate_services)
        .with("statistics", if asked("STATISTICS") { statistics() } else { json!([]) })
        .with("tags", if asked("TAGS") { tag::tags(&cluster.tags) } else { json!([]) })
        .with("settings", if asked("SETTINGS") { settings } else { json!([]) })
        .kept(&cluster.rest, if asked("CONFIGURATIONS") { &["configuration"] } else { &[] })
        .kept_or(&cluster.rest, "capacityProviders", json!([]))
        .kept_or(&cluster.rest, "defaultCapacityProviderStrategy", json!([]))
        .kept(&cluster.rest, &["serviceConnectDefaults"])
        .into()
}

/// What CreateCluster and the like show of a cluster: all of it.
#[must_use]
pub fn everything() -> Vec<String> {
    ["STATISTICS", "TAGS", "SETTINGS", "CONFIGURATIONS"].map(str::to_owned).to_vec()
}

/// The answer with one cluster.
#[must_use]
pub fn one(cluster: Value) -> Value {
    Object::new().with("cluster", cluster).into()
}

/// The answer to DescribeClusters.
#[must_use]
pub fn describe_clusters(clusters: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("clusters", clusters).with("failures", list(failures)).into()
}
