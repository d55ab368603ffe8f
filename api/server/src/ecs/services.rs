//! Services: what people ask for. What happens then is the scheduler's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::service::{
    self as wire, CreateService, DeleteService, DescribeServices, ListServices, TaskCounts, UpdateService,
};
use coracle_protocol::{ApiError, Members, PageRequest};
use coracle_scheduler::{NewDeployment, deploy};
use coracle_types::{
    Arn, Changes, Cluster, ClusterId, DeploymentConfiguration, DeploymentController, DeploymentId, JsonMap,
    Key, LaunchType, Resource, SchedulingStrategy, Service, ServiceId, ServiceStatus, State, TaskDefinition,
    Timestamp, leading_provider,
};
use serde_json::Value;

use super::deploy::{Launch, STRATEGY, launch};
use super::requirements::{self, Asked};
use super::token::{Fingerprint, Token};
use super::{clusters, rebalancing, reference};
use crate::api::{Api, Caller};

/// Members kept on the service that make a new deployment necessary when they change: its tasks are
/// registered by them.
const REDEPLOYED_BY: [&str; 2] = ["loadBalancers", "serviceRegistries"];

/// CreateService. Answers at once, with its tasks still to be started.
pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    members: Members,
    fingerprint: &Fingerprint,
) -> Result<Value, ApiError> {
    let request = CreateService::decode(members)?;
    let cluster = reference::cluster_id(caller, request.cluster.as_deref())?;
    let id = ServiceId { cluster, name: request.name.clone() };
    let token = Token::of(&caller.region, "CreateService", request.client_token.as_ref(), fingerprint);
    let (state, ()) = api
        .transact(|state| {
            let existing = state.services.get(&id).map(|found| found.value.status);
            // Unlike RunTask, a token that was used with other parameters has no error of its own here.
            let not_idempotent =
                || ApiError::InvalidParameter("Creation of service was not idempotent.".to_owned());
            let made = token.as_ref().map(|token| token.made(state)).transpose();
            let made = made.map_err(|_| not_idempotent())?.flatten();
            if made.is_some() && existing == Some(ServiceStatus::Active) {
                return Ok((Changes::new(), ()));
            }
            match existing {
                Some(ServiceStatus::Active) => {
                    return Err(not_idempotent());
                }
                Some(ServiceStatus::Draining) => {
                    return Err(ApiError::InvalidParameter(
                        "Unable to Start a service that is still Draining.".to_owned(),
                    ));
                }
                Some(ServiceStatus::Inactive) | None => {}
            }
            let mut changes = Changes::new();
            let definition = wanted_definition(state, caller, &request)?;
            let service = new_service(api, state, caller, &id, &request, definition, &mut changes)?;
            clusters::guard(&mut changes, &id.cluster);
            if let Some(token) = &token {
                token.record(&mut changes, vec![id.name.to_string()], api.now());
            }
            changes.put(service);
            Ok((changes, ()))
        })
        .await?;
    shown(api, &state, &id)
}

/// The task definition a new service is to run; None when its task sets say that, whatever is given here:
/// programs that create such services give both.
fn wanted_definition(
    state: &State,
    caller: &Caller,
    request: &CreateService,
) -> Result<Option<Arc<TaskDefinition>>, ApiError> {
    if DeploymentController::of(&request.rest) == DeploymentController::External {
        return Ok(None);
    }
    let given = request.task_definition.as_deref();
    let given = given.ok_or_else(|| ApiError::Client("TaskDefinition can not be blank.".to_owned()))?;
    reference::active_definition(state, &caller.region, given).map(Some)
}

