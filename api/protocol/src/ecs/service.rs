//! Services: requests, and a service as ECS answers it.

use std::collections::HashMap;

use coracle_types::daemon::DAEMON_PREFIX;
use coracle_types::{
    AccountId, Arn, CircuitBreaker, Deployment, DeploymentConfiguration, DeploymentId, FailureThreshold,
    JsonMap, LaunchType, PropagateTags, Resource, RolloutState, SchedulingStrategy, Service, ServiceName,
    Tags,
};
use serde_json::{Value, json};

use super::placement::{check_network, check_placement, check_platform};
use super::task::{check_strategy, check_volumes, client_token, launch_type, platform_version};
use super::task_set::task_set;
use super::{Failure, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// Members kept on the deployment: with another value, tasks have to be started anew.
pub const KEPT_ON_DEPLOYMENT: [&str; 6] = [
    "networkConfiguration",
    "platformVersion",
    "capacityProviderStrategy",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

/// Members kept on the service.
const KEPT: [&str; 12] = [
    "loadBalancers",
    "serviceRegistries",
    "role",
    "placementConstraints",
    "placementStrategy",
    "healthCheckGracePeriodSeconds",
    "deploymentController",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "availabilityZoneRebalancing",
    "gatewayConnectors",
    "monitoring",
];

/// More tasks of one service than a node could hold.
const DESIRED_COUNT_MAX: u32 = 1_000_000;

/// `deploymentConfiguration` of a request: only what was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentConfigurationInput {
    /// `minimumHealthyPercent`.
    pub minimum_healthy_percent: Option<u32>,
    /// `maximumPercent`.
    pub maximum_percent: Option<u32>,
    /// `deploymentCircuitBreaker`.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Members kept as sent.
    pub rest: JsonMap,
}

impl DeploymentConfigurationInput {
    fn decode(mut members: Members) -> Result<Self, ApiError> {
        let circuit_breaker = match members.object("deploymentCircuitBreaker")? {
            None => None,
            Some(mut breaker) => Some(CircuitBreaker {
                enable: breaker.flag("enable")?.ok_or_else(|| breaker.missing("enable"))?,
                rollback: breaker.flag("rollback")?.ok_or_else(|| breaker.missing("rollback"))?,
                reset_on_healthy_task: breaker.flag("resetOnHealthyTask")?.unwrap_or(true),
                threshold: match breaker.object("thresholdConfiguration")? {
                    None => FailureThreshold::default(),
                    Some(threshold) => failure_threshold(threshold)?,
                },
            }),
        };
        Ok(Self {
            minimum_healthy_percent: members.integer_in("minimumHealthyPercent", 0..=100)?,
            maximum_percent: members.integer_in("maximumPercent", 0..=100_000)?,
            circuit_breaker,
            rest: members.rest(),
        })
    }

    /// `before` with what was given.
    #[must_use]
    pub fn over(&self, before: &DeploymentConfiguration) -> DeploymentConfiguration {
        let mut rest = before.rest.clone();
        rest.extend(self.rest.clone());
        DeploymentConfiguration {
            minimum_healthy_percent: self.minimum_healthy_percent.unwrap_or(before.minimum_healthy_percent),
            maximum_percent: self.maximum_percent.unwrap_or(before.maximum_percent),
            circuit_breaker: self.circuit_breaker.unwrap_or(before.circuit_breaker),
            rest,
        }
    }
}

fn failure_threshold(mut members: Members) -> Result<FailureThreshold, ApiError> {
    let kind = members.text("type")?.ok_or_else(|| members.missing("type"))?;
    let value = members.integer_in("value", 1..=100_000)?.ok_or_else(|| members.missing("value"))?;
    match kind.as_str() {
        "BOUNDED_PERCENT" if value <= 100 => Ok(FailureThreshold::BoundedPercent(value)),
        "UNBOUNDED_PERCENT" if value <= 100 => Ok(FailureThreshold::UnboundedPercent(value)),
        "COUNT" => Ok(FailureThreshold::Count(value)),
        "BOUNDED_PERCENT" | "UNBOUNDED_PERCENT" => {
            Err(members.refuse("The value of a percentage threshold must be between 1 and 100."))
        }
        _ => Err(members.refuse("The threshold type must be BOUNDED_PERCENT, UNBOUNDED_PERCENT or COUNT.")),
    }
}

/// CreateService.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateService {
    /// The cluster.
    pub cluster: Option<String>,
    /// Its name.
    pub name: ServiceName,
    /// A family, `family:revision` or ARN.
    pub task_definition: Option<String>,
    /// How many tasks, if given.
    pub desired_count: Option<u32>,
    /// How CPU units are meant, if given.
    pub launch_type: Option<LaunchType>,
    /// How many tasks are meant.
    pub scheduling_strategy: SchedulingStrategy,
    /// How it rolls.
    pub deployment_configuration: DeploymentConfigurationInput,
    /// Where its tasks get tags from.
    pub propagate_tags: PropagateTags,
    /// Its tags.
    pub tags: Tags,
    /// Makes a repeated request the same request.
    pub client_token: Option<String>,
    /// Members kept on the service.
    pub rest: JsonMap,
    /// Members kept on its deployment.
    pub deployment_rest: JsonMap,
}

