//! Task sets: the parts of a service whose deployments somebody outside directs.

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::task_set::{
    self as wire, CreateTaskSet, DeleteTaskSet, DescribeTaskSets, OfService, OneTaskSet, UpdateTaskSet,
};
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, Changes, DeploymentController, DeploymentId, Key, Resource, Service, ServiceId, ServiceStatus,
    State, TaskSet, TaskSetStatus,
};
use serde_json::Value;

use super::deploy::{STRATEGY, launch};
use super::requirements::{self, Asked};
use super::services::counts_of;
use super::token::{Fingerprint, Token};
use super::{clusters, reference};
use crate::api::{Api, Caller};

/// At most this many task sets of one service (ECS service quotas).
const TASK_SETS_MAX: usize = 5;

/// The service a request is about: ACTIVE, and with task sets.
fn service(state: &State, caller: &Caller, of: &OfService) -> Result<Service, ApiError> {
    let cluster = reference::cluster(state, caller, Some(&of.cluster))?;
    let service = reference::service(state, &cluster, &of.service)?;
    if service.status != ServiceStatus::Active {
        return Err(ApiError::ServiceNotActive);
    }
    if DeploymentController::of(&service.rest) != DeploymentController::External {
        return Err(ApiError::InvalidParameter(
            "Task sets are only supported for services with the EXTERNAL deployment controller.".to_owned(),
        ));
    }
    Ok(Service::clone(&service))
}

/// The place of the task set an id or ARN means.
fn position(service: &Service, given: &str) -> Result<usize, ApiError> {
    let id = task_set_id(&service.id, given)?;
    service.task_sets.iter().position(|set| set.id == id).ok_or(ApiError::TaskSetNotFound)
}

fn task_set_id(service: &ServiceId, given: &str) -> Result<DeploymentId, ApiError> {
    let invalid = || {
        let shown: String = given.chars().take(300).collect();
        ApiError::InvalidParameter(format!(
            "Invalid identifier: {shown:?} is not the id or ARN of a task set."
        ))
    };
    if !given.starts_with("arn:") {
        return given.parse().map_err(|_| invalid());
    }
    match given.parse::<Arn>().map(|arn| arn.resource) {
        Ok(Resource::TaskSet(of, id)) if of == *service => Ok(id),
        Ok(Resource::TaskSet(..)) => Err(ApiError::TaskSetNotFound),
        _ => Err(invalid()),
    }
}

fn shown(api: &Api, state: &State, service: &ServiceId, set: &TaskSet, with_tags: bool) -> Value {
    let counts = counts_of(state, service).get(&set.id).copied().unwrap_or_default();
    wire::task_set(api.account(), service, set, counts, with_tags)
}

/// CreateTaskSet.
pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    members: Members,
    fingerprint: &Fingerprint,
) -> Result<Value, ApiError> {
    let request = CreateTaskSet::decode(members)?;
    let token = Token::of(&caller.region, "CreateTaskSet", request.client_token.as_ref(), fingerprint);
    let (state, (id, set)) = api
        .transact(|state| {
            let mut service = service(state, caller, &request.of)?;
            let mut changes = Changes::new();
            let made = token.as_ref().map(|token| token.made(state)).transpose()?.flatten();
            if let Some(made) = made.and_then(|made| position(&service, made.first()?).ok()) {
                return Ok((changes, (service.id.clone(), service.task_sets[made].clone())));
            }
            if service.task_sets.len() >= TASK_SETS_MAX {
                return Err(ApiError::LimitExceeded(format!(
                    "The service has {TASK_SETS_MAX} task sets already. Delete one and try again."
                )));
            }
            let set = new_set(api, state, caller, &service, &request)?;
            if let Some(token) = &token {
                token.record(&mut changes, vec![set.id.to_string()], api.now());
            }
            clusters::guard(&mut changes, &service.id.cluster);
            changes.guard(Key::TaskDefinition(set.task_definition.clone()));
            let id = service.id.clone();
            service.task_sets.push(set.clone());
            changes.put(service);
            Ok((changes, (id, set)))
        })
        .await?;
    Ok(wire::one(shown(api, &state, &id, &set, true)))
}

