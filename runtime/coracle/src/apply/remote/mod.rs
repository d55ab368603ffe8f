//! What is there, and how it is made, changed and removed: one operation of the API after the other.

mod ecs;
mod elb;
mod secrets;

use std::collections::BTreeMap;

use anyhow::bail;
use coracle_protocol::shape::Shape;
use serde_json::{Map, Value};

use super::compare::Change;
use super::manifest::{Item, Kind};
use crate::client::{ApiClient, ApiError};

pub(super) use ecs::describe_services;

/// An item as it is there.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) arn: String,
    /// Its members, under the names under which they are declared.
    pub(super) value: Value,
    pub(super) tags: Tags,
    /// Members that differ and must not be shown.
    pub(super) hidden_changes: Vec<Change>,
}

pub(super) type Tags = BTreeMap<String, String>;

/// The item as it is there; None if it is not.
pub(super) async fn read(
    client: &ApiClient,
    item: &Item,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    match item.kind {
        Kind::Cluster => ecs::read_cluster(client, &item.name).await,
        Kind::TaskDefinition => ecs::read_task_definition(client, &item.name).await,
        Kind::Service => ecs::read_service(client, body).await,
        Kind::TargetGroup => elb::read_target_group(client, body).await,
        Kind::LoadBalancer => elb::read_load_balancer(client, body).await,
        Kind::Listener => elb::read_listener(client, body).await,
        Kind::Rule => elb::read_rule(client, body).await,
        Kind::Secret => secrets::read_secret(client, body).await,
        Kind::Parameter => secrets::read_parameter(client, body).await,
    }
}

/// The ARN of what is there under a name; None if nothing is.
pub(super) async fn arn_of(client: &ApiClient, kind: Kind, name: &str) -> anyhow::Result<Option<String>> {
    let parts = |text: &str| text.rsplit_once(':').map(|(owner, last)| (owner.to_owned(), last.to_owned()));
    match kind {
        Kind::TaskDefinition => ecs::definition_arn(client, name).await,
        Kind::TargetGroup => elb::group_arn(client, name).await,
        Kind::LoadBalancer => elb::balancer_arn(client, name).await,
        Kind::Listener => {
            let Some((balancer, port)) = parts(name) else {
                bail!("a listener is named LOADBALANCER:PORT, not {name:?}");
            };
            elb::listener_arn(client, &balancer, &port).await
        }
        Kind::Rule => {
            let Some((listener, priority)) = parts(name) else {
                bail!("a rule is named LOADBALANCER:PORT:PRIORITY, not {name:?}");
            };
            let Some((balancer, port)) = parts(&listener) else {
                bail!("a rule is named LOADBALANCER:PORT:PRIORITY, not {name:?}");
            };
            elb::rule_arn(client, &balancer, &port, &priority).await
        }
        Kind::Cluster | Kind::Service | Kind::Secret | Kind::Parameter => Ok(None),
    }
}

/// Makes an item, or registers a new revision of it, and gives its ARN.
pub(super) async fn create(
    client: &ApiClient,
    kind: Kind,
    body: &Map<String, Value>,
) -> anyhow::Result<String> {
    match kind {
        Kind::Cluster => ecs::create(client, "CreateCluster", body, "/cluster/clusterArn").await,
        Kind::TaskDefinition => {
            ecs::create(client, "RegisterTaskDefinition", body, "/taskDefinition/taskDefinitionArn").await
        }
        Kind::Service => ecs::create(client, "CreateService", body, "/service/serviceArn").await,
        Kind::TargetGroup => elb::create_target_group(client, body).await,
        Kind::LoadBalancer => elb::create_load_balancer(client, body).await,
        Kind::Listener => elb::create_listener(client, body).await,
        Kind::Rule => elb::create_rule(client, body).await,
        Kind::Secret => secrets::create_secret(client, body).await,
        Kind::Parameter => secrets::put_parameter(client, body).await,
    }
}

