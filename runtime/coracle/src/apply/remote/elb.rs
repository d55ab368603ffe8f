//! Target groups, load balancers, listeners and rules.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{Current, Update, changeable, or_missing, tags, text_at};
use crate::apply::manifest::{ATTRIBUTES_MEMBER, Kind};
use crate::client::ApiClient;

/// The operations about the attributes of one kind of thing.
struct Attributes {
    describe: &'static str,
    modify: &'static str,
    arn: &'static str,
}

const OF_A_TARGET_GROUP: Attributes = Attributes {
    describe: "DescribeTargetGroupAttributes",
    modify: "ModifyTargetGroupAttributes",
    arn: "TargetGroupArn",
};
const OF_A_LOAD_BALANCER: Attributes = Attributes {
    describe: "DescribeLoadBalancerAttributes",
    modify: "ModifyLoadBalancerAttributes",
    arn: "LoadBalancerArn",
};
const OF_A_LISTENER: Attributes = Attributes {
    describe: "DescribeListenerAttributes",
    modify: "ModifyListenerAttributes",
    arn: "ListenerArn",
};

impl Attributes {
    /// Adds the attributes that something has to its members, if any are declared.
    async fn read(
        &self,
        client: &ApiClient,
        arn: &str,
        declared: &Map<String, Value>,
        found: &mut Value,
    ) -> anyhow::Result<()> {
        let Some(Value::Array(declared)) = declared.get(ATTRIBUTES_MEMBER) else { return Ok(()) };
        let answer = client.elb(self.describe, &json!({ self.arn: arn })).await?;
        // Those that are not declared keep what they have.
        if let Value::Array(all) = answer[ATTRIBUTES_MEMBER].clone() {
            let is_declared = |one: &Value| declared.iter().any(|declared| declared["Key"] == one["Key"]);
            found[ATTRIBUTES_MEMBER] = all.into_iter().filter(is_declared).collect();
        }
        Ok(())
    }

