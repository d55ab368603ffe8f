//! Service deployments and revisions: requests, and the records as ECS answers them.

use coracle_types::{
    AccountId, Arn, LaunchType, Resource, ServiceDeployment, ServiceDeploymentStatus, ServiceRevision,
    ServiceRevisionId, StopType, Timestamp,
};
use serde_json::{Value, json};

use super::service::{TaskCounts, configuration, platform};
use super::{Failure, names};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// At most this many deployments or revisions are described at once.
const DESCRIBED_MAX: usize = 20;

/// ListServiceDeployments.
#[derive(Clone, Debug, PartialEq)]
pub struct ListServiceDeployments {
    /// The cluster.
    pub cluster: Option<String>,
    /// The service, by name or ARN.
    pub service: String,
    /// Only those with one of these states; all when there are none.
    pub statuses: Vec<String>,
    /// Only those that were asked for before this.
    pub before: Option<Timestamp>,
    /// Only those that were asked for after this.
    pub after: Option<Timestamp>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListServiceDeployments {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the service is missing or a member is out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let (before, after) = created_at(&mut members)?;
        Ok(Self {
            cluster: members.text("cluster")?,
            service: members.required_text("service")?,
            statuses: names(&mut members, "status", 20)?,
            before,
            after,
            page: PageRequest::take(&mut members, 20)?,
        })
    }

    /// Whether a deployment is one of those that are asked for.
    #[must_use]
    pub fn wants(&self, status: &str, created_at: Timestamp) -> bool {
        (self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted == status))
            && self.before.is_none_or(|before| created_at < before)
            && self.after.is_none_or(|after| created_at > after)
    }
}

/// Takes `createdAt`: before and after.
pub(super) fn created_at(members: &mut Members) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
    match members.object("createdAt")? {
        None => Ok((None, None)),
        Some(mut range) => Ok((range.time("before")?, range.time("after")?)),
    }
}

/// Takes the ARNs of things to describe.
///
/// # Errors
/// When there are none or more than 20.
pub fn arns(mut members: Members, name: &str) -> Result<Vec<String>, ApiError> {
    let arns = names(&mut members, name, DESCRIBED_MAX)?;
    if arns.is_empty() { Err(members.missing(name)) } else { Ok(arns) }
}

/// StopServiceDeployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopServiceDeployment {
    /// Its ARN.
    pub arn: String,
    /// How.
    pub stop: StopType,
}

impl StopServiceDeployment {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the deployment is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let stop = match members.text("stopType")?.as_deref() {
            Some("ABORT") => StopType::Abort,
            _ => StopType::Rollback,
        };
        Ok(Self { arn: members.required_text("serviceDeploymentArn")?, stop })
    }
}

/// ContinueServiceDeployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueServiceDeployment {
    /// Its ARN.
    pub arn: String,
    /// The hook it waits for.
    pub hook: String,
    /// Whether it goes on, or back.
    pub go_on: bool,
}

impl ContinueServiceDeployment {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the deployment or the hook is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let go_on = members.text("action")?.as_deref() != Some("ROLLBACK");
        Ok(Self {
            arn: members.required_text("serviceDeploymentArn")?,
            hook: members.required_text("hookId")?,
            go_on,
        })
    }
}

fn service_arns(account: AccountId, record: &ServiceDeployment) -> Object {
    let arn = |resource| Arn::new(account, resource).to_string();
    Object::new()
        .with("serviceDeploymentArn", arn(Resource::ServiceDeployment(record.id.clone())))
        .with("serviceArn", arn(Resource::Service(record.id.service.clone())))
        .with("clusterArn", arn(Resource::Cluster(record.id.service.cluster.clone())))
        .time("createdAt", Some(record.created_at))
        .time("startedAt", record.started_at)
        .time("finishedAt", record.finished_at)
        .with("status", record.status.name())
        .maybe("statusReason", record.status_reason.clone())
}

fn revision_arn(account: AccountId, id: &ServiceRevisionId) -> String {
    Arn::new(account, Resource::ServiceRevision(id.clone())).to_string()
}

/// A deployment as a list shows it.
#[must_use]
pub fn brief(account: AccountId, record: &ServiceDeployment) -> Value {
    service_arns(account, record)
        .with("targetServiceRevisionArn", revision_arn(account, &record.target))
        .into()
}

