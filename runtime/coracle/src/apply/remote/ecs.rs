//! Clusters, task definitions and services.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::{Current, Update, changeable, tags, text_at};
use crate::apply::manifest::{Kind, cluster};
use crate::apply::task_definition::content;
use crate::client::{ApiClient, ApiError};
use crate::ps::last_segment;

/// DescribeServices takes this many at most.
const DESCRIBE_SERVICES_MAX: usize = 10;

/// Members of a service that its answer shows in its newest deployment.
const OF_THE_DEPLOYMENT: [&str; 3] =
    ["serviceConnectConfiguration", "volumeConfigurations", "vpcLatticeConfigurations"];

pub(super) async fn create(
    client: &ApiClient,
    operation: &str,
    body: &Map<String, Value>,
    arn: &str,
) -> anyhow::Result<String> {
    let answer = client.ecs(operation, &Value::Object(body.clone())).await?;
    text_at(&answer, arn)
}

/// The current state of something with `tags` among its members.
fn current(arn: &str, value: Value, tag_list: &Value) -> Current {
    Current { arn: arn.to_owned(), value, tags: tags(tag_list), hidden_changes: Vec::new() }
}

pub(super) async fn read_cluster(client: &ApiClient, name: &str) -> anyhow::Result<Option<Current>> {
    let asked = json!({ "clusters": [name], "include": ["SETTINGS", "CONFIGURATIONS", "TAGS"] });
    let answer = client.ecs("DescribeClusters", &asked).await?;
    let found = answer["clusters"][0].clone();
    if found["status"] != "ACTIVE" {
        return Ok(None);
    }
    let (arn, tags) = (text_at(&found, "/clusterArn")?, found["tags"].clone());
    Ok(Some(current(&arn, found, &tags)))
}

pub(super) async fn update_cluster(update: Update<'_>) -> anyhow::Result<()> {
    let mut members = update.differing(&["settings", "configuration", "serviceConnectDefaults"]);
    if !members.is_empty() {
        members.insert("cluster".to_owned(), update.current.arn.as_str().into());
        update.client.ecs("UpdateCluster", &Value::Object(members)).await?;
    }
    if update.has("capacityProviders") || update.has("defaultCapacityProviderStrategy") {
        let member = |name: &str| {
            let given = update.body.get(name).or_else(|| update.current.value.get(name));
            given.cloned().unwrap_or_else(|| json!([]))
        };
        let body = json!({
            "cluster": update.current.arn,
            "capacityProviders": member("capacityProviders"),
            "defaultCapacityProviderStrategy": member("defaultCapacityProviderStrategy"),
        });
        update.client.ecs("PutClusterCapacityProviders", &body).await?;
    }
    update_tags(update).await
}

/// Makes the tags of something exactly those that are declared.
async fn update_tags(update: Update<'_>) -> anyhow::Result<()> {
    if !update.has("tags") {
        return Ok(());
    }
    let declared = tags(&update.body["tags"]);
    let gone: Vec<&String> = update.current.tags.keys().filter(|key| !declared.contains_key(*key)).collect();
    if !gone.is_empty() {
        let body = json!({ "resourceArn": update.current.arn, "tagKeys": gone });
        update.client.ecs("UntagResource", &body).await?;
    }
    if !declared.is_empty() {
        let body = json!({ "resourceArn": update.current.arn, "tags": update.body["tags"] });
        update.client.ecs("TagResource", &body).await?;
    }
    Ok(())
}

pub(super) async fn delete_cluster(client: &ApiClient, current: &Current) -> anyhow::Result<()> {
    client.ecs("DeleteCluster", &json!({ "cluster": current.arn })).await.map(drop)
}

/// The newest ACTIVE revision of a family.
pub(super) async fn read_task_definition(
    client: &ApiClient,
    family: &str,
) -> anyhow::Result<Option<Current>> {
    let Some(answer) = describe_definition(client, family).await? else { return Ok(None) };
    let found = answer["taskDefinition"].clone();
    let arn = text_at(&found, "/taskDefinitionArn")?;
    Ok(Some(current(&arn, content(found), &answer["tags"])))
}