fn new_set(
    api: &Api,
    state: &State,
    caller: &Caller,
    service: &Service,
    request: &CreateTaskSet,
) -> Result<TaskSet, ApiError> {
    let cluster = reference::active_cluster(state, &service.id.cluster)?;
    let definition = reference::active_definition(state, &caller.region, &request.task_definition)?;
    let launch = launch(&cluster, &definition, request.launch_type, request.rest.get(STRATEGY))?;
    requirements::check(Asked(&[&request.rest]), &definition, launch.launch_type)?;
    requirements::check_load_balancers(state, &request.rest, &definition)?;
    let mut rest = request.rest.clone();
    if let Some(strategy) = launch.default_strategy {
        rest.insert(STRATEGY.to_owned(), strategy);
    }
    let now = api.now();
    let mut set = TaskSet {
        id: api.ids(coracle_scheduler::PlanRng::deployment_id),
        status: TaskSetStatus::Active,
        task_definition: definition.id.clone(),
        launch_type: launch.launch_type,
        launch_type_hidden: launch.provider.is_some(),
        external_id: request.external_id.clone(),
        started_by: None,
        scale_percent: request.scale_percent,
        computed_desired_count: 0,
        steady: false,
        steady_at: now,
        created_at: now,
        updated_at: now,
        tags: request.tags.clone(),
        rest,
    };
    set.computed_desired_count = set.desired_of(service.desired_count);
    Ok(set)
}

/// Changes one task set of a service, and what else of the service follows from that.
async fn change(
    api: &Api,
    caller: &Caller,
    one: &OneTaskSet,
    edit: impl Fn(&mut Service, usize) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    let (state, (id, set)) = api
        .transact(|state| {
            let mut service = service(state, caller, &one.of)?;
            let at = position(&service, &one.task_set)?;
            edit(&mut service, at)?;
            service.task_sets[at].updated_at = api.now();
            let shown = (service.id.clone(), service.task_sets[at].clone());
            let mut changes = Changes::new();
            changes.put(service);
            Ok((changes, shown))
        })
        .await?;
    Ok(wire::one(shown(api, &state, &id, &set, true)))
}

/// UpdateTaskSet.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateTaskSet::decode(members)?;
    change(api, caller, &request.one, |service, at| {
        let desired_count = service.desired_count;
        let set = &mut service.task_sets[at];
        if set.status == TaskSetStatus::Draining {
            return Err(ApiError::InvalidParameter("The task set is being deleted.".to_owned()));
        }
        set.scale_percent = request.scale_percent;
        let computed = set.desired_of(desired_count);
        if computed != set.computed_desired_count {
            set.computed_desired_count = computed;
            set.steady = false;
            set.steady_at = api.now();
        }
        Ok(())
    })
    .await
}

/// DeleteTaskSet: it drains, and is gone when its tasks are.
pub(super) async fn delete(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DeleteTaskSet::decode(members)?;
    change(api, caller, &request.one, |service, at| {
        let set = &mut service.task_sets[at];
        if set.scale_percent > 0.0 && set.status != TaskSetStatus::Draining && !request.force {
            return Err(ApiError::InvalidParameter(
                "The task set cannot be deleted while it is scaled above 0. Scale it to 0, or use force."
                    .to_owned(),
            ));
        }
        set.status = TaskSetStatus::Draining;
        set.computed_desired_count = 0;
        Ok(())
    })
    .await
}

/// UpdateServicePrimaryTaskSet.
pub(super) async fn make_primary(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = OneTaskSet::decode_primary(members)?;
    change(api, caller, &request, |service, at| {
        if service.task_sets[at].status == TaskSetStatus::Draining {
            return Err(ApiError::InvalidParameter("The task set is being deleted.".to_owned()));
        }
        for set in service.task_sets.iter_mut().filter(|set| set.status == TaskSetStatus::Primary) {
            set.status = TaskSetStatus::Active;
        }
        let set = &mut service.task_sets[at];
        set.status = TaskSetStatus::Primary;
        service.task_definition = set.task_definition.clone();
        service.launch_type = set.launch_type;
        service.launch_type_hidden = set.launch_type_hidden;
        Ok(())
    })
    .await
}

/// DescribeTaskSets.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeTaskSets::decode(members)?;
    let state = api.store.snapshot();
    let service = service(&state, caller, &request.of)?;
    let with_tags = request.include.iter().any(|include| include == "TAGS");
    let show = |set: &TaskSet| shown(api, &state, &service.id, set, with_tags);
    if request.task_sets.is_empty() {
        return Ok(wire::describe_task_sets(service.task_sets.iter().map(show).collect(), Vec::new()));
    }
    let (mut sets, mut failures) = (Vec::new(), Vec::new());
    for given in &request.task_sets {
        let id = task_set_id(&service.id, given)?;
        match service.task_sets.iter().find(|set| set.id == id) {
            Some(set) => sets.push(show(set)),
            None => {
                let arn = Arn::new(api.account(), Resource::TaskSet(service.id.clone(), id));
                failures.push(Failure::missing(arn.to_string()));
            }
        }
    }
    Ok(wire::describe_task_sets(sets, failures))
}