/// A new service, with its first deployment; without one if it has no definition of its own.
pub(super) fn new_service(
    api: &Api,
    state: &State,
    caller: &Caller,
    id: &ServiceId,
    request: &CreateService,
    definition: Option<Arc<TaskDefinition>>,
    changes: &mut Changes,
) -> Result<Service, ApiError> {
    let asked = Asked(&[&request.rest, &request.deployment_rest]);
    let daemon = request.scheduling_strategy == SchedulingStrategy::Daemon;
    let cluster = reference::active_cluster(state, &id.cluster)?;
    let launch = match &definition {
        Some(definition) => launch_of(state, &cluster, definition, request)?,
        None => {
            requirements::check_external(asked, daemon)?;
            requirements::check_constraints(&request.rest)?;
            Launch::plain(request.launch_type.unwrap_or(LaunchType::Ec2))
        }
    };
    requirements::check_service(asked, definition.as_deref(), daemon)?;
    let desired_count = match request.desired_count {
        Some(_) if daemon => {
            return Err(ApiError::InvalidParameter(
                "The daemon scheduling strategy does not support a desired count for services. Remove the desired count \
                 value and try again."
                    .to_owned(),
            ));
        }
        Some(desired_count) => desired_count,
        None if daemon => u32::try_from(state.nodes.size()).unwrap_or(u32::MAX),
        None => 1,
    };
    let mut deployment_rest = request.deployment_rest.clone();
    if let Some(strategy) = launch.default_strategy {
        deployment_rest.insert(STRATEGY.to_owned(), strategy);
    }
    let defaults = DeploymentConfiguration {
        // One task per node: an old one has to go before the new one can come.
        minimum_healthy_percent: if daemon { 0 } else { 100 },
        maximum_percent: if daemon { 100 } else { 200 },
        ..DeploymentConfiguration::default()
    };
    let deployment_configuration = request.deployment_configuration.over(&defaults);
    check_percentages(request.scheduling_strategy, &deployment_configuration)?;
    let now = api.now();
    let mut service = Service {
        id: id.clone(),
        status: ServiceStatus::Active,
        desired_count,
        scheduling_strategy: request.scheduling_strategy,
        task_definition: definition
            .as_ref()
            .map_or_else(|| Service::no_definition(&caller.region), |definition| definition.id.clone()),
        launch_type: launch.launch_type,
        launch_type_hidden: launch.provider.is_some(),
        deployment_configuration,
        deployments: Vec::new(),
        last_completed: None,
        last_completed_revision: None,
        task_sets: Vec::new(),
        events: VecDeque::new(),
        steady: false,
        backoff: coracle_types::LaunchBackoff::default(),
        failures_counted_to: state.revision,
        propagate_tags: request.propagate_tags,
        created_at: now,
        deleted_at: None,
        tags: request.tags.clone(),
        rest: request.rest.clone(),
    };
    rebalancing::choose(&mut service, definition.as_deref())?;
    if let Some(definition) = definition {
        changes.guard(Key::TaskDefinition(definition.id.clone()));
        let new = NewDeployment {
            task_definition: definition.id.clone(),
            launch_type: launch.launch_type,
            desired_count,
            rest: deployment_rest,
        };
        api.ids(|rng| deploy(state, &mut service, new, now, rng, changes));
    }
    Ok(service)
}

/// How the tasks of a new service are launched, if everything it asks for goes with that.
fn launch_of(
    state: &State,
    cluster: &Cluster,
    definition: &TaskDefinition,
    request: &CreateService,
) -> Result<Launch, ApiError> {
    let launch = launch(cluster, definition, request.launch_type, request.deployment_rest.get(STRATEGY))?;
    requirements::check_load_balancers(state, &request.rest, definition)?;
    let asked = Asked(&[&request.rest, &request.deployment_rest]);
    requirements::check(asked, definition, launch.launch_type)?;
    let daemon = request.scheduling_strategy == SchedulingStrategy::Daemon;
    if daemon && launch.launch_type == LaunchType::Fargate {
        return Err(ApiError::InvalidParameter(
            "The daemon scheduling strategy is not supported with the FARGATE launch type.".to_owned(),
        ));
    }
    Ok(launch)
}