/// A deployment whole. `counts` says how many tasks of a revision run and wait, and how many there should be.
#[must_use]
pub fn service_deployment(
    account: AccountId,
    record: &ServiceDeployment,
    counts: impl Fn(&ServiceRevisionId) -> (TaskCounts, u32),
) -> Value {
    let revision = |id: &ServiceRevisionId, production: f64, test: f64| {
        let (tasks, requested) = counts(id);
        Object::new()
            .with("arn", revision_arn(account, id))
            .with("requestedTaskCount", requested)
            .with("runningTaskCount", tasks.running)
            .with("pendingTaskCount", tasks.pending)
            .with("requestedProductionTrafficWeight", production)
            .with("requestedTestTrafficWeight", test)
    };
    let (production, test) = (record.production_weight, record.test_weight);
    let sources = record.sources.iter().map(|id| revision(id, 100.0 - production, 100.0 - test));
    let hooks = record.hooks.iter().map(|hook| {
        Object::new()
            .with("hookId", hook.id.as_str())
            .with("targetType", if hook.target.is_some() { "AWS_LAMBDA" } else { "PAUSE" })
            .maybe("targetArn", hook.target.clone())
            .with("status", hook.status.name())
            .time("expiresAt", Some(hook.expires_at))
            .with("timeoutAction", if hook.continue_on_timeout { "CONTINUE" } else { "ROLLBACK" })
    });
    let rollback = record.rollback.as_ref().map(|rollback| {
        Object::new()
            .with("reason", rollback.reason.as_str())
            .time("startedAt", Some(rollback.started_at))
            .maybe("serviceRevisionArn", rollback.revision.as_ref().map(|id| revision_arn(account, id)))
    });
    let (alarms, triggered) = (record.configuration.alarms(), &record.triggered_alarms);
    service_arns(account, record)
        .time("stoppedAt", record.stopped_at)
        .time("updatedAt", Some(record.updated_at))
        .with("sourceServiceRevisions", list(sources))
        .with("targetServiceRevision", revision(&record.target, production, test))
        .with("lifecycleStage", record.stage.name())
        .maybe("lifecycleHookDetails", (!record.hooks.is_empty()).then(|| list(hooks)))
        .with("deploymentConfiguration", configuration(&record.configuration))
        .maybe("rollback", rollback)
        .with(
            "deploymentCircuitBreaker",
            json!({
                "status": record.circuit_breaker.name(), "failureCount": record.failure_count,
                "threshold": record.failure_threshold,
            }),
        )
        .with(
            "alarms",
            Object::new()
                .with("status", record.alarms.name())
                .with("alarmNames", alarms.names)
                .maybe("triggeredAlarmNames", (!triggered.is_empty()).then(|| triggered.clone())),
        )
        .into()
}

/// A revision. `digests` are those its containers were seen to run with, by name.
#[must_use]
pub fn service_revision(
    account: AccountId,
    revision: &ServiceRevision,
    digest: impl Fn(&str) -> Option<String>,
) -> Value {
    let service = &revision.id.service;
    let arn = |resource| Arn::new(account, resource).to_string();
    let fargate = revision.launch_type == LaunchType::Fargate;
    let images = revision.images.iter().map(|(name, image)| {
        Object::new()
            .with("containerName", name.as_str())
            .with("image", image.as_str())
            .maybe("imageDigest", digest(name))
    });
    Object::new()
        .with("serviceRevisionArn", revision_arn(account, &revision.id))
        .with("serviceArn", arn(Resource::Service(service.clone())))
        .with("clusterArn", arn(Resource::Cluster(service.cluster.clone())))
        .with("taskDefinition", arn(Resource::TaskDefinition(revision.task_definition.clone())))
        .maybe(
            "launchType",
            super::service::launch_type_name(revision.launch_type, revision.launch_type_hidden),
        )
        .maybe("platformVersion", platform(revision.launch_type, Some(&revision.deployment_rest)))
        .maybe("platformFamily", fargate.then_some("Linux"))
        .kept(
            &revision.deployment_rest,
            &[
                "capacityProviderStrategy",
                "networkConfiguration",
                "serviceConnectConfiguration",
                "volumeConfigurations",
                "vpcLatticeConfigurations",
            ],
        )
        .kept_or(&revision.service_rest, "loadBalancers", json!([]))
        .kept_or(&revision.service_rest, "serviceRegistries", json!([]))
        .with("containerImages", list(images))
        .with("guardDutyEnabled", false)
        .time("createdAt", Some(revision.created_at))
        .into()
}

/// The answer to ListServiceDeployments.
#[must_use]
pub fn list_service_deployments(deployments: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("serviceDeployments", deployments).maybe("nextToken", next).into()
}

/// The answer to DescribeServiceDeployments.
#[must_use]
pub fn describe_service_deployments(deployments: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("serviceDeployments", deployments).with("failures", list(failures)).into()
}

/// The answer to DescribeServiceRevisions.
#[must_use]
pub fn describe_service_revisions(revisions: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("serviceRevisions", revisions).with("failures", list(failures)).into()
}

/// The answer to StopServiceDeployment and ContinueServiceDeployment.
#[must_use]
pub fn arn_of(account: AccountId, record: &ServiceDeployment) -> Value {
    let arn = Arn::new(account, Resource::ServiceDeployment(record.id.clone()));
    Object::new().with("serviceDeploymentArn", arn.to_string()).into()
}

/// The state a stop that is asked for puts a deployment in.
#[must_use]
pub fn requested(stop: StopType) -> ServiceDeploymentStatus {
    match stop {
        StopType::Abort => ServiceDeploymentStatus::StopRequested,
        StopType::Rollback => ServiceDeploymentStatus::RollbackRequested,
    }
}
