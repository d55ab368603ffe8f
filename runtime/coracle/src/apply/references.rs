//! References by name: a service names the family it runs, an action the target group it forwards to. Before a
//! request is sent, each becomes the ARN that AWS's requests take.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::manifest::{Item, Kind};
use super::remote;
use crate::client::ApiClient;

/// What names mean.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The ARN of what a file declares; None for what is still to be made, or made anew.
    declared: BTreeMap<(Kind, String), Option<String>>,
}

impl Names {
    /// Notes what the name of an item stands for.
    pub(super) fn declare(&mut self, item: &Item, arn: Option<String>) {
        self.declared.insert((item.kind, item.name.clone()), arn);
    }

    /// The item's members with ARNs in place of names.
    pub(super) async fn resolve(
        &self,
        client: &ApiClient,
        item: &Item,
    ) -> anyhow::Result<Map<String, Value>> {
        let mut body = Value::Object(item.body.clone());
        for Reference { pointer, kind } in references(item.kind, &body) {
            let Some(Value::String(name)) = body.pointer_mut(&pointer) else { continue };
            let place = item.place.within(&pointer_path(&pointer));
            // The name of what is yet to be made stays.
            if let Some(arn) = self.arn(client, kind, name).await.with_context(|| place.to_string())? {
                *name = arn;
            }
        }
        match body {
            Value::Object(body) => Ok(body),
            _ => bail!("an item is an object"),
        }
    }

    /// The ARN that a name stands for; None if it is yet to be made.
    async fn arn(&self, client: &ApiClient, kind: Kind, name: &str) -> anyhow::Result<Option<String>> {
        if name.starts_with("arn:") && kind != Kind::TaskDefinition {
            return Ok(Some(name.to_owned()));
        }
        if let Some(declared) = self.declared.get(&(kind, name.to_owned())) {
            return Ok(declared.clone());
        }
        match kind {
            // Perhaps one of its JSON's members is meant; else it is a parameter, or something there already.
            Kind::Secret => {
                let (secret, member) = name.split_once(':').unwrap_or((name, ""));
                Ok(match self.declared.get(&(kind, secret.to_owned())) {
                    Some(arn) => arn.as_ref().map(|arn| format!("{arn}:{member}")),
                    None => Some(name.to_owned()),
                })
            }
            // What does not exist yet can be meant by a rule of a listener that is yet to be made.
            Kind::Rule | Kind::Listener if self.is_part_of_declared(name) => Ok(None),
            _ => match remote::arn_of(client, kind, name).await? {
                Some(arn) => Ok(Some(arn)),
                None => bail!(
                    "there is no {kind} {name:?}, neither in what is applied nor at {}",
                    client.endpoint()
                ),
            },
        }
    }

    /// Whether a listener's or a rule's name begins with that of a load balancer or listener to be made.
    fn is_part_of_declared(&self, name: &str) -> bool {
        let Some((owner, _)) = name.rsplit_once(':') else { return false };
        [Kind::LoadBalancer, Kind::Listener]
            .into_iter()
            .any(|kind| matches!(self.declared.get(&(kind, owner.to_owned())), Some(None)))
    }
}

/// A place that names another item.
struct Reference {
    pointer: String,
    kind: Kind,
}

/// Every place in an item's members that can name another item.
fn references(kind: Kind, body: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut add = |pointer: String, kind: Kind| {
        if body.pointer(&pointer).is_some_and(Value::is_string) {
            found.push(Reference { pointer, kind });
        }
    };
    let length = |pointer: &str| body.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    match kind {
        Kind::TaskDefinition => {
            for container in 0..length("/containerDefinitions") {
                let secrets = format!("/containerDefinitions/{container}/secrets");
                for secret in 0..length(&secrets) {
                    add(format!("{secrets}/{secret}/valueFrom"), Kind::Secret);
                }
            }
        }
        Kind::Listener | Kind::Rule => {
            let (owner, owner_kind, actions) = match kind {
                Kind::Listener => ("/LoadBalancerArn", Kind::LoadBalancer, "/DefaultActions"),
                _ => ("/ListenerArn", Kind::Listener, "/Actions"),
            };
            add(owner.to_owned(), owner_kind);
            for action in 0..length(actions) {
                add(format!("{actions}/{action}/TargetGroupArn"), Kind::TargetGroup);
                let groups = format!("{actions}/{action}/ForwardConfig/TargetGroups");
                for group in 0..length(&groups) {
                    add(format!("{groups}/{group}/TargetGroupArn"), Kind::TargetGroup);
                }
            }
        }
        Kind::Service => {
            add("/taskDefinition".to_owned(), Kind::TaskDefinition);
            for balancer in 0..length("/loadBalancers") {
                let balancer = format!("/loadBalancers/{balancer}");
                add(format!("{balancer}/targetGroupArn"), Kind::TargetGroup);
                add(format!("{balancer}/advancedConfiguration/alternateTargetGroupArn"), Kind::TargetGroup);
                add(format!("{balancer}/advancedConfiguration/productionListenerRule"), Kind::Rule);
                add(format!("{balancer}/advancedConfiguration/testListenerRule"), Kind::Rule);
            }
        }
        Kind::Cluster | Kind::Secret | Kind::Parameter | Kind::TargetGroup | Kind::LoadBalancer => {}
    }
    found
}

/// `/a/0/b` as `a[0].b`.
fn pointer_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_another_item_is_found() {
        let found = |kind: Kind, body: Value| -> Vec<String> {
            let one =
                |reference: &Reference| format!("{} {}", pointer_path(&reference.pointer), reference.kind);
            references(kind, &body).iter().map(one).collect()
        };
        let service = json!({
            "taskDefinition": "web", "loadBalancers": [
                {"targetGroupArn": "a", "advancedConfiguration": {"productionListenerRule": "shop:80:1"}},
                {"loadBalancerName": "classic"},
            ],
        });
        let expected = [
            "taskDefinition task definition",
            "loadBalancers[0].targetGroupArn target group",
            "loadBalancers[0].advancedConfiguration.productionListenerRule rule",
        ];
        assert_eq!(found(Kind::Service, service), expected);
        let actions =
            json!([{"TargetGroupArn": "a"}, {"ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "b"}]}}]);
        let rule = json!({"ListenerArn": "shop:80", "Actions": actions});
        let expected = [
            "ListenerArn listener",
            "Actions[0].TargetGroupArn target group",
            "Actions[1].ForwardConfig.TargetGroups[0].TargetGroupArn target group",
        ];
        assert_eq!(found(Kind::Rule, rule), expected);
        let definition = json!({"containerDefinitions": [{"secrets": [{"name": "A", "valueFrom": "db"}]}]});
        assert_eq!(
            found(Kind::TaskDefinition, definition),
            ["containerDefinitions[0].secrets[0].valueFrom secret"]
        );
    }
}