async fn describe_definition(client: &ApiClient, name: &str) -> anyhow::Result<Option<Value>> {
    let asked = json!({ "taskDefinition": name, "include": ["TAGS"] });
    match client.ecs("DescribeTaskDefinition", &asked).await {
        Ok(answer) => Ok(Some(answer)),
        // There is no name for "there is none".
        Err(error) => match error.downcast_ref::<ApiError>().and_then(|error| error.name.as_deref()) {
            Some("ClientException") => Ok(None),
            _ => Err(error),
        },
    }
}

pub(super) async fn definition_arn(client: &ApiClient, name: &str) -> anyhow::Result<Option<String>> {
    let answer = describe_definition(client, name).await?;
    answer.map(|answer| text_at(&answer, "/taskDefinition/taskDefinitionArn")).transpose()
}

/// Only tags: anything else is another revision.
pub(super) async fn update_task_definition(update: Update<'_>) -> anyhow::Result<()> {
    update_tags(update).await
}

/// The ACTIVE revisions of a family.
async fn active_revisions(client: &ApiClient, family: &str) -> anyhow::Result<Vec<Value>> {
    let asked = json!({ "familyPrefix": family, "status": "ACTIVE" });
    client.ecs_pages("ListTaskDefinitions", "taskDefinitionArns", asked).await
}

pub(super) async fn deregister_all(client: &ApiClient, current: &Current) -> anyhow::Result<()> {
    let name = last_segment(&current.arn);
    let family = name.split_once(':').map_or(name, |(family, _)| family);
    for revision in active_revisions(client, family).await? {
        client.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": revision })).await?;
    }
    Ok(())
}

pub(super) async fn read_service(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let name = body["serviceName"].as_str().unwrap_or_default();
    let mut found = describe_services(client, cluster(body), &[name]).await?;
    let Some(mut service) = found.pop().filter(|service| service["status"] == "ACTIVE") else {
        return Ok(None);
    };
    for member in OF_THE_DEPLOYMENT {
        service[member] = service["deployments"][0][member].clone();
    }
    // Named otherwise than it was given, and not to be changed.
    if let Some(role) = body.get("role") {
        service["role"] = role.clone();
    }
    // An ARN where a name was given.
    service["cluster"] = body.get("cluster").cloned().unwrap_or_default();
    let (arn, tags) = (text_at(&service, "/serviceArn")?, service["tags"].clone());
    Ok(Some(current(&arn, service, &tags)))
}

/// Services of one cluster, those that are not there left out.
pub(in crate::apply) async fn describe_services(
    client: &ApiClient,
    cluster: &str,
    names: &[&str],
) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for some in names.chunks(DESCRIBE_SERVICES_MAX) {
        let asked = json!({ "cluster": cluster, "services": some, "include": ["TAGS"] });
        let Some(answer) = super::or_missing(client.ecs("DescribeServices", &asked).await)? else {
            continue;
        };
        if let Value::Array(services) = answer["services"].clone() {
            found.extend(services);
        }
    }
    Ok(found)
}

pub(super) async fn update_service(update: Update<'_>) -> anyhow::Result<()> {
    let possible = changeable(Kind::Service).context("services can be changed")?;
    let mut members = update.differing(&possible);
    if !members.is_empty() {
        members.insert("cluster".to_owned(), cluster(update.body).into());
        members.insert("service".to_owned(), update.body["serviceName"].clone());
        update.client.ecs("UpdateService", &Value::Object(members)).await?;
    }
    update_tags(update).await
}

/// Stops its tasks, too.
pub(super) async fn delete_service(client: &ApiClient, current: &Current) -> anyhow::Result<()> {
    let cluster = current.value["clusterArn"].clone();
    if cluster.is_null() {
        bail!("the service's cluster is not known");
    }
    let body = json!({ "cluster": cluster, "service": current.arn, "force": true });
    client.ecs("DeleteService", &body).await.map(drop)
}
