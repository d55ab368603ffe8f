//! Clusters.

use coracle_protocol::ecs::Failure;
use coracle_protocol::ecs::cluster::{
    ClusterCounts, CreateCluster, DescribeClusters, PutClusterCapacityProviders, UpdateCluster, cluster,
    describe_clusters, everything, one,
};
use coracle_protocol::{ApiError, Members, Object, PageRequest};
use coracle_types::{
    Arn, Changes, Cluster, ClusterId, ClusterName, ClusterStatus, JsonMap, Key, LastStatus, LaunchType,
    Resource, ServiceStatus, State, Tags,
};
use serde_json::{Value, json};

use super::account_settings::container_insights;
use super::{capacity_providers, container_instances, reference};
use crate::api::{Api, Caller};

/// At most this many regions get a cluster `default`. AWS has a few dozen; without access keys anybody can
/// name any, and each makes a record that stays.
const REGIONS_MAX: usize = 256;

/// Makes sure that the cluster `default` of the caller's region was there once: everybody counts on it.
/// Somebody who deletes it has it deleted.
pub(super) async fn ensure_default(api: &Api, caller: &Caller) -> Result<(), ApiError> {
    let id = ClusterId { region: caller.region.clone(), name: ClusterName::default_cluster() };
    if api.store.snapshot().clusters.contains_key(&id) {
        return Ok(());
    }
    api.transact(|state| {
        let mut changes = Changes::new();
        if !state.clusters.contains_key(&id) {
            if state.clusters.keys().filter(|known| known.name == id.name).count() >= REGIONS_MAX {
                return Err(ApiError::Client(format!(
                    "{REGIONS_MAX} regions are in use already, and {} is another one.",
                    id.region
                )));
            }
            changes.put(new_cluster(api, id.clone(), Tags::default(), JsonMap::new()));
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(())
}

fn new_cluster(api: &Api, id: ClusterId, tags: Tags, rest: JsonMap) -> Cluster {
    Cluster { id, status: ClusterStatus::Active, created_at: api.now(), deleted_at: None, tags, rest }
}

/// CreateCluster: one that is there already is answered as it is.
pub(super) async fn create(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = CreateCluster::decode(members)?;
    let name = request.name.as_deref();
    if name.is_some_and(|name| name.starts_with("arn:")) {
        return Err(ApiError::InvalidParameter("clusterName must be a name, not an ARN.".to_owned()));
    }
    let id = reference::cluster_id(caller, name)?;
    let (state, ()) = api
        .transact(|state| {
            let mut changes = Changes::new();
            if reference::active_cluster(state, &id).is_err() {
                capacity_providers::check_associations(api, state, caller, &id, &request.providers)?;
                let mut rest = request.rest.clone();
                let insights =
                    || json!([{"name": "containerInsights", "value": container_insights(state, caller)}]);
                rest.entry("settings").or_insert_with(insights);
                changes.put(new_cluster(api, id.clone(), request.tags.clone(), rest));
            }
            Ok((changes, ()))
        })
        .await?;
    shown(api, &state, &id)
}

/// UpdateCluster.
pub(super) async fn update(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateCluster::decode(members)?;
    change(api, caller, &request.cluster, &request.rest, |_, _| Ok(())).await
}

/// UpdateClusterSettings.
pub(super) async fn update_settings(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = UpdateCluster::decode_settings(members)?;
    change(api, caller, &request.cluster, &request.rest, |_, _| Ok(())).await
}

/// PutClusterCapacityProviders: from now on the cluster has these and no others.
pub(super) async fn put_providers(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = PutClusterCapacityProviders::decode(members)?;
    change(api, caller, &request.cluster, &request.rest, |state, cluster| {
        capacity_providers::check_associations(api, state, caller, &cluster.id, &request.providers)?;
        capacity_providers::check_unused(state, cluster, &request.providers.associated)
    })
    .await
}

/// Keeps other members with a cluster, if `check` finds nothing wrong with that.
async fn change(
    api: &Api,
    caller: &Caller,
    cluster: &str,
    members: &JsonMap,
    check: impl Fn(&State, &Cluster) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    let id = reference::cluster_id(caller, Some(cluster))?;
    let (state, ()) = api
        .transact(|state| {
            let mut cluster = Cluster::clone(&*reference::active_cluster(state, &id)?);
            check(state, &cluster)?;
            cluster.rest.extend(members.clone());
            let mut changes = Changes::new();
            changes.put(cluster);
            Ok((changes, ()))
        })
        .await?;
    shown(api, &state, &id)
}

/// DeleteCluster.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = reference::cluster_id(caller, Some(&members.required_text("cluster")?))?;
    let (state, ()) = api
        .transact(|state| {
            let mut cluster = Cluster::clone(&*reference::active_cluster(state, &id)?);
            if state.services_in(&id).any(|service| service.status != ServiceStatus::Inactive) {
                return Err(ApiError::ClusterContainsServices);
            }
            if state.tasks_in(&id).any(|task| task.last_status != LastStatus::Stopped) {
                return Err(ApiError::ClusterContainsTasks);
            }
            if container_instances::of_cluster(state, &id).any(|node| node.cluster.is_some()) {
                return Err(ApiError::ClusterContainsContainerInstances);
            }
            if capacity_providers::any_of(api, state, &id) {
                return Err(ApiError::ClusterContainsCapacityProvider);
            }
            cluster.status = ClusterStatus::Inactive;
            cluster.deleted_at = Some(api.now());
            let mut changes = Changes::new();
            changes.put(cluster);
            Ok((changes, ()))
        })
        .await?;
    shown(api, &state, &id)
}

fn shown(api: &Api, state: &State, id: &ClusterId) -> Result<Value, ApiError> {
    let found = state.clusters.get(id).ok_or(ApiError::ClusterNotFound)?;
    Ok(one(cluster(api.account(), &found.value, counts(state, &found.value), &everything())))
}

/// DescribeClusters: names nobody knows are failures, not errors.
pub(super) fn describe(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = DescribeClusters::decode(members)?;
    let state = api.store.snapshot();
    let default = [ClusterName::default_cluster().to_string()];
    let asked = if request.clusters.is_empty() { default.as_slice() } else { request.clusters.as_slice() };
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let id = reference::cluster_id(caller, Some(given));
        match id.ok().and_then(|id| state.clusters.get(&id)) {
            Some(found) => {
                let counts = counts(&state, &found.value);
                clusters.push(cluster(api.account(), &found.value, counts, &request.include));
            }
            None => failures.push(Failure::missing(missing_arn(api, caller, given))),
        }
    }
    Ok(describe_clusters(clusters, failures))
}

fn missing_arn(api: &Api, caller: &Caller, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    format!("arn:aws:ecs:{}:{}:cluster/{given}", caller.region, api.account())
}

/// ListClusters.
pub(super) fn list(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = PageRequest::take(&mut members, 100)?;
    let state = api.store.snapshot();
    let clusters = state.clusters.values().map(|found| &found.value);
    let names = clusters
        .filter(|cluster| cluster.id.region == caller.region && cluster.status == ClusterStatus::Active)
        .map(|cluster| cluster.id.clone());
    let parse = |text: &str| Some(ClusterId { region: caller.region.clone(), name: text.parse().ok()? });
    let page = page.of("clusters", names, ClusterId::clone, |id| id.name.to_string(), parse)?;
    let arns = page.items.into_iter().map(|id| Arn::new(api.account(), Resource::Cluster(id)).to_string());
    Ok(Object::new().with("clusterArns", arns.collect::<Vec<_>>()).maybe("nextToken", page.next).into())
}

fn counts(state: &State, cluster: &Cluster) -> ClusterCounts {
    let nodes = container_instances::of_cluster(state, &cluster.id).count();
    let tasks = state.index().in_cluster(&cluster.id);
    let mut counts = ClusterCounts {
        nodes,
        running_ec2: tasks.running_ec2,
        running_fargate: tasks.running_fargate,
        pending_ec2: tasks.pending_ec2,
        pending_fargate: tasks.pending_fargate,
        ..ClusterCounts::default()
    };
    for service in state.services_in(&cluster.id) {
        let fargate = service.launch_type == LaunchType::Fargate;
        let count = match service.status {
            ServiceStatus::Active if fargate => &mut counts.active_fargate_services,
            ServiceStatus::Active => &mut counts.active_ec2_services,
            ServiceStatus::Draining if fargate => &mut counts.draining_fargate_services,
            ServiceStatus::Draining => &mut counts.draining_ec2_services,
            ServiceStatus::Inactive => continue,
        };
        *count += 1;
    }
    counts
}

/// The guard of an action that puts something into a cluster: the cluster must not be deleted in
/// between.
pub(super) fn guard(changes: &mut Changes, cluster: &ClusterId) {
    changes.guard(Key::Cluster(cluster.clone()));
}
