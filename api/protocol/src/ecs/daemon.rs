//! Daemons: requests, and daemons, their deployments and their revisions as ECS answers them.

use coracle_types::{
    AccountId, Arn, JsonMap, Resource, Service, ServiceDeployment, ServiceRevision, ServiceRevisionId,
    ServiceStatus, Tags, Timestamp,
};
use serde_json::{Value, json};

use super::service::TaskCounts;
use super::service_deployment::created_at;
use super::task::client_token;
use super::{Failure, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// The member of a daemon's deployment that keeps what the model has for daemons and not for services.
pub const DAEMON: &str = "daemon";

/// Members kept below [`DAEMON`].
const KEPT: [&str; 6] = [
    "capacityProviderArns",
    "deploymentConfiguration",
    "propagateTags",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "critical",
];

/// What CreateDaemon and UpdateDaemon say of a daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonInput {
    /// A daemon task definition, by ARN or name.
    pub task_definition: String,
    /// Names or ARNs of capacity providers.
    pub providers: Vec<String>,
    /// Whether its tasks get its tags.
    pub propagate_tags: Option<bool>,
    /// Members kept as sent.
    pub rest: JsonMap,
}

impl DaemonInput {
    fn take(members: &mut Members) -> Result<Self, ApiError> {
        let task_definition = members.required_text("daemonTaskDefinitionArn")?;
        let mut probe = members.clone();
        let providers = names(&mut probe, "capacityProviderArns", 20)?;
        if providers.is_empty() {
            return Err(members.missing("capacityProviderArns"));
        }
        if let Some(mut configuration) = probe.object("deploymentConfiguration")? {
            let drain = configuration.value("drainPercent").and_then(|value| value.as_f64()).unwrap_or(0.0);
            if !(0.0..=100.0).contains(&drain) {
                return Err(configuration.invalid("drainPercent", "it is not between 0 and 100"));
            }
            configuration.integer_in("bakeTimeInMinutes", 0..=1440)?;
        }
        Ok(Self {
            task_definition,
            providers,
            propagate_tags: probe.text("propagateTags")?.map(|text| text == "DAEMON"),
            rest: members.keep(&KEPT),
        })
    }
}

/// CreateDaemon.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateDaemon {
    /// Its name.
    pub name: String,
    /// The cluster, by ARN or name.
    pub cluster: Option<String>,
    /// What it runs and where.
    pub input: DaemonInput,
    /// Its tags.
    pub tags: Tags,
    /// Makes a repeated request the same request.
    pub client_token: Option<String>,
}

impl CreateDaemon {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            name: members.required_text("daemonName")?,
            cluster: members.text("clusterArn")?.filter(|arn| !arn.is_empty()),
            input: DaemonInput::take(&mut members)?,
            tags: tag::take_tags(&mut members)?,
            client_token: client_token(&mut members)?,
        })
    }
}

/// UpdateDaemon.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateDaemon {
    /// Its ARN.
    pub arn: String,
    /// What it runs and where from now on.
    pub input: DaemonInput,
}

impl UpdateDaemon {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { arn: members.required_text("daemonArn")?, input: DaemonInput::take(&mut members)? })
    }
}

