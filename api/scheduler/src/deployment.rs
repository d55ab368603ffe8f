//! Beginning a deployment: the one way a service gets another PRIMARY deployment, with the records that stay.

use coracle_types::{
    Changes, Deployment, DeploymentId, DeploymentStatus, DeploymentStrategy, JsonMap, LaunchType,
    LifecycleStage, MonitorStatus, Rollback, RolloutState, Service, ServiceDeployment, ServiceDeploymentId,
    ServiceDeploymentStatus, ServiceLoadBalancer, ServiceRevision, ServiceRevisionId, State,
    TaskDefinitionId, Timestamp,
};

use crate::alarms;
use crate::bounds::failure_threshold;
use crate::rng::PlanRng;

/// The members of a service that belong to its revisions.
const OF_REVISION: [&str; 6] = [
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "enableExecuteCommand",
];

/// What a new deployment is made of.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// What it brings.
    pub task_definition: TaskDefinitionId,
    /// How its tasks' CPU units are meant.
    pub launch_type: LaunchType,
    /// How many of its tasks should run.
    pub desired_count: u32,
    /// Members kept as sent.
    pub rest: JsonMap,
}

/// What else is known about a deployment that goes back to something.
#[derive(Clone, Debug)]
pub(crate) struct GoingBack {
    /// The service deployment that failed, whose record goes on being written.
    pub(crate) record: Option<ServiceDeploymentId>,
    /// The revision that comes back.
    pub(crate) revision: Option<ServiceRevisionId>,
    /// Whether it was registered in the alternate target groups.
    pub(crate) alternate: bool,
}

/// A PRIMARY deployment that begins at `now`, without records of it.
#[must_use]
pub fn new_deployment(new: NewDeployment, now: Timestamp, rng: &mut PlanRng) -> Deployment {
    let id = rng.deployment_id();
    Deployment {
        id,
        status: DeploymentStatus::Primary,
        task_definition: new.task_definition,
        launch_type: new.launch_type,
        desired_count: new.desired_count,
        failed_tasks: 0,
        rollout_state: RolloutState::InProgress,
        rollout_state_reason: in_progress_reason(id),
        created_at: now,
        updated_at: now,
        service_deployment: None,
        revision: None,
        alternate: false,
        rest: new.rest,
    }
}

/// Makes `service` begin a new deployment at `now`: the deployments it has are being replaced from now on, the
/// service deployment under way is superseded, and the records of the new one are written with `changes`.
pub fn deploy(
    state: &State,
    service: &mut Service,
    new: NewDeployment,
    now: Timestamp,
    rng: &mut PlanRng,
    changes: &mut Changes,
) {
    supersede(state, service, now, changes);
    let mut deployment = new_deployment(new, now, rng);
    deployment.alternate = takes_turns(service) && stable_side(service);
    let revision = ServiceRevision {
        id: ServiceRevisionId { service: service.id.clone(), number: rng.revision_number() },
        task_definition: deployment.task_definition.clone(),
        launch_type: deployment.launch_type,
        launch_type_hidden: service.launch_type_hidden,
        alternate: deployment.alternate,
        images: images(state, &deployment.task_definition),
        deployment_rest: deployment.rest.clone(),
        service_rest: OF_REVISION
            .iter()
            .filter_map(|&member| Some((member.to_owned(), service.rest.get(member)?.clone())))
            .collect(),
        created_at: now,
    };
    let record = record_of(state, service, &deployment, revision.id.clone(), now, rng);
    deployment.service_deployment = Some(record.id.clone());
    deployment.revision = Some(revision.id.clone());
    changes.put(revision);
    changes.put(record);
    service.deploy(deployment);
}

/// Makes `service` go back: a new deployment of something it had, whose progress goes on in the record of the
/// deployment that failed.
pub(crate) fn go_back(
    service: &mut Service,
    new: NewDeployment,
    back: GoingBack,
    now: Timestamp,
    rng: &mut PlanRng,
) -> DeploymentId {
    let mut deployment = new_deployment(new, now, rng);
    let id = deployment.id;
    deployment.service_deployment = back.record;
    deployment.revision = back.revision;
    deployment.alternate = back.alternate;
    service.deploy(deployment);
    id
}

/// The record of a deployment that goes back to `revision`.
pub(crate) fn rolling_back(
    record: &ServiceDeployment,
    revision: Option<ServiceRevisionId>,
    reason: String,
    now: Timestamp,
) -> ServiceDeployment {
    ServiceDeployment {
        status: ServiceDeploymentStatus::RollbackInProgress,
        status_reason: Some(reason.clone()),
        rollback: Some(Rollback { reason, started_at: now, revision }),
        stop: None,
        updated_at: now,
        ..record.clone()
    }
}