/// Whether the percentages leave a REPLICA service room to run all it should, and to replace it. A DAEMON
/// service always stops a node's task before it starts the next.
fn check_percentages(
    strategy: SchedulingStrategy,
    configuration: &DeploymentConfiguration,
) -> Result<(), ApiError> {
    let refused = |text: &str| Err(ApiError::InvalidParameter(text.to_owned()));
    match (strategy, configuration.minimum_healthy_percent, configuration.maximum_percent) {
        (SchedulingStrategy::Daemon, ..) => Ok(()),
        (_, 100, 100) => refused(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
        ),
        (_, _, ..100) => refused("maximumPercent must be at least 100."),
        _ => Ok(()),
    }
}

/// UpdateService. A new deployment begins only when its tasks would not be like those that run.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateService::decode(members)?;
    let (state, id) = api
        .transact(|state| {
            let cluster_id = reference::cluster(state, caller, request.cluster.as_deref())?;
            let cluster = reference::active_cluster(state, &cluster_id)?;
            let mut service = Service::clone(&*reference::service(state, &cluster_id, &request.service)?);
            if service.status != ServiceStatus::Active {
                return Err(ApiError::ServiceNotActive);
            }
            check_controller(&service, &request)?;
            requirements::check_constraints(&request.rest)?;
            if DeploymentController::of(&service.rest) == DeploymentController::External {
                edit_external(api, &mut service, &request);
                rebalancing::check(&request.rest, &service, None)?;
                let id = service.id.clone();
                let mut changes = Changes::new();
                changes.put(service);
                return Ok((changes, id));
            }
            let definition = match request.task_definition.as_deref() {
                Some(given) => reference::active_definition(state, &caller.region, given)?,
                None => {
                    let found = state.task_definitions.get(&service.task_definition);
                    let found =
                        found.ok_or_else(|| ApiError::Client("TaskDefinition not found.".to_owned()))?;
                    found.value.clone()
                }
            };
            let mut changes = Changes::new();
            edit(api, state, &mut service, &request, &cluster, &definition, &mut changes)?;
            if request.task_definition.is_some() {
                changes.guard(Key::TaskDefinition(definition.id.clone()));
            }
            let id = service.id.clone();
            changes.put(service);
            Ok((changes, id))
        })
        .await?;
    shown(api, &state, &id)
}