/// ListDaemons.
#[derive(Clone, Debug, PartialEq)]
pub struct ListDaemons {
    /// The cluster, by ARN or name.
    pub cluster: Option<String>,
    /// Only those of these capacity providers.
    pub providers: Vec<String>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListDaemons {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            cluster: members.text("clusterArn")?.filter(|arn| !arn.is_empty()),
            providers: names(&mut members, "capacityProviderArns", 100)?,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// ListDaemonDeployments.
#[derive(Clone, Debug, PartialEq)]
pub struct ListDaemonDeployments {
    /// The daemon's ARN.
    pub arn: String,
    /// Only those with one of these states; all when there are none.
    pub statuses: Vec<String>,
    /// Only those that were asked for before this.
    pub before: Option<Timestamp>,
    /// Only those that were asked for after this.
    pub after: Option<Timestamp>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListDaemonDeployments {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the daemon is missing or a member is out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let (before, after) = created_at(&mut members)?;
        Ok(Self {
            arn: members.required_text("daemonArn")?,
            statuses: names(&mut members, "status", 20)?,
            before,
            after,
            page: PageRequest::take(&mut members, 20)?,
        })
    }
}

fn status(service: &Service) -> &'static str {
    if service.status == ServiceStatus::Active { "ACTIVE" } else { "DELETE_IN_PROGRESS" }
}

fn updated_at(service: &Service) -> Timestamp {
    let deployed = service.primary().map_or(service.created_at, |primary| primary.updated_at);
    service.deleted_at.unwrap_or(deployed)
}

fn arn(account: AccountId, resource: Resource) -> String {
    Arn::new(account, resource).to_string()
}

fn deployment_arn(account: AccountId, service: &Service) -> Option<String> {
    let id = service.primary()?.service_deployment.clone()?;
    Some(arn(account, Resource::ServiceDeployment(id)))
}

fn brief(account: AccountId, service: &Service) -> Object {
    Object::new()
        .with("daemonArn", arn(account, Resource::Service(service.id.clone())))
        .with("status", status(service))
        .time("createdAt", Some(service.created_at))
}

/// The answer to CreateDaemon.
#[must_use]
pub fn created(account: AccountId, service: &Service) -> Value {
    brief(account, service).maybe("deploymentArn", deployment_arn(account, service)).into()
}

/// The answer to UpdateDaemon and DeleteDaemon.
#[must_use]
pub fn changed(account: AccountId, service: &Service) -> Value {
    brief(account, service)
        .time("updatedAt", Some(updated_at(service)))
        .maybe("deploymentArn", deployment_arn(account, service))
        .into()
}

/// A daemon as a list shows it.
#[must_use]
pub fn summary(account: AccountId, service: &Service) -> Value {
    brief(account, service).time("updatedAt", Some(updated_at(service))).into()
}

/// The capacity providers a deployment's members name.
#[must_use]
pub fn providers(rest: &JsonMap) -> Vec<String> {
    let named = rest.get(DAEMON).and_then(|daemon| daemon.get("capacityProviderArns")?.as_array());
    named.into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The answer to DescribeDaemon. `counts` says how many tasks of a deployment run; `nodes`, how many there could be.
#[must_use]
pub fn describe_daemon(
    account: AccountId,
    service: &Service,
    nodes: usize,
    counts: impl Fn(&coracle_types::Deployment) -> TaskCounts,
) -> Value {
    let revisions = service.deployments.iter().filter_map(|deployment| {
        let id = deployment.revision.clone()?;
        let running = counts(deployment).running as usize;
        let without = nodes.saturating_sub(running);
        // Nodes of ours serve every provider alike, so each is shown with all of them.
        let per_provider = providers(&deployment.rest)
            .into_iter()
            .map(|provider| json!({"arn": provider, "runningCount": running, "withoutDaemonCount": without}));
        Some(
            Object::new()
                .with("arn", arn(account, Resource::ServiceRevision(id)))
                .with("capacityProviders", list(per_provider))
                .with("totalRunningCount", running)
                .with("totalWithoutDaemonCount", without),
        )
    });
    let daemon = Object::new()
        .with("daemonArn", arn(account, Resource::Service(service.id.clone())))
        .with("clusterArn", arn(account, Resource::Cluster(service.id.cluster.clone())))
        .with("status", status(service))
        .with("currentRevisions", list(revisions))
        .maybe("deploymentArn", deployment_arn(account, service))
        .time("createdAt", Some(service.created_at))
        .time("updatedAt", Some(updated_at(service)));
    Object::new().with("daemon", daemon).into()
}

/// The answer to ListDaemons.
#[must_use]
pub fn list_daemons(daemons: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("daemonSummariesList", daemons).maybe("nextToken", next).into()
}

/// The state of a deployment: that of a daemon has one fewer than that of a service.
#[must_use]
pub fn deployment_status(record: &ServiceDeployment) -> &'static str {
    match record.status.name() {
        "ROLLBACK_REQUESTED" => "ROLLBACK_IN_PROGRESS",
        status => status,
    }
}

fn deployment_object(account: AccountId, record: &ServiceDeployment) -> Object {
    let service = &record.id.service;
    Object::new()
        .with("daemonDeploymentArn", arn(account, Resource::ServiceDeployment(record.id.clone())))
        .with("clusterArn", arn(account, Resource::Cluster(service.cluster.clone())))
        .with("status", deployment_status(record))
        .maybe("statusReason", record.status_reason.clone())
        .time("createdAt", Some(record.created_at))
        .time("startedAt", record.started_at)
        .time("stoppedAt", record.stopped_at)
        .time("finishedAt", record.finished_at)
}

/// A deployment as a list shows it.
#[must_use]
pub fn deployment_summary(account: AccountId, record: &ServiceDeployment) -> Value {
    deployment_object(account, record)
        .with("daemonArn", arn(account, Resource::Service(record.id.service.clone())))
        .with("targetDaemonRevisionArn", arn(account, Resource::ServiceRevision(record.target.clone())))
        .into()
}

/// A deployment whole. `rest` are the members of the deployment; `running` says how many tasks of a revision run.
#[must_use]
pub fn deployment(
    account: AccountId,
    record: &ServiceDeployment,
    rest: &JsonMap,
    running: impl Fn(&ServiceRevisionId) -> u32,
) -> Value {
    let revision = |id: &ServiceRevisionId| {
        Object::new()
            .with("arn", arn(account, Resource::ServiceRevision(id.clone())))
            .with("totalRunningInstanceCount", running(id))
    };
    let rollback = record.rollback.as_ref().map(|rollback| {
        let to = rollback.revision.clone().map(|id| arn(account, Resource::ServiceRevision(id)));
        Object::new()
            .with("reason", rollback.reason.as_str())
            .time("startedAt", Some(rollback.started_at))
            .maybe("rollbackTargetDaemonRevisionArn", to)
    });
    let configuration = rest.get(DAEMON).and_then(|daemon| daemon.get("deploymentConfiguration"));
    deployment_object(account, record)
        .with("targetDaemonRevision", revision(&record.target))
        .with("sourceDaemonRevisions", list(record.sources.iter().map(revision)))
        .with(
            "circuitBreaker",
            json!({
                "status": record.circuit_breaker.name(), "failureCount": record.failure_count,
                "threshold": record.failure_threshold,
            }),
        )
        .maybe("rollback", rollback)
        .maybe("deploymentConfiguration", configuration.cloned())
        .into()
}

/// A revision.
#[must_use]
pub fn revision(account: AccountId, revision: &ServiceRevision) -> Value {
    let service = &revision.id.service;
    let images = revision.images.iter().map(|(name, image)| {
        Object::new().with("containerName", name.as_str()).with("image", image.as_str())
    });
    let none = JsonMap::new();
    let kept = revision.deployment_rest.get(DAEMON).and_then(Value::as_object).unwrap_or(&none);
    Object::new()
        .with("daemonRevisionArn", arn(account, Resource::ServiceRevision(revision.id.clone())))
        .with("clusterArn", arn(account, Resource::Cluster(service.cluster.clone())))
        .with("daemonArn", arn(account, Resource::Service(service.clone())))
        .with(
            "daemonTaskDefinitionArn",
            arn(account, Resource::TaskDefinition(revision.task_definition.clone())),
        )
        .time("createdAt", Some(revision.created_at))
        .with("containerImages", list(images))
        .kept_or(kept, "propagateTags", "NONE")
        .kept_or(kept, "enableECSManagedTags", false)
        .kept_or(kept, "enableExecuteCommand", false)
        .kept_or(kept, "critical", true)
        .into()
}

/// The answer with deployments or revisions, and a page of them.
#[must_use]
pub fn page_of(name: &str, items: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with(name, items).maybe("nextToken", next).into()
}

/// The answer with deployments or revisions, and those that were not found.
#[must_use]
pub fn found_of(name: &str, items: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with(name, items).with("failures", list(failures)).into()
}