fn record_of(
    state: &State,
    service: &Service,
    deployment: &Deployment,
    target: ServiceRevisionId,
    now: Timestamp,
    rng: &mut PlanRng,
) -> ServiceDeployment {
    let configuration = service.deployment_configuration.clone();
    let breaker = configuration.circuit_breaker;
    let shifts = configuration.strategy() != DeploymentStrategy::Rolling;
    // An alarm that has gone off before says nothing of this deployment: ECS watches none of them then.
    let alarms = configuration.alarms();
    let quiet = alarms::gone_off(state, service, &alarms).is_empty();
    let watched = |enable: bool| if enable { MonitorStatus::Monitoring } else { MonitorStatus::Disabled };
    let mut sources: Vec<ServiceRevisionId> =
        service.deployments.iter().filter_map(|one| one.revision.clone()).collect();
    sources.dedup();
    ServiceDeployment {
        id: ServiceDeploymentId { service: service.id.clone(), key: rng.service_deployment_key() },
        deployment: deployment.id,
        status: ServiceDeploymentStatus::InProgress,
        status_reason: None,
        stage: if shifts { LifecycleStage::ReconcileService } else { LifecycleStage::ScaleUp },
        stage_since: now,
        sources,
        target,
        requested_tasks: deployment.desired_count,
        production_weight: 0.0,
        test_weight: 0.0,
        hooks: Vec::new(),
        circuit_breaker: watched(breaker.enable),
        failure_count: 0,
        failure_threshold: failure_threshold(deployment.desired_count, &breaker),
        alarms: watched(alarms.enable && !alarms.names.is_empty() && quiet),
        triggered_alarms: Vec::new(),
        configuration,
        rollback: None,
        stop: None,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        stopped_at: None,
        updated_at: now,
    }
}

/// Ends the service deployment under way, because a newer one takes over.
fn supersede(state: &State, service: &Service, now: Timestamp, changes: &mut Changes) {
    let under_way = service.primary().and_then(|primary| primary.service_deployment.as_ref());
    let Some(record) = under_way.and_then(|id| state.service_deployments.get(id)) else { return };
    if record.value.status.is_over() {
        return;
    }
    let mut record = ServiceDeployment::clone(&record.value);
    record.status = match record.status {
        ServiceDeploymentStatus::RollbackRequested | ServiceDeploymentStatus::RollbackInProgress => {
            ServiceDeploymentStatus::RollbackFailed
        }
        _ => ServiceDeploymentStatus::Stopped,
    };
    record.status_reason = Some("A newer service deployment took over.".to_owned());
    record.stopped_at = Some(now);
    record.updated_at = now;
    changes.put(record);
}

/// Whether deployments of the service shift traffic between two target groups.
fn takes_turns(service: &Service) -> bool {
    service.deployment_configuration.strategy() != DeploymentStrategy::Rolling
        && ServiceLoadBalancer::all(&service.rest).iter().any(|balancer| balancer.advanced.is_some())
        && service.primary().is_some()
}

/// Which side the new tasks of a service that shifts traffic belong on: the one production traffic is not on.
/// That is the other side of the last deployment that completed, else of the oldest one there is.
fn stable_side(service: &Service) -> bool {
    let completed = service.deployments.iter().find(|one| one.rollout_state == RolloutState::Completed);
    completed.or_else(|| service.deployments.last()).is_some_and(|stable| !stable.alternate)
}

fn images(state: &State, definition: &TaskDefinitionId) -> Vec<(String, String)> {
    let found = state.task_definitions.get(definition);
    let containers = found.into_iter().flat_map(|found| &found.value.containers);
    containers.map(|container| (container.name.to_string(), container.image.clone())).collect()
}

/// `rolloutStateReason` of a deployment that is under way.
#[must_use]
pub fn in_progress_reason(id: DeploymentId) -> String {
    format!("ECS deployment {id} in progress.")
}

/// `rolloutStateReason` of a deployment that is done.
#[must_use]
pub fn completed_reason(id: DeploymentId) -> String {
    format!("ECS deployment {id} completed.")
}

/// Why a deployment is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its tasks keep failing, and the circuit breaker is on.
    Breaker,
    /// One of its alarms has gone off.
    Alarm,
    /// A lifecycle hook said no, or nothing in time.
    Hook,
    /// StopServiceDeployment asked for what was before.
    Request,
}

impl Why {
    /// `rolloutStateReason`, and the reason in the record, when nothing takes its place.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Breaker => "ECS deployment circuit breaker: tasks failed to start.",
            Self::Alarm => "ECS deployment failed: alarm detected.",
            Self::Hook => "Service deployment rolled back because of a lifecycle hook.",
            Self::Request => "Service deployment rolled back by StopServiceDeployment.",
        }
    }

    /// `rolloutStateReason` when the service goes back to another deployment.
    pub(crate) fn rolling_back(self, to: DeploymentId) -> String {
        let cause = match self {
            Self::Breaker => "circuit breaker",
            Self::Alarm => "alarm detected",
            Self::Hook => "lifecycle hook",
            Self::Request => "stopped",
        };
        format!("ECS deployment {cause}: rolling back to deploymentId {to}.")
    }
}