/// Changes what is there into what is declared.
pub(super) async fn update(
    client: &ApiClient,
    kind: Kind,
    current: &Current,
    body: &Map<String, Value>,
    changes: &[Change],
) -> anyhow::Result<()> {
    let update = Update { client, current, body, changes };
    match kind {
        Kind::Cluster => ecs::update_cluster(update).await,
        Kind::TaskDefinition => ecs::update_task_definition(update).await,
        Kind::Service => ecs::update_service(update).await,
        Kind::TargetGroup => elb::update_target_group(update).await,
        Kind::LoadBalancer => elb::update_load_balancer(update).await,
        Kind::Listener => elb::update_listener(update).await,
        Kind::Rule => elb::update_rule(update).await,
        Kind::Secret => secrets::update_secret(update).await,
        Kind::Parameter => secrets::put_parameter(client, body).await.map(drop),
    }
}

/// Removes what is there.
pub(super) async fn delete(client: &ApiClient, kind: Kind, current: &Current) -> anyhow::Result<()> {
    match kind {
        Kind::Cluster => ecs::delete_cluster(client, current).await,
        Kind::TaskDefinition => ecs::deregister_all(client, current).await,
        Kind::Service => ecs::delete_service(client, current).await,
        Kind::TargetGroup => elb::delete(client, "DeleteTargetGroup", "TargetGroupArn", current).await,
        Kind::LoadBalancer => elb::delete(client, "DeleteLoadBalancer", "LoadBalancerArn", current).await,
        Kind::Listener => elb::delete(client, "DeleteListener", "ListenerArn", current).await,
        Kind::Rule => elb::delete(client, "DeleteRule", "RuleArn", current).await,
        Kind::Secret => secrets::delete_secret(client, current).await,
        Kind::Parameter => secrets::delete_parameter(client, current).await,
    }
}

/// The members of an item of this kind that can be changed; None if all can.
pub(super) fn changeable(kind: Kind) -> Option<Vec<&'static str>> {
    use coracle_protocol::{ecs, elb};
    let members = |shape: Option<&'static Shape>| match shape {
        Some(Shape::Object(members)) => members.iter().map(|(name, _)| *name).collect(),
        _ => Vec::new(),
    };
    match kind {
        Kind::Service => Some(members(ecs::inputs::of("UpdateService"))),
        Kind::TargetGroup => Some(members(elb::inputs::of("ModifyTargetGroup"))),
        Kind::LoadBalancer => Some(vec!["Subnets", "SecurityGroups", "IpAddressType"]),
        Kind::Parameter => Some(vec!["Value", "Description"]),
        _ => None,
    }
}

/// An item that is to be changed.
#[derive(Clone, Copy)]
struct Update<'a> {
    client: &'a ApiClient,
    current: &'a Current,
    body: &'a Map<String, Value>,
    changes: &'a [Change],
}

impl Update<'_> {
    /// Whether a member differs.
    fn has(&self, member: &str) -> bool {
        self.changes.iter().any(|change| change.member() == member)
    }

    /// The declared members that differ, of those given.
    fn differing(&self, members: &[&str]) -> Map<String, Value> {
        let wanted = members.iter().filter(|member| self.has(member));
        wanted.filter_map(|member| Some(((*member).to_owned(), self.body.get(*member)?.clone()))).collect()
    }
}

/// Whether this says that something is not there.
fn is_missing(error: &anyhow::Error) -> bool {
    let name = error.downcast_ref::<ApiError>().and_then(|error| error.name.as_deref());
    name.is_some_and(|name| {
        name.ends_with("NotFound") || name.ends_with("NotFoundException") || name == "ParameterNotFound"
    })
}

/// An answer, or nothing where something is not there.
fn or_missing(answer: anyhow::Result<Value>) -> anyhow::Result<Option<Value>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tags as a map, whatever their members are called.
pub(super) fn tags(list: &Value) -> Tags {
    let one = |tag: &Value| {
        let text = |small: &str, large: &str| {
            tag.get(small).or_else(|| tag.get(large)).and_then(Value::as_str).map(str::to_owned)
        };
        Some((text("key", "Key")?, text("value", "Value").unwrap_or_default()))
    };
    list.as_array().into_iter().flatten().filter_map(one).collect()
}

/// The string at a place of an answer.
fn text_at(answer: &Value, pointer: &str) -> anyhow::Result<String> {
    match answer.pointer(pointer).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => bail!("the answer has no {}: {answer}", pointer.rsplit('/').next().unwrap_or(pointer)),
    }
}