    async fn write(&self, client: &ApiClient, arn: &str, body: &Map<String, Value>) -> anyhow::Result<()> {
        match body.get(ATTRIBUTES_MEMBER) {
            Some(declared) if declared.as_array().is_some_and(|declared| !declared.is_empty()) => {
                let body = json!({ self.arn: arn, ATTRIBUTES_MEMBER: declared });
                client.elb(self.modify, &body).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// What is there, with its tags if any are declared.
async fn current(
    client: &ApiClient,
    declared: &Map<String, Value>,
    arn: String,
    value: Value,
) -> anyhow::Result<Current> {
    let mut found = json!([]);
    if declared.contains_key("Tags") {
        let answer = client.elb("DescribeTags", &json!({ "ResourceArns": [arn] })).await?;
        found = answer["TagDescriptions"][0]["Tags"].clone();
    }
    Ok(Current { arn, value, tags: tags(&found), hidden_changes: Vec::new() })
}

/// Makes something without its attributes, which come after.
async fn create(
    client: &ApiClient,
    operation: &str,
    body: &Map<String, Value>,
    arn: &str,
) -> anyhow::Result<String> {
    let mut body = body.clone();
    body.remove(ATTRIBUTES_MEMBER);
    let answer = client.elb(operation, &Value::Object(body)).await?;
    text_at(&answer, arn)
}

/// Makes the tags of something exactly those that are declared.
async fn update_tags(update: Update<'_>) -> anyhow::Result<()> {
    if !update.has("Tags") {
        return Ok(());
    }
    let declared = tags(&update.body["Tags"]);
    let arns = [update.current.arn.as_str()];
    let gone: Vec<&String> = update.current.tags.keys().filter(|key| !declared.contains_key(*key)).collect();
    if !gone.is_empty() {
        update.client.elb("RemoveTags", &json!({ "ResourceArns": arns, "TagKeys": gone })).await?;
    }
    if !declared.is_empty() {
        let body = json!({ "ResourceArns": arns, "Tags": update.body["Tags"] });
        update.client.elb("AddTags", &body).await?;
    }
    Ok(())
}

pub(super) async fn delete(
    client: &ApiClient,
    operation: &str,
    member: &str,
    current: &Current,
) -> anyhow::Result<()> {
    client.elb(operation, &json!({ member: current.arn })).await.map(drop)
}

async fn find_named(
    client: &ApiClient,
    operation: &str,
    list: &str,
    name: &Value,
) -> anyhow::Result<Option<Value>> {
    let answer = or_missing(client.elb(operation, &json!({ "Names": [name] })).await)?;
    Ok(answer.map(|answer| answer[list][0].clone()).filter(Value::is_object))
}

pub(super) async fn group_arn(client: &ApiClient, name: &str) -> anyhow::Result<Option<String>> {
    let found = find_named(client, "DescribeTargetGroups", "TargetGroups", &name.into()).await?;
    found.map(|found| text_at(&found, "/TargetGroupArn")).transpose()
}

pub(super) async fn read_target_group(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let found = find_named(client, "DescribeTargetGroups", "TargetGroups", &body["Name"]).await?;
    let Some(mut found) = found else { return Ok(None) };
    found["Name"] = found["TargetGroupName"].clone();
    let arn = text_at(&found, "/TargetGroupArn")?;
    OF_A_TARGET_GROUP.read(client, &arn, body, &mut found).await?;
    current(client, body, arn, found).await.map(Some)
}

pub(super) async fn create_target_group(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<String> {
    let arn = create(client, "CreateTargetGroup", body, "/TargetGroups/0/TargetGroupArn").await?;
    OF_A_TARGET_GROUP.write(client, &arn, body).await?;
    Ok(arn)
}

pub(super) async fn update_target_group(update: Update<'_>) -> anyhow::Result<()> {
    let possible = changeable(Kind::TargetGroup).context("target groups can be changed")?;
    let mut members = update.differing(&possible);
    if !members.is_empty() {
        members.insert("TargetGroupArn".to_owned(), update.current.arn.as_str().into());
        update.client.elb("ModifyTargetGroup", &Value::Object(members)).await?;
    }
    if update.has(ATTRIBUTES_MEMBER) {
        OF_A_TARGET_GROUP.write(update.client, &update.current.arn, update.body).await?;
    }
    update_tags(update).await
}

pub(super) async fn balancer_arn(client: &ApiClient, name: &str) -> anyhow::Result<Option<String>> {
    if name.starts_with("arn:") {
        return Ok(Some(name.to_owned()));
    }
    let found = find_named(client, "DescribeLoadBalancers", "LoadBalancers", &name.into()).await?;
    found.map(|found| text_at(&found, "/LoadBalancerArn")).transpose()
}

pub(super) async fn read_load_balancer(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let found = find_named(client, "DescribeLoadBalancers", "LoadBalancers", &body["Name"]).await?;
    let Some(mut found) = found else { return Ok(None) };
    found["Name"] = found["LoadBalancerName"].clone();
    let zones = found["AvailabilityZones"].as_array().cloned().unwrap_or_default();
    found["Subnets"] = zones.iter().map(|zone| zone["SubnetId"].clone()).collect();
    found["SubnetMappings"] = zones.iter().map(|zone| json!({ "SubnetId": zone["SubnetId"] })).collect();
    let arn = text_at(&found, "/LoadBalancerArn")?;
    OF_A_LOAD_BALANCER.read(client, &arn, body, &mut found).await?;
    current(client, body, arn, found).await.map(Some)
}

pub(super) async fn create_load_balancer(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<String> {
    let arn = create(client, "CreateLoadBalancer", body, "/LoadBalancers/0/LoadBalancerArn").await?;
    OF_A_LOAD_BALANCER.write(client, &arn, body).await?;
    Ok(arn)
}

pub(super) async fn update_load_balancer(update: Update<'_>) -> anyhow::Result<()> {
    let operations = [
        ("Subnets", "SetSubnets"),
        ("SecurityGroups", "SetSecurityGroups"),
        ("IpAddressType", "SetIpAddressType"),
    ];
    for (member, operation) in operations.into_iter().filter(|(member, _)| update.has(member)) {
        let body = json!({ "LoadBalancerArn": update.current.arn, member: update.body[member] });
        update.client.elb(operation, &body).await?;
    }
    if update.has(ATTRIBUTES_MEMBER) {
        OF_A_LOAD_BALANCER.write(update.client, &update.current.arn, update.body).await?;
    }
    update_tags(update).await
}

/// A listener of a load balancer; None too if the load balancer is not there yet.
async fn find_listener(client: &ApiClient, balancer: &str, port: &str) -> anyhow::Result<Option<Value>> {
    if !balancer.starts_with("arn:") {
        return Ok(None);
    }
    let answer = client.elb("DescribeListeners", &json!({ "LoadBalancerArn": balancer })).await;
    let Some(answer) = or_missing(answer)? else { return Ok(None) };
    let listeners = answer["Listeners"].as_array();
    Ok(listeners.into_iter().flatten().find(|one| one["Port"] == port).cloned())
}

pub(super) async fn listener_arn(
    client: &ApiClient,
    balancer: &str,
    port: &str,
) -> anyhow::Result<Option<String>> {
    let Some(balancer) = balancer_arn(client, balancer).await? else { return Ok(None) };
    let found = find_listener(client, &balancer, port).await?;
    found.map(|found| text_at(&found, "/ListenerArn")).transpose()
}

pub(super) async fn read_listener(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let balancer = body["LoadBalancerArn"].as_str().unwrap_or_default();
    let Some(mut found) = find_listener(client, balancer, &body["Port"].to_string()).await? else {
        return Ok(None);
    };
    let arn = text_at(&found, "/ListenerArn")?;
    OF_A_LISTENER.read(client, &arn, body, &mut found).await?;
    current(client, body, arn, found).await.map(Some)
}

pub(super) async fn create_listener(client: &ApiClient, body: &Map<String, Value>) -> anyhow::Result<String> {
    let arn = create(client, "CreateListener", body, "/Listeners/0/ListenerArn").await?;
    OF_A_LISTENER.write(client, &arn, body).await?;
    Ok(arn)
}

pub(super) async fn update_listener(update: Update<'_>) -> anyhow::Result<()> {
    let possible =
        ["Protocol", "SslPolicy", "Certificates", "DefaultActions", "AlpnPolicy", "MutualAuthentication"];
    let mut members = update.differing(&possible);
    if !members.is_empty() {
        members.insert("ListenerArn".to_owned(), update.current.arn.as_str().into());
        update.client.elb("ModifyListener", &Value::Object(members)).await?;
    }
    if update.has(ATTRIBUTES_MEMBER) {
        OF_A_LISTENER.write(update.client, &update.current.arn, update.body).await?;
    }
    update_tags(update).await
}

/// A rule of a listener; None too if the listener is not there yet.
async fn find_rule(client: &ApiClient, listener: &str, priority: &str) -> anyhow::Result<Option<Value>> {
    if !listener.starts_with("arn:") {
        return Ok(None);
    }
    let Some(answer) = or_missing(client.elb("DescribeRules", &json!({ "ListenerArn": listener })).await)?
    else {
        return Ok(None);
    };
    let rules = answer["Rules"].as_array();
    Ok(rules.into_iter().flatten().find(|one| one["Priority"] == priority).cloned())
}

pub(super) async fn rule_arn(
    client: &ApiClient,
    balancer: &str,
    port: &str,
    priority: &str,
) -> anyhow::Result<Option<String>> {
    let Some(listener) = listener_arn(client, balancer, port).await? else { return Ok(None) };
    let found = find_rule(client, &listener, priority).await?;
    found.map(|found| text_at(&found, "/RuleArn")).transpose()
}

pub(super) async fn read_rule(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let listener = body["ListenerArn"].as_str().unwrap_or_default();
    let Some(mut found) = find_rule(client, listener, &body["Priority"].to_string()).await? else {
        return Ok(None);
    };
    found["ListenerArn"] = listener.into();
    let arn = text_at(&found, "/RuleArn")?;
    current(client, body, arn, found).await.map(Some)
}

pub(super) async fn create_rule(client: &ApiClient, body: &Map<String, Value>) -> anyhow::Result<String> {
    create(client, "CreateRule", body, "/Rules/0/RuleArn").await
}

pub(super) async fn update_rule(update: Update<'_>) -> anyhow::Result<()> {
    let mut members = update.differing(&["Conditions", "Actions", "Transforms"]);
    if !members.is_empty() {
        members.insert("RuleArn".to_owned(), update.current.arn.as_str().into());
        update.client.elb("ModifyRule", &Value::Object(members)).await?;
    }
    update_tags(update).await
}