/// Whether an update leaves the deployment controller as it is, and, where that is somebody outside, leaves
/// to its task sets what is theirs.
fn check_controller(service: &Service, request: &UpdateService) -> Result<(), ApiError> {
    let before = DeploymentController::of(&service.rest);
    let given = request.rest.contains_key("deploymentController");
    if given && DeploymentController::of(&request.rest) != before {
        return Err(ApiError::InvalidParameter(
            "The deployment controller of a service cannot be changed. Create another service instead."
                .to_owned(),
        ));
    }
    if before == DeploymentController::External {
        let asked = Asked(&[&request.rest, &request.deployment_rest]);
        requirements::check_external(asked, false)?;
        if request.task_definition.is_some() {
            return Err(requirements::of_task_sets("taskDefinition"));
        }
        if request.force_new_deployment {
            return Err(ApiError::InvalidParameter(
                "A new deployment of a service with the EXTERNAL deployment controller is a new task set."
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// Changes what of a service with task sets is not theirs.
fn edit_external(api: &Api, service: &mut Service, request: &UpdateService) {
    service.propagate_tags = request.propagate_tags.unwrap_or(service.propagate_tags);
    service.rest = merged(&service.rest, &request.rest);
    let Some(desired_count) = request.desired_count else { return };
    service.desired_count = desired_count;
    for set in &mut service.task_sets {
        let computed = set.desired_of(desired_count);
        if computed != set.computed_desired_count {
            set.computed_desired_count = computed;
            set.steady = false;
            set.steady_at = api.now();
            set.updated_at = api.now();
        }
    }
}

/// Makes of a service what an update asks for, with a new deployment if its tasks would not be like those that
/// run.
pub(super) fn edit(
    api: &Api,
    state: &State,
    service: &mut Service,
    request: &UpdateService,
    cluster: &Cluster,
    definition: &TaskDefinition,
    changes: &mut Changes,
) -> Result<(), ApiError> {
    if let Some(desired_count) = request.desired_count {
        if service.scheduling_strategy == SchedulingStrategy::Daemon {
            return Err(ApiError::InvalidParameter(
                "The daemon scheduling strategy does not support a desired count for services. Remove the desired count \
                 value and try again."
                    .to_owned(),
            ));
        }
        service.desired_count = desired_count;
    }
    service.deployment_configuration =
        request.deployment_configuration.over(&service.deployment_configuration);
    check_percentages(service.scheduling_strategy, &service.deployment_configuration)?;
    service.propagate_tags = request.propagate_tags.unwrap_or(service.propagate_tags);
    let rest = merged(&service.rest, &request.rest);
    let reregister = REDEPLOYED_BY.iter().any(|member| rest.get(*member) != service.rest.get(*member));
    if reregister {
        requirements::check_load_balancers(state, &rest, definition)?;
    }
    service.rest = rest;

    let now = api.now();
    let before = service.primary().map(|primary| primary.rest.clone()).unwrap_or_default();
    let mut after = merged(&before, &request.deployment_rest);
    if let Some(strategy) = request.deployment_rest.get(STRATEGY) {
        let launch_type = match leading_provider(strategy) {
            // An empty strategy goes back to the launch type.
            None => {
                after.remove(STRATEGY);
                service.launch_type_hidden = false;
                Some(service.launch_type)
            }
            Some(_) => {
                service.launch_type_hidden = true;
                None
            }
        };
        service.launch_type = launch(cluster, definition, launch_type, Some(strategy))?.launch_type;
    } else if service.launch_type == LaunchType::Fargate {
        launch(cluster, definition, Some(LaunchType::Fargate), None)?;
    }
    rebalancing::check(&request.rest, service, Some(definition))?;
    let primary = service.deployments.first_mut();
    let redeploy = request.force_new_deployment
        || reregister
        || after != before
        || service.task_definition != definition.id
        || primary.as_ref().is_none_or(|primary| primary.launch_type != service.launch_type);
    match primary {
        Some(primary) if !redeploy => {
            if primary.desired_count != service.desired_count {
                primary.desired_count = service.desired_count;
                primary.updated_at = now;
                service.steady = false;
            }
        }
        _ => {
            let new = NewDeployment {
                task_definition: definition.id.clone(),
                launch_type: service.launch_type,
                desired_count: service.desired_count,
                rest: after,
            };
            api.ids(|rng| deploy(state, service, new, now, rng, changes));
        }
    }
    Ok(())
}

fn merged(before: &JsonMap, request: &JsonMap) -> JsonMap {
    let mut after = before.clone();
    after.extend(request.clone());
    after
}

/// DeleteService: it drains; the scheduler ends it when its tasks have stopped.
pub(super) async fn delete(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DeleteService::decode(members)?;
    let (state, id) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let mut service = Service::clone(&*reference::service(state, &cluster, &request.service)?);
            let id = service.id.clone();
            let mut changes = Changes::new();
            match service.status {
                ServiceStatus::Inactive => return Err(ApiError::ServiceNotFound),
                ServiceStatus::Draining => return Ok((changes, id)),
                ServiceStatus::Active => {}
            }
            let replica = service.scheduling_strategy == SchedulingStrategy::Replica;
            if replica && service.desired_count > 0 && !request.force {
                return Err(ApiError::InvalidParameter(
                    "The service cannot be stopped while it is scaled above 0.".to_owned(),
                ));
            }
            drain(&mut service, api.now());
            changes.put(service);
            Ok((changes, id))
        })
        .await?;
    shown(api, &state, &id)
}

/// Makes a service stop all it has; the scheduler ends it when that is done.
pub(super) fn drain(service: &mut Service, now: Timestamp) {
    service.status = ServiceStatus::Draining;
    service.desired_count = 0;
    service.deleted_at = Some(now);
    for deployment in &mut service.deployments {
        deployment.desired_count = 0;
        deployment.updated_at = now;
    }
}

/// DescribeServices.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeServices::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let with_tags = request.include.iter().any(|include| include == "TAGS");
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for given in &request.services {
        let id = reference::service_id(&cluster, given)?;
        match state.services.get(&id) {
            Some(found) => {
                let counts = counts_of(&state, &id);
                services.push(wire::service(api.account(), &found.value, &counts, with_tags));
            }
            None => {
                failures.push(Failure::missing(Arn::new(api.account(), Resource::Service(id)).to_string()));
            }
        }
    }
    Ok(wire::describe_services(services, failures))
}

/// ListServices: those being deleted are not shown.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListServices::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let ids = state.services_in(&cluster).filter(|service| {
        let launch_type = (!service.launch_type_hidden).then_some(service.launch_type);
        service.status == ServiceStatus::Active
            && service.id.name.daemon().is_none()
            && request.launch_type.is_none_or(|wanted| launch_type == Some(wanted))
            && request.scheduling_strategy.is_none_or(|wanted| service.scheduling_strategy == wanted)
    });
    let ids = ids.map(|service| service.id.clone());
    let parse = |text: &str| Some(ServiceId { cluster: cluster.clone(), name: text.parse().ok()? });
    let page = request.page.of("services", ids, ServiceId::clone, |id| id.name.to_string(), parse)?;
    let arns = page.items.into_iter().map(|id| Arn::new(api.account(), Resource::Service(id)).to_string());
    Ok(wire::list_services(arns.collect(), page.next))
}

