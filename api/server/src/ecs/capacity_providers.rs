//! Capacity providers. FARGATE and FARGATE_SPOT are built in; all others are made of nodes, and what they say
//! about growing and shrinking a group of machines is kept for whoever looks after those.

use coracle_protocol::ecs::capacity_provider::{
    self as wire, BUILT_IN, CreateCapacityProvider, DescribeCapacityProviders, UPDATE_STATUS,
    UpdateCapacityProvider,
};
use coracle_protocol::ecs::cluster::ClusterProviders;
use coracle_protocol::{ApiError, Members};
use coracle_types::{
    Arn, CapacityProvider, CapacityProviderId, CapacityProviderStatus, Changes, Cluster, ClusterId,
    ClusterStatus, Key, LastStatus, Resource, ServiceStatus, State,
};
use serde_json::Value;

use super::reference;
use crate::api::{Api, Caller};

/// The last part of a name or ARN.
fn short(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

/// The ACTIVE provider a name or ARN means; None for one that is built in, or is not there.
fn find<'a>(state: &'a State, caller: &Caller, given: &str) -> Option<&'a CapacityProvider> {
    let id = CapacityProviderId { region: caller.region.clone(), name: short(given).parse().ok()? };
    let found = state.capacity_providers.get(&id).map(|found| &*found.value);
    found.filter(|provider| provider.status == CapacityProviderStatus::Active)
}

fn unknown() -> ApiError {
    ApiError::Client(
        "The specified capacity provider does not exist. Specify a valid name or ARN and try again."
            .to_owned(),
    )
}

/// CreateCapacityProvider.
pub(super) async fn create(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = CreateCapacityProvider::decode(members)?;
    let name = request.name.parse().map_err(|error| ApiError::InvalidParameter(format!("{error}")))?;
    let id = CapacityProviderId { region: caller.region.clone(), name };
    let (_, made) = api
        .transact(|state| {
            if find(state, caller, &request.name).is_some() {
                return Err(ApiError::Client(
                    "The specified capacity provider already exists. To change the configuration of an existing \
                     capacity provider, update the capacity provider."
                        .to_owned(),
                ));
            }
            let mut changes = Changes::new();
            let mut rest = request.rest.clone();
            rest.insert(UPDATE_STATUS.to_owned(), "CREATE_COMPLETE".into());
            if let Some(given) = &request.cluster {
                let cluster = reference::cluster(state, caller, Some(given))?;
                changes.guard(Key::Cluster(cluster.clone()));
                let arn = Arn::new(api.account(), Resource::Cluster(cluster)).to_string();
                rest.insert("cluster".to_owned(), arn.into());
            }
            let made = CapacityProvider {
                id: id.clone(),
                status: CapacityProviderStatus::Active,
                created_at: api.now(),
                deleted_at: None,
                tags: request.tags.clone(),
                rest,
            };
            changes.put(made.clone());
            Ok((changes, made))
        })
        .await?;
    Ok(wire::one(wire::capacity_provider(api.account(), &made, true)))
}

/// UpdateCapacityProvider.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateCapacityProvider::decode(members)?;
    let (_, updated) = api
        .transact(|state| {
            refuse_built_in(&request.name, "updated")?;
            let mut updated = find(state, caller, &request.name).ok_or_else(unknown)?.clone();
            updated.rest = request.over(&updated.rest)?;
            updated.rest.insert(UPDATE_STATUS.to_owned(), "UPDATE_COMPLETE".into());
            let mut changes = Changes::new();
            changes.put(updated.clone());
            Ok((changes, updated))
        })
        .await?;
    Ok(wire::one(wire::capacity_provider(api.account(), &updated, true)))
}

/// DeleteCapacityProvider: only what no cluster has any more. Nothing waits for anything, so it is gone at once.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let given = members.required_text("capacityProvider")?;
    let (_, deleted) = api
        .transact(|state| {
            refuse_built_in(&given, "deleted")?;
            let mut deleted = find(state, caller, &given).ok_or_else(unknown)?.clone();
            let clusters = state.clusters.values().map(|found| &found.value);
            let user = clusters.into_iter().find(|cluster| {
                cluster.status == ClusterStatus::Active
                    && cluster.id.region == caller.region
                    && associated(cluster).any(|name| name == deleted.id.name.as_str())
            });
            if let Some(user) = user {
                return Err(ApiError::Client(format!(
                    "The capacity provider cannot be deleted because it is associated with cluster: {}. Remove the \
                     capacity provider from the cluster and try again.",
                    user.id.name
                )));
            }
            let mut changes = Changes::new();
            changes.delete(Key::CapacityProvider(deleted.id.clone()));
            deleted.status = CapacityProviderStatus::Inactive;
            deleted.rest.insert(UPDATE_STATUS.to_owned(), "DELETE_COMPLETE".into());
            Ok((changes, deleted))
        })
        .await?;
    Ok(wire::one(wire::capacity_provider(api.account(), &deleted, true)))
}

fn refuse_built_in(given: &str, what: &str) -> Result<(), ApiError> {
    if BUILT_IN.contains(&short(given)) {
        return Err(ApiError::InvalidParameter(format!(
            "The capacity providers FARGATE and FARGATE_SPOT are reserved and cannot be {what}."
        )));
    }
    Ok(())
}

