//! Task sets: requests, and a task set as ECS answers it.

use coracle_types::{AccountId, Arn, JsonMap, LaunchType, Resource, ServiceId, Tags, TaskSet};
use serde_json::{Value, json};

use super::placement::{check_network, check_platform};
use super::service::{TaskCounts, launch_type_name, platform};
use super::task::{check_strategy, client_token, launch_type};
use super::{Failure, include, names, tag, task_definition};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// Members kept on a task set.
const KEPT: [&str; 5] = [
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "capacityProviderStrategy",
    "platformVersion",
];

/// Which service a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfService {
    /// The cluster.
    pub cluster: String,
    /// The service, by name or ARN.
    pub service: String,
}

impl OfService {
    fn take(members: &mut Members) -> Result<Self, ApiError> {
        Ok(Self { cluster: members.required_text("cluster")?, service: members.required_text("service")? })
    }
}

/// CreateTaskSet.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTaskSet {
    /// Where.
    pub of: OfService,
    /// A family, `family:revision` or ARN.
    pub task_definition: String,
    /// `externalId`, if given.
    pub external_id: Option<String>,
    /// How CPU units are meant, if given.
    pub launch_type: Option<LaunchType>,
    /// Percent of the service's desired count.
    pub scale_percent: f64,
    /// Makes a repeated request the same request.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Members kept as sent.
    pub rest: JsonMap,
}

impl CreateTaskSet {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        check_strategy(&members, "capacityProviderStrategy")?;
        check_network(&members)?;
        check_platform(&members)?;
        Ok(Self {
            of: OfService::take(&mut members)?,
            task_definition: task_definition::required(&mut members)?,
            external_id: members.text("externalId")?.filter(|id| !id.is_empty()),
            launch_type: launch_type(&mut members)?,
            // As in ECS, a task set starts with nothing unless told otherwise.
            scale_percent: scale(&mut members)?.unwrap_or(0.0),
            client_token: client_token(&mut members)?,
            tags: tag::take_tags(&mut members)?,
            rest: members.keep(&KEPT),
        })
    }
}

fn scale(members: &mut Members) -> Result<Option<f64>, ApiError> {
    let Some(mut scale) = members.object("scale")? else { return Ok(None) };
    let value = scale.value("value").and_then(|value| value.as_f64()).unwrap_or(0.0);
    if (0.0..=100.0).contains(&value) {
        Ok(Some(value))
    } else {
        Err(scale.invalid("value", format_args!("{value} is not between 0 and 100")))
    }
}

/// UpdateTaskSet, DeleteTaskSet and UpdateServicePrimaryTaskSet name one.
#[derive(Clone, Debug, PartialEq)]
pub struct OneTaskSet {
    /// Where.
    pub of: OfService,
    /// Its id or ARN.
    pub task_set: String,
}

/// UpdateTaskSet.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateTaskSet {
    /// Which one.
    pub one: OneTaskSet,
    /// Percent of the service's desired count.
    pub scale_percent: f64,
}

impl UpdateTaskSet {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, or the scale is not between 0 and 100.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let scale_percent = scale(&mut members)?.ok_or_else(|| members.missing("scale"))?;
        Ok(Self { one: OneTaskSet::take(&mut members, "taskSet")?, scale_percent })
    }
}

/// DeleteTaskSet.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteTaskSet {
    /// Which one.
    pub one: OneTaskSet,
    /// Whether to delete it although it is scaled above 0.
    pub force: bool,
}

impl DeleteTaskSet {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let force = members.flag("force")?.unwrap_or(false);
        Ok(Self { one: OneTaskSet::take(&mut members, "taskSet")?, force })
    }
}

impl OneTaskSet {
    /// Takes the members of UpdateServicePrimaryTaskSet.
    ///
    /// # Errors
    /// When a member is missing.
    pub fn decode_primary(mut members: Members) -> Result<Self, ApiError> {
        Self::take(&mut members, "primaryTaskSet")
    }

    fn take(members: &mut Members, name: &str) -> Result<Self, ApiError> {
        Ok(Self { of: OfService::take(members)?, task_set: members.required_text(name)? })
    }
}

/// DescribeTaskSets.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeTaskSets {
    /// Where.
    pub of: OfService,
    /// Ids or ARNs; all when there are none.
    pub task_sets: Vec<String>,
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeTaskSets {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, or there are too many task sets.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            of: OfService::take(&mut members)?,
            task_sets: names(&mut members, "taskSets", 100)?,
            include: include(&mut members)?,
        })
    }
}

/// A task set of a service.
#[must_use]
pub fn task_set(
    account: AccountId,
    service: &ServiceId,
    set: &TaskSet,
    counts: TaskCounts,
    with_tags: bool,
) -> Value {
    let arn = |resource| Arn::new(account, resource).to_string();
    let fargate = set.launch_type == LaunchType::Fargate;
    Object::new()
        .with("id", set.id.to_string())
        .with("taskSetArn", arn(Resource::TaskSet(service.clone(), set.id)))
        .with("serviceArn", arn(Resource::Service(service.clone())))
        .with("clusterArn", arn(Resource::Cluster(service.cluster.clone())))
        .maybe("startedBy", set.started_by.clone())
        .maybe("externalId", set.external_id.clone())
        .with("status", set.status.name())
        .with("taskDefinition", arn(Resource::TaskDefinition(set.task_definition.clone())))
        .with("computedDesiredCount", set.computed_desired_count)
        .with("pendingCount", counts.pending)
        .with("runningCount", counts.running)
        .time("createdAt", Some(set.created_at))
        .time("updatedAt", Some(set.updated_at))
        .maybe("launchType", launch_type_name(set.launch_type, set.launch_type_hidden))
        .maybe("platformVersion", platform(set.launch_type, Some(&set.rest)))
        .maybe("platformFamily", fargate.then_some("Linux"))
        .kept(&set.rest, &["capacityProviderStrategy", "networkConfiguration"])
        .kept_or(&set.rest, "loadBalancers", json!([]))
        .kept_or(&set.rest, "serviceRegistries", json!([]))
        .with("scale", json!({"value": set.scale_percent, "unit": "PERCENT"}))
        .with("stabilityStatus", if set.steady { "STEADY_STATE" } else { "STABILIZING" })
        .time("stabilityStatusAt", Some(set.steady_at))
        .with("tags", if with_tags { tag::tags(&set.tags) } else { json!([]) })
        .into()
}

/// The answer with one task set.
#[must_use]
pub fn one(task_set: Value) -> Value {
    Object::new().with("taskSet", task_set).into()
}

/// The answer to DescribeTaskSets.
#[must_use]
pub fn describe_task_sets(task_sets: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("taskSets", task_sets).with("failures", list(failures)).into()
}