impl CreateService {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        controller(&members)?;
        check_strategy(&members, "capacityProviderStrategy")?;
        check_placement(&members)?;
        check_network(&members)?;
        check_platform(&members)?;
        check_volumes(&members)?;
        check_grace_period(&members)?;
        Ok(Self {
            cluster: members.text("cluster")?,
            name: service_name(&mut members)?,
            task_definition: members.text("taskDefinition")?.filter(|text| !text.is_empty()),
            desired_count: members.integer_in("desiredCount", 0..=DESIRED_COUNT_MAX)?,
            launch_type: launch_type(&mut members)?,
            scheduling_strategy: members.named("schedulingStrategy")?.unwrap_or(SchedulingStrategy::Replica),
            deployment_configuration: deployment_configuration(&mut members)?,
            propagate_tags: members.named("propagateTags")?.unwrap_or(PropagateTags::None),
            tags: tag::take_tags(&mut members)?,
            client_token: client_token(&mut members)?,
            rest: members.keep(&KEPT),
            deployment_rest: members.keep(&KEPT_ON_DEPLOYMENT),
        })
    }
}

/// Takes the name of a new service, which must not be one of those that daemons have.
fn service_name(members: &mut Members) -> Result<ServiceName, ApiError> {
    let name: ServiceName =
        members.required_text("serviceName")?.parse().map_err(|error| members.refuse(error))?;
    if name.daemon().is_some() {
        return Err(
            members.refuse(format_args!("Names that begin with {DAEMON_PREFIX} are those of daemons."))
        );
    }
    Ok(name)
}

fn deployment_configuration(members: &mut Members) -> Result<DeploymentConfigurationInput, ApiError> {
    match members.object("deploymentConfiguration")? {
        Some(configuration) => DeploymentConfigurationInput::decode(configuration),
        None => Ok(DeploymentConfigurationInput::default()),
    }
}

/// Looks at `healthCheckGracePeriodSeconds`, which stays where it is.
fn check_grace_period(members: &Members) -> Result<(), ApiError> {
    // As long as ECS's own limit: the largest integer of 32 bits.
    members.clone().integer_in("healthCheckGracePeriodSeconds", 0..=0x7fff_ffff).map(|_| ())
}

/// Refuses CODE_DEPLOY: there is no such service here, and a deployment would wait for it for ever.
fn controller(members: &Members) -> Result<(), ApiError> {
    let kind = members.peek("deploymentController").and_then(|controller| controller.get("type"));
    match kind.and_then(Value::as_str) {
        None | Some("ECS" | "EXTERNAL") => Ok(()),
        Some(kind) => Err(ApiError::UnsupportedFeature(format!(
            "the deployment controller {:?} is not available here; use ECS or EXTERNAL",
            kind.chars().take(40).collect::<String>()
        ))),
    }
}

