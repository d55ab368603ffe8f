//! Daemons: what people ask for. Each is a service of its own kind that the scheduler runs; see
//! `coracle_types::daemon`.

use coracle_protocol::ecs::daemon::{
    self as wire, CreateDaemon, DAEMON, DaemonInput, ListDaemons, UpdateDaemon,
};
use coracle_protocol::ecs::service::{CreateService, DeploymentConfigurationInput, UpdateService};
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, Changes, ClusterId, DaemonName, JsonMap, LaunchType, PropagateTags, Resource, SchedulingStrategy,
    Service, ServiceId, ServiceName, ServiceStatus, State,
};
use serde_json::Value;

use super::daemon_task_definitions::active_definition;
use super::services::{counts_of, drain, edit, new_service};
use super::token::{Fingerprint, Token};
use super::{capacity_providers, clusters, container_instances, reference};
use crate::api::{Api, Caller};

/// The daemon an ARN names, unless it is gone.
pub(super) fn find(state: &State, caller: &Caller, arn: &str) -> Result<Service, ApiError> {
    let id = match arn.parse::<Arn>().map(|arn| arn.resource) {
        Ok(Resource::Service(id)) if id.name.daemon().is_some() => id,
        _ => {
            let shown: String = arn.chars().take(300).collect();
            return Err(ApiError::InvalidParameter(format!(
                "Invalid identifier: {shown:?} is not the ARN of a daemon."
            )));
        }
    };
    let found = state.services.get(&id).filter(|_| id.cluster.region == caller.region);
    found
        .map(|found| Service::clone(&found.value))
        .filter(|service| service.status != ServiceStatus::Inactive)
        .ok_or(ApiError::DaemonNotFound)
}

/// Members of the service, and of its deployment, that a request's become.
fn kept(input: &DaemonInput) -> (JsonMap, JsonMap) {
    let of_service = ["enableECSManagedTags", "enableExecuteCommand"];
    let of_service =
        of_service.iter().filter_map(|&name| Some((name.to_owned(), input.rest.get(name)?.clone())));
    let mut of_deployment = JsonMap::new();
    of_deployment.insert(DAEMON.to_owned(), Value::Object(input.rest.clone()));
    (of_service.collect(), of_deployment)
}

fn propagate(input: &DaemonInput) -> Option<PropagateTags> {
    input.propagate_tags.map(|wanted| if wanted { PropagateTags::Service } else { PropagateTags::None })
}

/// CreateDaemon.
pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    members: Members,
    fingerprint: &Fingerprint,
) -> Result<Value, ApiError> {
    let request = CreateDaemon::decode(members)?;
    let invalid = |error| ApiError::InvalidParameter(format!("{error}"));
    let name: DaemonName = request.name.parse().map_err(invalid)?;
    let cluster = reference::cluster_id(caller, request.cluster.as_deref())?;
    let id = ServiceId { cluster, name: ServiceName::of_daemon(&name).map_err(invalid)? };
    let token = Token::of(&caller.region, "CreateDaemon", request.client_token.as_ref(), fingerprint);
    let (_, service) = api
        .transact(|state| {
            let mut changes = Changes::new();
            let existing = state.services.get(&id).map(|found| &*found.value);
            let existing = existing.filter(|service| service.status != ServiceStatus::Inactive);
            if let Some(existing) = existing {
                let made = token.as_ref().map(|token| token.made(state)).transpose().ok().flatten().flatten();
                return if made.is_some() && existing.status == ServiceStatus::Active {
                    Ok((changes, existing.clone()))
                } else {
                    Err(ApiError::InvalidParameter(format!("The daemon {name} exists already.")))
                };
            }
            let definition = active_definition(state, caller, &request.input.task_definition)?;
            capacity_providers::check_known(state, caller, &request.input.providers)?;
            let service = new_service(
                api,
                state,
                caller,
                &id,
                &as_service(id.name.clone(), &request),
                Some(definition),
                &mut changes,
            )?;
            clusters::guard(&mut changes, &id.cluster);
            if let Some(token) = &token {
                token.record(&mut changes, vec![id.name.to_string()], api.now());
            }
            changes.put(service.clone());
            Ok((changes, service))
        })
        .await?;
    Ok(wire::created(api.account(), &service))
}

