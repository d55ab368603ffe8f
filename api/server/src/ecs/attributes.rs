//! Attributes that people put on container instances.

use coracle_protocol::ecs::attribute::{
    self as wire, ATTRIBUTES_MAX, AttributeInput, ChangeAttributes, ListAttributes,
};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Arn, Changes, ClusterId, Node, NodeId, Resource, State};
use serde_json::Value;

use super::container_instances::find;
use super::reference;
use crate::api::{Api, Caller};

/// Changes the attributes of nodes one by one, each as `edit` says; answers with those it says were changed.
async fn change(
    api: &Api,
    caller: &Caller,
    members: Members,
    edit: impl Fn(&mut Node, &AttributeInput) -> Result<bool, ApiError>,
) -> Result<Value, ApiError> {
    let request = ChangeAttributes::decode(members)?;
    let (_, shown) = api
        .transact(|state| {
            let cluster = reference::cluster(state, caller, request.cluster.as_deref())?;
            let mut nodes: Vec<Node> = Vec::new();
            let mut shown = Vec::new();
            for attribute in &request.attributes {
                let at = position(state, &cluster, attribute, &mut nodes)?;
                if edit(&mut nodes[at], attribute)? {
                    let target = arn(api, &cluster, nodes[at].id);
                    shown.push(wire::attribute(&attribute.name, attribute.value.as_deref(), &target));
                }
            }
            let mut changes = Changes::new();
            nodes.into_iter().for_each(|node| changes.put(node));
            Ok((changes, shown))
        })
        .await?;
    Ok(wire::attributes(shown, None))
}

/// Where in `nodes` the target of an attribute is; it is added if it was not there.
fn position(
    state: &State,
    cluster: &ClusterId,
    attribute: &AttributeInput,
    nodes: &mut Vec<Node>,
) -> Result<usize, ApiError> {
    let given = attribute.target.as_deref().unwrap_or_default();
    let not_found = || {
        ApiError::TargetNotFound(format!(
            "The specified target {:?} was not found. Specify a container instance of the cluster.",
            given.chars().take(300).collect::<String>()
        ))
    };
    let id = reference::node_id(cluster, given)?;
    if let Some(at) = nodes.iter().position(|node| node.id == id) {
        return Ok(at);
    }
    nodes.push(Node::clone(find(state, cluster, id).ok_or_else(not_found)?));
    Ok(nodes.len() - 1)
}

fn arn(api: &Api, cluster: &ClusterId, node: NodeId) -> String {
    Arn::new(api.account(), Resource::ContainerInstance(cluster.clone(), node)).to_string()
}

/// PutAttributes.
pub(super) async fn put(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    change(api, caller, members, |node, attribute| {
        node.attributes.insert(attribute.name.clone(), attribute.value.clone());
        let custom = node.attributes.keys().filter(|name| wire::is_custom(name)).count();
        if custom > ATTRIBUTES_MAX { Err(ApiError::AttributeLimitExceeded) } else { Ok(true) }
    })
    .await
}

/// DeleteAttributes: those that are there, with the value that was given, if one was.
pub(super) async fn delete(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    change(api, caller, members, |node, attribute| {
        let is_meant = node
            .attributes
            .get(&attribute.name)
            .is_some_and(|value| attribute.value.is_none() || *value == attribute.value);
        if is_meant {
            node.attributes.remove(&attribute.name);
        }
        Ok(is_meant)
    })
    .await
}

/// ListAttributes.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListAttributes::decode(members)?;
    let state = api.store.snapshot();
    let cluster = reference::cluster(&state, caller, request.cluster.as_deref())?;
    let all = super::container_instances::of_cluster(&state, &cluster).flat_map(|node| {
        node.attributes.iter().map(move |(name, value)| (node.id, name.as_str(), value.as_deref()))
    });
    let wanted = all.filter(|(_, name, value)| {
        request.name.as_deref().is_none_or(|wanted| wanted == *name)
            && request.value.as_deref().is_none_or(|wanted| Some(wanted) == *value)
    });
    let page = request.page.of(
        "attributes",
        wanted,
        |(node, name, _)| (*node, (*name).to_owned()),
        |(node, name)| format!("{node} {name}"),
        |text| {
            let (node, name) = text.split_once(' ')?;
            Some((node.parse().ok()?, name.to_owned()))
        },
    )?;
    let shown = page.items.into_iter();
    let shown = shown.map(|(node, name, value)| wire::attribute(name, value, &arn(api, &cluster, node)));
    Ok(wire::attributes(shown.collect(), page.next))
}