/// UpdateService.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateService {
    /// The cluster.
    pub cluster: Option<String>,
    /// Its name or ARN.
    pub service: String,
    /// Another task definition.
    pub task_definition: Option<String>,
    /// Another number of tasks.
    pub desired_count: Option<u32>,
    /// Whether tasks are to be started anew in any case.
    pub force_new_deployment: bool,
    /// How it rolls from now on.
    pub deployment_configuration: DeploymentConfigurationInput,
    /// Where its tasks get tags from.
    pub propagate_tags: Option<PropagateTags>,
    /// Members kept on the service.
    pub rest: JsonMap,
    /// Members kept on the deployment.
    pub deployment_rest: JsonMap,
}

impl UpdateService {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        controller(&members)?;
        check_strategy(&members, "capacityProviderStrategy")?;
        check_placement(&members)?;
        check_network(&members)?;
        check_platform(&members)?;
        check_volumes(&members)?;
        check_grace_period(&members)?;
        Ok(Self {
            cluster: members.text("cluster")?,
            service: members.required_text("service")?,
            task_definition: members.text("taskDefinition")?.filter(|text| !text.is_empty()),
            desired_count: members.integer_in("desiredCount", 0..=DESIRED_COUNT_MAX)?,
            force_new_deployment: members.flag("forceNewDeployment")?.unwrap_or(false),
            deployment_configuration: deployment_configuration(&mut members)?,
            propagate_tags: members.named("propagateTags")?,
            rest: members.keep(&KEPT),
            deployment_rest: members.keep(&KEPT_ON_DEPLOYMENT),
        })
    }
}

/// DeleteService.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteService {
    /// The cluster.
    pub cluster: Option<String>,
    /// Its name or ARN.
    pub service: String,
    /// Whether to delete it although it is scaled above 0.
    pub force: bool,
}

impl DeleteService {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the service is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            cluster: members.text("cluster")?,
            service: members.required_text("service")?,
            force: members.flag("force")?.unwrap_or(false),
        })
    }
}

/// DescribeServices.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeServices {
    /// The cluster.
    pub cluster: Option<String>,
    /// Names or ARNs, 1 to 10.
    pub services: Vec<String>,
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeServices {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are no services or too many.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let services = names(&mut members, "services", 10)?;
        if services.is_empty() {
            return Err(members.refuse("Services cannot be empty."));
        }
        Ok(Self { cluster: members.text("cluster")?, services, include: include(&mut members)? })
    }
}

/// ListServices.
#[derive(Clone, Debug, PartialEq)]
pub struct ListServices {
    /// The cluster.
    pub cluster: Option<String>,
    /// Only those with this launch type.
    pub launch_type: Option<LaunchType>,
    /// Only those with this scheduling strategy.
    pub scheduling_strategy: Option<SchedulingStrategy>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListServices {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, not a known name, or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            cluster: members.text("cluster")?,
            launch_type: launch_type(&mut members)?,
            scheduling_strategy: members.named("schedulingStrategy")?,
            page: PageRequest::take(&mut members, 10)?,
        })
    }
}

/// Tasks of a service that run, and that are to run and do not yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// `runningCount`.
    pub running: u32,
    /// `pendingCount`.
    pub pending: u32,
}

