//! Clusters.

use coracle_types::{AccountId, Arn, Cluster, JsonMap, Resource, Tags};
use serde_json::{Value, json};

use super::task::check_strategy;
use super::{Failure, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

/// Members CreateCluster keeps.
const KEPT: [&str; 5] = [
    "settings",
    "configuration",
    "capacityProviders",
    "defaultCapacityProviderStrategy",
    "serviceConnectDefaults",
];

/// The most capacity providers a cluster has.
const PROVIDERS_MAX: usize = 20;

/// CreateCluster.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateCluster {
    /// Its name; `default` when not given.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its capacity providers.
    pub providers: ClusterProviders,
    /// Members that are kept.
    pub rest: JsonMap,
}

impl CreateCluster {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, a tag breaks a rule, or a setting or the configuration is impossible.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        check_settings(&members)?;
        check_configuration(&members)?;
        let providers = ClusterProviders::peek(&members)?;
        Ok(Self {
            name: members.text("clusterName")?.filter(|name| !name.is_empty()),
            tags: tag::take_tags(&mut members)?,
            providers,
            rest: members.keep(&KEPT),
        })
    }
}

/// The capacity providers of a cluster, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterProviders {
    /// `capacityProviders`: names or ARNs.
    pub associated: Vec<String>,
    /// Those `defaultCapacityProviderStrategy` names.
    pub of_default: Vec<String>,
}

impl ClusterProviders {
    /// Looks at the members, which stay where they are.
    fn peek(members: &Members) -> Result<Self, ApiError> {
        const STRATEGY: &str = "defaultCapacityProviderStrategy";
        check_strategy(members, STRATEGY)?;
        let mut probe = members.clone();
        let associated = names(&mut probe, "capacityProviders", PROVIDERS_MAX)?;
        let items = probe.objects(STRATEGY)?.unwrap_or_default().into_iter();
        let of_default = items.map(|mut item| item.required_text("capacityProvider"));
        Ok(Self { associated, of_default: of_default.collect::<Result<_, _>>()? })
    }
}

/// Looks at `settings`, which stay where they are.
fn check_settings(members: &Members) -> Result<(), ApiError> {
    for mut setting in members.clone().objects("settings")?.unwrap_or_default() {
        setting.required_text("name")?;
        let value = setting.required_text("value")?;
        if !matches!(value.as_str(), "enabled" | "disabled" | "enhanced") {
            return Err(setting.invalid("value", "it is none of enabled, disabled, enhanced"));
        }
    }
    Ok(())
}

/// Looks at `configuration`, which stays where it is.
fn check_configuration(members: &Members) -> Result<(), ApiError> {
    let Some(mut configuration) = members.clone().object("configuration")? else { return Ok(()) };
    let Some(mut exec) = configuration.object("executeCommandConfiguration")? else { return Ok(()) };
    let overridden = exec.text("logging")?.as_deref() == Some("OVERRIDE");
    match exec.object("logConfiguration")? {
        None if overridden => Err(exec.missing("logConfiguration")),
        Some(_) if !overridden => {
            Err(exec.refuse("A logConfiguration can only be given together with logging OVERRIDE."))
        }
        _ => Ok(()),
    }
}

/// UpdateCluster and UpdateClusterSettings.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateCluster {
    /// Which one.
    pub cluster: String,
    /// Members to keep instead of those of before.
    pub rest: JsonMap,
}

impl UpdateCluster {
    /// Takes UpdateCluster apart.
    ///
    /// # Errors
    /// When the cluster is missing, or a setting or the configuration is impossible.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        check_settings(&members)?;
        check_configuration(&members)?;
        let kept = ["settings", "configuration", "serviceConnectDefaults"];
        Ok(Self { cluster: members.required_text("cluster")?, rest: members.keep(&kept) })
    }

    /// Takes UpdateClusterSettings apart.
    ///
    /// # Errors
    /// When the cluster or the settings are missing, or a setting is impossible.
    pub fn decode_settings(mut members: Members) -> Result<Self, ApiError> {
        check_settings(&members)?;
        let cluster = members.required_text("cluster")?;
        let rest = members.keep(&["settings"]);
        if rest.is_empty() {
            return Err(members.missing("settings"));
        }
        Ok(Self { cluster, rest })
    }
}

/// PutClusterCapacityProviders.
#[derive(Clone, Debug, PartialEq)]
pub struct PutClusterCapacityProviders {
    /// Which one.
    pub cluster: String,
    /// What is named.
    pub providers: ClusterProviders,
    /// Both lists as they were sent.
    pub rest: JsonMap,
}

impl PutClusterCapacityProviders {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, or the strategy makes no sense.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let providers = ClusterProviders::peek(&members)?;
        let cluster = members.required_text("cluster")?;
        let lists = ["capacityProviders", "defaultCapacityProviderStrategy"];
        if let Some(missing) = lists.iter().find(|name| members.peek(name).is_none()) {
            return Err(members.refuse(format_args!("{missing} should not be null.")));
        }
        Ok(Self { cluster, providers, rest: members.keep(&lists) })
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