/// ListServicesByNamespace: those whose tasks find each other in a namespace, in any cluster of the region.
pub(super) fn list_by_namespace(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let namespace = members.required_text("namespace")?;
    let page = PageRequest::take(&mut members, 10)?;
    let state = api.store.snapshot();
    let wanted = last_part(&namespace);
    let ids = state.services.values().map(|found| &found.value).filter(|service| {
        let connect = service.primary().and_then(|primary| primary.rest.get("serviceConnectConfiguration"));
        let named = connect.and_then(|connect| connect.get("namespace")?.as_str());
        service.status == ServiceStatus::Active
            && service.id.cluster.region == caller.region
            && named.is_some_and(|named| last_part(named) == wanted)
    });
    let ids = ids.map(|service| service.id.clone());
    let print = |id: &ServiceId| format!("{}/{}", id.cluster.name, id.name);
    let parse = |text: &str| {
        let (cluster, name) = text.split_once('/')?;
        let cluster = ClusterId { region: caller.region.clone(), name: cluster.parse().ok()? };
        Some(ServiceId { cluster, name: name.parse().ok()? })
    };
    let page = page.of("servicesByNamespace", ids, ServiceId::clone, print, parse)?;
    let arns = page.items.into_iter().map(|id| Arn::new(api.account(), Resource::Service(id)).to_string());
    Ok(wire::list_services(arns.collect(), page.next))
}

/// The name at the end of an ARN, or the name itself.
fn last_part(named: &str) -> &str {
    named.rsplit('/').next().unwrap_or(named)
}

fn shown(api: &Api, state: &State, id: &ServiceId) -> Result<Value, ApiError> {
    let found = state.services.get(id).ok_or(ApiError::ServiceNotFound)?;
    let counts = counts_of(state, id);
    Ok(wire::one(wire::service(api.account(), &found.value, &counts, true)))
}

/// The tasks of one service by deployment.
pub(super) fn counts_of(state: &State, service: &ServiceId) -> HashMap<DeploymentId, TaskCounts> {
    let mut counts: HashMap<DeploymentId, TaskCounts> = HashMap::new();
    for task in state.tasks_of(service).filter(|task| task.is_running() || task.is_pending()) {
        let Some(deployment) = task.deployment else { continue };
        let one = counts.entry(deployment).or_default();
        one.running += u32::from(task.is_running());
        one.pending += u32::from(task.is_pending());
    }
    counts
}