/// A service as ECS answers it. `counts` has its tasks by deployment.
#[must_use]
pub fn service(
    account: AccountId,
    service: &Service,
    counts: &HashMap<DeploymentId, TaskCounts>,
    with_tags: bool,
) -> Value {
    let total = counts.values().fold(TaskCounts::default(), |sum, one| TaskCounts {
        running: sum.running.saturating_add(one.running),
        pending: sum.pending.saturating_add(one.pending),
    });
    let arn = |resource| Arn::new(account, resource).to_string();
    let events = service.events.iter().map(|event| {
        Object::new()
            .with("id", event.id.to_string())
            .time("createdAt", Some(event.created_at))
            .with("message", event.message.as_str())
    });
    let deployments = service.deployments.iter().map(|one| {
        deployment(account, one, counts.get(&one.id).copied().unwrap_or_default(), service.launch_type_hidden)
    });
    let task_sets = service.task_sets.iter().map(|set| {
        let counts = counts.get(&set.id).copied().unwrap_or_default();
        task_set(account, &service.id, set, counts, with_tags)
    });
    let definition = service.has_definition().then(|| service.task_definition.clone());
    let definition = definition.map(|id| arn(Resource::TaskDefinition(id)));
    let primary = service.primary().map(|primary| &primary.rest);
    let role = service.rest.get("role").and_then(Value::as_str).map(|role| {
        if role.starts_with("arn:") { role.to_owned() } else { format!("arn:aws:iam::{account}:role/{role}") }
    });
    Object::new()
        .with("serviceArn", arn(Resource::Service(service.id.clone())))
        .with("serviceName", service.id.name.as_str())
        .with("clusterArn", arn(Resource::Cluster(service.id.cluster.clone())))
        .kept_or(&service.rest, "loadBalancers", json!([]))
        .kept_or(&service.rest, "serviceRegistries", json!([]))
        .with("status", service.status.name())
        .with("desiredCount", service.desired_count)
        .with("runningCount", total.running)
        .with("pendingCount", total.pending)
        .maybe("launchType", launch_type_name(service.launch_type, service.launch_type_hidden))
        .maybe(
            "capacityProviderStrategy",
            primary.and_then(|rest| rest.get("capacityProviderStrategy")).cloned(),
        )
        .maybe("platformVersion", platform(service.launch_type, primary))
        .maybe("platformFamily", (service.launch_type == LaunchType::Fargate).then_some("Linux"))
        .maybe("taskDefinition", definition)
        .with("deploymentConfiguration", configuration(&service.deployment_configuration))
        .with("taskSets", list(task_sets))
        .with("deployments", list(deployments))
        .maybe("roleArn", role)
        .with("events", list(events))
        .time("createdAt", Some(service.created_at))
        .maybe("currentServiceDeployment", current_deployment(account, service))
        .maybe("currentServiceRevisions", current_revisions(account, service, counts))
        .kept_or(&service.rest, "placementConstraints", json!([]))
        .kept_or(&service.rest, "placementStrategy", json!([]))
        .maybe("networkConfiguration", primary.and_then(|rest| rest.get("networkConfiguration")).cloned())
        .maybe("healthCheckGracePeriodSeconds", grace_period(service))
        .with("schedulingStrategy", service.scheduling_strategy.name())
        .kept_or(&service.rest, "deploymentController", json!({"type": "ECS"}))
        .maybe("tags", with_tags.then(|| tag::tags(&service.tags)))
        .with("createdBy", format!("arn:aws:iam::{account}:root"))
        .kept_or(&service.rest, "enableECSManagedTags", false)
        .with("propagateTags", service.propagate_tags.name())
        .kept_or(&service.rest, "enableExecuteCommand", false)
        .kept_or(&service.rest, "availabilityZoneRebalancing", "DISABLED")
        .into()
}

/// The record of the newest deployment, while that is under way.
fn current_deployment(account: AccountId, service: &Service) -> Option<String> {
    let primary = service.primary().filter(|one| one.rollout_state == RolloutState::InProgress)?;
    let id = primary.service_deployment.clone()?;
    Some(Arn::new(account, Resource::ServiceDeployment(id)).to_string())
}

/// The revisions tasks of a service are of.
fn current_revisions(
    account: AccountId,
    service: &Service,
    counts: &HashMap<DeploymentId, TaskCounts>,
) -> Option<Value> {
    let revisions: Vec<Value> = service
        .deployments
        .iter()
        .filter_map(|deployment| {
            let id = deployment.revision.clone()?;
            let tasks = counts.get(&deployment.id).copied().unwrap_or_default();
            let revision = Object::new()
                .with("arn", Arn::new(account, Resource::ServiceRevision(id)).to_string())
                .with("requestedTaskCount", deployment.desired_count)
                .with("runningTaskCount", tasks.running)
                .with("pendingTaskCount", tasks.pending);
            Some(revision.into())
        })
        .collect();
    (!revisions.is_empty()).then_some(Value::Array(revisions))
}