/// The service a daemon is.
fn as_service(name: ServiceName, request: &CreateDaemon) -> CreateService {
    let (rest, deployment_rest) = kept(&request.input);
    CreateService {
        cluster: None,
        name,
        task_definition: None,
        desired_count: None,
        launch_type: Some(LaunchType::Ec2),
        scheduling_strategy: SchedulingStrategy::Daemon,
        deployment_configuration: DeploymentConfigurationInput::default(),
        propagate_tags: propagate(&request.input).unwrap_or(PropagateTags::None),
        tags: request.tags.clone(),
        client_token: None,
        rest,
        deployment_rest,
    }
}

/// UpdateDaemon: a new deployment, if its tasks would not be like those that run.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateDaemon::decode(members)?;
    let (_, service) = api
        .transact(|state| {
            let mut service = find(state, caller, &request.arn)?;
            if service.status != ServiceStatus::Active {
                return Err(ApiError::DaemonNotActive);
            }
            let definition = active_definition(state, caller, &request.input.task_definition)?;
            capacity_providers::check_known(state, caller, &request.input.providers)?;
            let cluster = reference::active_cluster(state, &service.id.cluster)?;
            let (rest, deployment_rest) = kept(&request.input);
            let update = UpdateService {
                cluster: None,
                service: String::new(),
                task_definition: None,
                desired_count: None,
                force_new_deployment: false,
                deployment_configuration: DeploymentConfigurationInput::default(),
                propagate_tags: propagate(&request.input),
                rest,
                deployment_rest,
            };
            let mut changes = Changes::new();
            edit(api, state, &mut service, &update, &cluster, &definition, &mut changes)?;
            changes.guard(coracle_types::Key::TaskDefinition(definition.id.clone()));
            changes.put(service.clone());
            Ok((changes, service))
        })
        .await?;
    Ok(wire::changed(api.account(), &service))
}

/// DeleteDaemon: it drains, and is gone when its tasks are.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("daemonArn")?;
    let (_, service) = api
        .transact(|state| {
            let mut service = find(state, caller, &arn)?;
            if service.status != ServiceStatus::Active {
                return Err(ApiError::DaemonNotActive);
            }
            drain(&mut service, api.now());
            let mut changes = Changes::new();
            changes.put(service.clone());
            Ok((changes, service))
        })
        .await?;
    Ok(wire::changed(api.account(), &service))
}

/// DescribeDaemon.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("daemonArn")?;
    let state = api.store.snapshot();
    let service = find(&state, caller, &arn)?;
    let counts = counts_of(&state, &service.id);
    let nodes = container_instances::of_cluster(&state, &service.id.cluster);
    let nodes = nodes.filter(|node| node.agent_connected).count();
    Ok(wire::describe_daemon(api.account(), &service, nodes, |deployment| {
        counts.get(&deployment.id).copied().unwrap_or_default()
    }))
}

/// ListDaemons.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListDaemons::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let last = |given: &str| given.rsplit('/').next().map(str::to_owned);
    let wanted = state.services_in(&cluster).filter(|service| {
        let rest = service.primary().map(|primary| &primary.rest);
        let has = rest.map(wire::providers).unwrap_or_default();
        let of_provider = |wanted: &String| has.iter().any(|one| last(one) == last(wanted));
        service.id.name.daemon().is_some()
            && service.status != ServiceStatus::Inactive
            && (request.providers.is_empty() || request.providers.iter().any(of_provider))
    });
    let of_cluster =
        |name: &str| Some(ServiceId { cluster: ClusterId::clone(&cluster), name: name.parse().ok()? });
    let page = request.page.of(
        "daemons",
        wanted,
        |service| service.id.clone(),
        |id| id.name.to_string(),
        of_cluster,
    )?;
    let shown = page.items.into_iter().map(|service| wire::summary(api.account(), service));
    Ok(wire::list_daemons(shown.collect(), page.next))
}