/// DescribeCapacityProviders.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeCapacityProviders::decode(members)?;
    let state = api.store.snapshot();
    let with_tags = request.include.iter().any(|include| include == "TAGS");
    let of_cluster = match &request.cluster {
        None => None,
        Some(given) => {
            let cluster = reference::active_cluster(&state, &reference::cluster_id(caller, Some(given))?)?;
            Some(associated(&cluster).map(str::to_owned).collect::<Vec<_>>())
        }
    };
    let belongs = |name: &str| of_cluster.as_ref().is_none_or(|known| known.iter().any(|one| one == name));
    let shown = |name: &str| {
        if BUILT_IN.contains(&name) {
            return Some(wire::built_in(api.account(), &caller.region, name));
        }
        find(&state, caller, name).map(|provider| wire::capacity_provider(api.account(), provider, with_tags))
    };
    let (mut providers, mut failures) = (Vec::new(), Vec::new());
    if !request.providers.is_empty() {
        for given in &request.providers {
            match shown(short(given)).filter(|_| belongs(short(given))) {
                Some(provider) => providers.push(provider),
                None => failures.push(wire::missing(api.account(), &caller.region, given)),
            }
        }
        return Ok(wire::describe(providers, failures, None));
    }
    let made = state.capacity_providers.values().map(|found| &found.value);
    let made =
        made.filter(|one| one.id.region == caller.region && one.status == CapacityProviderStatus::Active);
    let made = made.map(|provider| provider.id.name.to_string());
    let mut names: Vec<String> = BUILT_IN.iter().map(|name| (*name).to_owned()).chain(made).collect();
    names.retain(|name| belongs(name));
    names.sort_unstable();
    let page = request.page.of_texts("capacityProviders", names)?;
    Ok(wire::describe(page.items.iter().filter_map(|name| shown(name)).collect(), failures, page.next))
}

/// The names of a cluster's providers.
fn associated(cluster: &Cluster) -> impl Iterator<Item = &str> {
    let has = cluster.rest.get("capacityProviders").and_then(Value::as_array);
    has.into_iter().flatten().filter_map(Value::as_str).map(short)
}

/// Whether these providers, by name or ARN, are all there.
pub(super) fn check_known(state: &State, caller: &Caller, given: &[String]) -> Result<(), ApiError> {
    let known = |one: &&String| BUILT_IN.contains(&short(one)) || find(state, caller, one).is_some();
    if given.iter().all(|one| known(&one)) { Ok(()) } else { Err(unknown()) }
}

/// Whether a cluster has providers of its own.
pub(super) fn any_of(api: &Api, state: &State, cluster: &ClusterId) -> bool {
    let arn = Arn::new(api.account(), Resource::Cluster(cluster.clone())).to_string();
    let providers = state.capacity_providers.values().map(|found| &found.value);
    providers.into_iter().any(|provider| {
        provider.status == CapacityProviderStatus::Active
            && provider.rest.get("cluster").and_then(Value::as_str) == Some(arn.as_str())
    })
}

/// Whether a cluster may have these providers: all are there, none belongs to another cluster, and the default
/// strategy names no others.
///
/// # Errors
/// `InvalidParameterException` when not.
pub(super) fn check_associations(
    api: &Api,
    state: &State,
    caller: &Caller,
    cluster: &ClusterId,
    providers: &ClusterProviders,
) -> Result<(), ApiError> {
    let cluster = Arn::new(api.account(), Resource::Cluster(cluster.clone())).to_string();
    for given in providers.associated.iter().filter(|given| !BUILT_IN.contains(&short(given))) {
        let found = find(state, caller, given).filter(|provider| {
            provider.rest.get("cluster").and_then(Value::as_str).is_none_or(|only| only == cluster)
        });
        if found.is_none() {
            return Err(ApiError::InvalidParameter(format!(
                "The specified capacity provider '{}' was not found. Specify a valid name or ARN and try again.",
                given.chars().take(300).collect::<String>()
            )));
        }
    }
    let known: Vec<&str> = providers.associated.iter().map(|given| short(given)).collect();
    if providers.of_default.iter().all(|given| known.contains(&short(given))) {
        return Ok(());
    }
    Err(ApiError::InvalidParameter(
        "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
         cluster. Associate the capacity provider with the cluster or specify a valid capacity provider and try again."
            .to_owned(),
    ))
}

/// Whether nothing in a cluster uses a provider it is to lose.
///
/// # Errors
/// `ResourceInUseException` when something does.
pub(super) fn check_unused(state: &State, cluster: &Cluster, keeps: &[String]) -> Result<(), ApiError> {
    let leaving: Vec<&str> =
        associated(cluster).filter(|name| !keeps.iter().any(|kept| short(kept) == *name)).collect();
    if leaving.is_empty() {
        return Ok(());
    }
    let of_task = state.tasks_in(&cluster.id).filter(|task| task.last_status != LastStatus::Stopped);
    let of_task = of_task.filter_map(|task| task.rest.get("capacityProviderName")?.as_str());
    let services = state.services_in(&cluster.id).filter(|service| service.status == ServiceStatus::Active);
    let strategies = services.filter_map(|service| service.primary()?.rest.get("capacityProviderStrategy"));
    let of_service = strategies.filter_map(Value::as_array).flatten();
    let of_service = of_service.filter_map(|item| item.get("capacityProvider")?.as_str());
    match of_task.chain(of_service).map(short).find(|used| leaving.contains(used)) {
        None => Ok(()),
        Some(used) => Err(ApiError::ResourceInUse(format!(
            "The specified capacity provider is in use and cannot be removed: {used}."
        ))),
    }
}