/// Shown once given, and as 0 for a service behind a load balancer.
fn grace_period(service: &Service) -> Option<Value> {
    let balanced =
        service.rest.get("loadBalancers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let given = service.rest.get("healthCheckGracePeriodSeconds").cloned();
    given.or_else(|| balanced.then(|| json!(0)))
}

/// `platformVersion` of a service or a revision.
pub(super) fn platform(launch_type: LaunchType, rest: Option<&JsonMap>) -> Option<String> {
    let asked = rest.and_then(|rest| rest.get("platformVersion")).and_then(Value::as_str);
    (launch_type == LaunchType::Fargate).then(|| match asked {
        // A service says LATEST where its tasks say which one that was.
        None | Some("" | "LATEST") => "LATEST".to_owned(),
        asked => platform_version(asked).to_owned(),
    })
}

/// The members that were added to it later are shown when they say something.
fn circuit_breaker(breaker: CircuitBreaker) -> Value {
    let mut shown = json!({"enable": breaker.enable, "rollback": breaker.rollback});
    if !breaker.reset_on_healthy_task {
        shown["resetOnHealthyTask"] = false.into();
    }
    if breaker.threshold != FailureThreshold::default() {
        let (kind, value) = match breaker.threshold {
            FailureThreshold::BoundedPercent(value) => ("BOUNDED_PERCENT", value),
            FailureThreshold::UnboundedPercent(value) => ("UNBOUNDED_PERCENT", value),
            FailureThreshold::Count(value) => ("COUNT", value),
        };
        shown["thresholdConfiguration"] = json!({"type": kind, "value": value});
    }
    shown
}

/// `launchType`, which is not shown when it came from a capacity provider strategy.
pub(super) fn launch_type_name(launch_type: LaunchType, hidden: bool) -> Option<&'static str> {
    (!hidden).then(|| launch_type.name())
}

/// How a service rolls.
pub(super) fn configuration(configuration: &DeploymentConfiguration) -> Value {
    Object::new()
        .with("deploymentCircuitBreaker", circuit_breaker(configuration.circuit_breaker))
        .with("maximumPercent", configuration.maximum_percent)
        .with("minimumHealthyPercent", configuration.minimum_healthy_percent)
        .kept_or(&configuration.rest, "strategy", "ROLLING")
        .kept_or(&configuration.rest, "bakeTimeInMinutes", 0)
        .rest(&configuration.rest)
        .into()
}

fn deployment(
    account: AccountId,
    deployment: &Deployment,
    counts: TaskCounts,
    launch_type_hidden: bool,
) -> Value {
    let fargate = deployment.launch_type == LaunchType::Fargate;
    let version = deployment.rest.get("platformVersion").and_then(Value::as_str);
    Object::new()
        .with("id", deployment.id.to_string())
        .with("status", deployment.status.name())
        .with(
            "taskDefinition",
            Arn::new(account, Resource::TaskDefinition(deployment.task_definition.clone())).to_string(),
        )
        .with("desiredCount", deployment.desired_count)
        .with("pendingCount", counts.pending)
        .with("runningCount", counts.running)
        .with("failedTasks", deployment.failed_tasks)
        .time("createdAt", Some(deployment.created_at))
        .time("updatedAt", Some(deployment.updated_at))
        .maybe("launchType", launch_type_name(deployment.launch_type, launch_type_hidden))
        .maybe("platformVersion", fargate.then(|| platform_version(version).to_owned()))
        .maybe("platformFamily", fargate.then_some("Linux"))
        .with("rolloutState", deployment.rollout_state.name())
        .with("rolloutStateReason", deployment.rollout_state_reason.as_str())
        .rest(&deployment.rest)
        .into()
}

/// The answer with one service.
#[must_use]
pub fn one(service: Value) -> Value {
    Object::new().with("service", service).into()
}

/// The answer to DescribeServices.
#[must_use]
pub fn describe_services(services: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("services", services).with("failures", list(failures)).into()
}

/// The answer to ListServices.
#[must_use]
pub fn list_services(arns: Vec<String>, next: Option<String>) -> Value {
    Object::new().with("serviceArns", arns).maybe("nextToken", next).into()
}
