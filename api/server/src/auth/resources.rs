//! What a request is about, in policies' terms: the ARNs of the resources it names, and what conditions
//! can ask about it.
//!
//! From the members of the request alone, as they came: whether they name something that exists is asked
//! later, by who does it, and a request that is refused there has told its sender nothing that this table
//! kept from it. Source: the service authorization reference, "Actions, resources, and condition keys" of
//! each service.

use coracle_types::{AccountId, Arn, FamilyId, State, TaskDefinitionId, TaskDefinitionStatus};
use serde_json::Value;

use super::condition::Context;
use crate::api::Caller;
use crate::dispatch::{Operation, Service};

/// What an action is done to when it is done to nothing in particular.
const ANYTHING: &str = "*";

/// A request, as its resources are found.
pub(super) struct Request<'a> {
    pub(super) state: &'a State,
    pub(super) account: AccountId,
    pub(super) caller: &'a Caller,
    pub(super) operation: &'a Operation,
    pub(super) body: &'a Value,
}

impl Request<'_> {
    /// The ARNs of what it is about. Never empty.
    pub(super) fn resources(&self) -> Vec<String> {
        let found = match self.operation.service {
            Service::Ecs => self.ecs(),
            Service::Elb => self.elb(),
            Service::Acm => self.texts(&["CertificateArn"]),
            Service::CloudWatch => self.alarms(),
            Service::Logs => self.logs(),
            Service::Iam => self.iam(),
            Service::SecretsManager => self.secrets(),
            Service::Ssm => self.parameters(),
            Service::Sts => self.texts(&["RoleArn"]),
        };
        if found.is_empty() { vec![ANYTHING.to_owned()] } else { found }
    }

    /// Secrets, by their ARNs; one that is not there by the ARN it would have up to its last six characters.
    fn secrets(&self) -> Vec<String> {
        let region = &self.caller.region;
        self.texts(&["SecretId", "Name"])
            .iter()
            .map(|given| {
                match self.state.secrets.values().find(|found| {
                    let secret = &found.value;
                    secret.id.region == *region
                        && (secret.id.name == *given
                            || given.ends_with(&format!(":{}", secret.arn_name()))
                            || given.ends_with(&format!(":{}", secret.id.name)))
                }) {
                    Some(found) => coracle_protocol::secretsmanager::arn(self.account, &found.value),
                    None if given.starts_with("arn:") => given.clone(),
                    None => format!("arn:aws:secretsmanager:{region}:{}:secret:{given}-", self.account),
                }
            })
            .collect()
    }

    /// Parameters and paths, by their ARNs, without what selects a version.
    fn parameters(&self) -> Vec<String> {
        let names = self.body.get("Names").and_then(Value::as_array).into_iter().flatten();
        let names = names.filter_map(Value::as_str).map(str::to_owned);
        self.texts(&["Name", "Path"])
            .into_iter()
            .chain(names)
            .map(|given| {
                let name = crate::secrets::parameters::plain_name(&given);
                coracle_protocol::ssm::arn(self.account, &self.caller.region, &name)
            })
            .collect()
    }

    /// Adds what conditions can ask about this service's requests.
    pub(super) fn add_to(&self, context: &mut Context) {
        for list in ["tags", "Tags"] {
            for tag in self.body.get(list).and_then(Value::as_array).into_iter().flatten() {
                let text = |small, large| tag.get(small).or(tag.get(large)).and_then(Value::as_str);
                if let (Some(key), Some(value)) = (text("key", "Key"), text("value", "Value")) {
                    context.add(&format!("aws:RequestTag/{key}"), value);
                    context.add("aws:TagKeys", key);
                }
            }
        }
        if self.operation.service == Service::CloudWatch
            && let Some(namespace) = self.body.get("Namespace").and_then(Value::as_str)
        {
            context.add("cloudwatch:namespace", namespace);
        }
        if self.operation.service != Service::Ecs {
            return;
        }
        if self.is_in_cluster() {
            context.add("ecs:cluster", self.cluster_arn());
        }
        for service in self.texts(&["service", "serviceName"]) {
            context.add("ecs:service", self.service_arn(&service));
        }
        if let Some(container) = self.body.get("container").and_then(Value::as_str) {
            context.add("ecs:container-name", container);
        }
        if let Some(enabled) = self.body.get("enableExecuteCommand").and_then(Value::as_bool) {
            context.add("ecs:enable-execute-command", if enabled { "true" } else { "false" });
        }
        if let Some(definition) = self.body.get("taskDefinition").and_then(Value::as_str) {
            context.add("ecs:task-definition", self.definition_arn(definition));
        }
    }

    /// The roles it hands to tasks, which needs `iam:PassRole` on each.
    pub(super) fn passed_roles(&self) -> Vec<String> {
        if self.operation.service != Service::Ecs {
            return Vec::new();
        }
        let overrides = self.body.get("overrides");
        let members = [Some(self.body), overrides];
        let roles = members.into_iter().flatten().flat_map(|members| {
            ["taskRoleArn", "executionRoleArn"].map(|name| members.get(name).and_then(Value::as_str))
        });
        roles
            .flatten()
            .filter(|role| !role.is_empty())
            .map(|role| match role.starts_with("arn:") {
                true => role.to_owned(),
                false => format!("arn:aws:iam::{}:role/{role}", self.account),
            })
            .collect()
    }

    /// The texts of these members, and of the lists they may be.
    fn texts(&self, names: &[&str]) -> Vec<String> {
        let members = names.iter().filter_map(|name| self.body.get(*name));
        let texts = members.flat_map(|value| match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        });
        texts.filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    fn arn_of(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.caller.region, self.account)
    }

    fn ecs(&self) -> Vec<String> {
        let each = |names: &[&str], arn: &dyn Fn(&str) -> String| -> Vec<String> {
            self.texts(names).iter().map(|text| arn(text)).collect()
        };
        let in_cluster = |kind: &'static str| move |id: &str| self.in_cluster_arn(kind, id);
        match self.operation.name.as_str() {
            "CreateCluster" => {
                let names = self.texts(&["clusterName"]);
                let name = names.first().map_or("default", String::as_str);
                vec![self.arn_of("ecs", &format!("cluster/{name}"))]
            }
            "DescribeClusters" => {
                let named = each(&["clusters"], &|given| self.cluster_arn_of(Some(given)));
                if named.is_empty() { vec![self.cluster_arn_of(None)] } else { named }
            }
            "CreateService" => each(&["serviceName"], &|name| self.service_arn(name)),
            "DescribeServices" => each(&["services"], &|name| self.service_arn(name)),
            "DescribeTasks" | "GetTaskProtection" | "UpdateTaskProtection" => {
                each(&["tasks"], &in_cluster("task"))
            }
            "StopTask" | "ExecuteCommand" => each(&["task"], &in_cluster("task")),
            "RunTask" | "StartTask" => each(&["taskDefinition"], &|given| self.definition_arn(given)),
            "DeleteTaskDefinitions" => each(&["taskDefinitions"], &|given| self.definition_arn(given)),
            "RegisterTaskDefinition" => {
                each(&["family"], &|family| self.arn_of("ecs", &format!("task-definition/{family}:*")))
            }
            "DescribeContainerInstances" | "UpdateContainerInstancesState" => {
                each(&["containerInstances"], &in_cluster("container-instance"))
            }
            "DeregisterContainerInstance" | "UpdateContainerAgent" => {
                each(&["containerInstance"], &in_cluster("container-instance"))
            }
            "CreateCapacityProvider" | "UpdateCapacityProvider" => {
                each(&["name"], &|name| self.arn_of("ecs", &format!("capacity-provider/{name}")))
            }
            "DeleteCapacityProvider" => each(&["capacityProvider"], &|name| {
                if name.starts_with("arn:") {
                    name.to_owned()
                } else {
                    self.arn_of("ecs", &format!("capacity-provider/{name}"))
                }
            }),
            "TagResource" | "UntagResource" | "ListTagsForResource" => {
                each(&["resourceArn"], &|arn| self.printed(arn))
            }
            // Which have no resources in policies, only conditions.
            "ListServices"
            | "ListTaskDefinitions"
            | "ListTaskDefinitionFamilies"
            | "DescribeTaskDefinition"
            | "DeregisterTaskDefinition"
            | "ListClusters"
            | "DescribeCapacityProviders" => Vec::new(),
            "ListTasks" => match self.texts(&["containerInstance"]) {
                instances if instances.is_empty() => vec![self.in_cluster_arn("container-instance", "*")],
                instances => {
                    instances.iter().map(|id| self.in_cluster_arn("container-instance", id)).collect()
                }
            },
            _ => {
                let services = each(&["service"], &|name| self.service_arn(name));
                match services.is_empty() {
                    false => services,
                    true if self.is_in_cluster() => vec![self.cluster_arn()],
                    true => Vec::new(),
                }
            }
        }
    }

    /// Whether the operation is one that happens in a cluster, named or `default`.
    fn is_in_cluster(&self) -> bool {
        let name = self.operation.name.as_str();
        let elsewhere = [
            "TaskDefinition",
            "AccountSetting",
            "CapacityProvider",
            "ResourceS",
            "TagResource",
            "UntagResource",
            "TagsForResource",
            "CreateCluster",
            "DescribeClusters",
            "ListClusters",
            "ByNamespace",
            "ServiceRevisions",
            "ServiceDeployments",
            "Gateway",
        ];
        self.body.get("cluster").is_some_and(|cluster| !cluster.is_null())
            || name == "PutClusterCapacityProviders"
            || !elsewhere.iter().any(|part| name.contains(part))
    }

    fn cluster_arn(&self) -> String {
        self.cluster_arn_of(self.body.get("cluster").and_then(Value::as_str))
    }

    fn cluster_arn_of(&self, given: Option<&str>) -> String {
        match given {
            Some(arn) if arn.starts_with("arn:") => self.printed(arn),
            None | Some("") => self.arn_of("ecs", "cluster/default"),
            Some(name) => self.arn_of("ecs", &format!("cluster/{name}")),
        }
    }

    /// The name of the cluster the request is about.
    fn cluster_name(&self) -> String {
        let arn = self.cluster_arn();
        arn.rsplit('/').next().unwrap_or("default").to_owned()
    }

    fn service_arn(&self, given: &str) -> String {
        if given.starts_with("arn:") {
            return self.in_our_cluster(given).unwrap_or_else(|| self.printed(given));
        }
        self.arn_of("ecs", &format!("service/{}/{given}", self.cluster_name()))
    }

    fn in_cluster_arn(&self, kind: &str, given: &str) -> String {
        if given.starts_with("arn:") {
            return self.in_our_cluster(given).unwrap_or_else(|| self.printed(given));
        }
        self.arn_of("ecs", &format!("{kind}/{}/{given}", self.cluster_name()))
    }

    /// An ARN of the old kind names no cluster: it means the request's own.
    fn in_our_cluster(&self, arn: &str) -> Option<String> {
        let resource = arn.rsplit(':').next()?;
        let (kind, name) = resource.split_once('/').filter(|(_, name)| !name.contains('/'))?;
        Some(self.arn_of("ecs", &format!("{kind}/{}/{name}", self.cluster_name())))
    }

    /// A task definition; its latest revision where the request names none.
    fn definition_arn(&self, given: &str) -> String {
        if given.starts_with("arn:") {
            return self.printed(given);
        }
        if given.contains(':') {
            return self.arn_of("ecs", &format!("task-definition/{given}"));
        }
        let revision =
            self.latest_revision(given).map_or_else(|| "*".to_owned(), |latest| latest.to_string());
        self.arn_of("ecs", &format!("task-definition/{given}:{revision}"))
    }

    /// The revision a family alone means: the latest ACTIVE one.
    fn latest_revision(&self, family: &str) -> Option<u32> {
        let family = FamilyId { region: self.caller.region.clone(), family: family.parse().ok()? };
        let latest = self.state.families.get(&family)?.value.latest;
        (1..=latest).rev().find(|revision| {
            let FamilyId { region, family } = family.clone();
            let id = TaskDefinitionId { region, family, revision: *revision };
            let found = self.state.task_definitions.get(&id);
            found.is_some_and(|found| found.value.status == TaskDefinitionStatus::Active)
        })
    }

    /// An ECS ARN as we would print it, because people shorten and invent accounts.
    fn printed(&self, given: &str) -> String {
        match given.parse::<Arn>() {
            Ok(arn) => Arn::new(self.account, arn.resource).to_string(),
            Err(_) => given.to_owned(),
        }
    }

    fn elb(&self) -> Vec<String> {
        let named = |kind: &str| -> Vec<String> {
            let names = self.texts(&["Name"]);
            names
                .iter()
                .map(|name| self.arn_of("elasticloadbalancing", &format!("{kind}/{name}/*")))
                .collect()
        };
        match self.operation.name.as_str() {
            "CreateLoadBalancer" => named("loadbalancer/app"),
            "CreateTargetGroup" => named("targetgroup"),
            // Which have no resources in policies.
            name if name.starts_with("Describe") => Vec::new(),
            "SetRulePriorities" => {
                let pairs = self.body.get("RulePriorities").and_then(Value::as_array).into_iter().flatten();
                pairs.filter_map(|pair| pair.get("RuleArn")?.as_str()).map(str::to_owned).collect()
            }
            _ => self.texts(&["LoadBalancerArn", "ListenerArn", "TargetGroupArn", "RuleArn", "ResourceArns"]),
        }
    }

    fn logs(&self) -> Vec<String> {
        let groups = self.texts(&["logGroupName", "logGroupIdentifier", "logGroupNamePrefix"]);
        let arn = |name: &String| {
            let name = name.rsplit(":log-group:").next().unwrap_or(name).trim_end_matches(":*");
            self.arn_of("logs", &format!("log-group:{name}:*"))
        };
        groups.iter().map(arn).collect()
    }

    fn alarms(&self) -> Vec<String> {
        let named = self.texts(&["AlarmName", "AlarmNames"]);
        let arns = named.iter().map(|name| self.arn_of("cloudwatch", &format!("alarm:{name}")));
        arns.chain(self.texts(&["ResourceARN"])).collect()
    }

    fn iam(&self) -> Vec<String> {
        let named = |member: &str, kind: &str| -> Vec<String> {
            let names = self.texts(&[member]);
            names.iter().map(|name| format!("arn:aws:iam::{}:{kind}/{name}", self.account)).collect()
        };
        // These name a user, too, and are about the group. Nothing else is, whatever else its body says.
        let is_membership = matches!(self.operation.name.as_str(), "AddUserToGroup" | "RemoveUserFromGroup");
        let found = [
            if is_membership { Vec::new() } else { named("UserName", "user") },
            named("GroupName", "group"),
            named("RoleName", "role"),
            self.texts(&["PolicySourceArn"]),
        ]
        .concat();
        if !found.is_empty() {
            return found;
        }
        match self.operation.name.as_str() {
            "CreatePolicy" => named("PolicyName", "policy"),
            _ => self.texts(&["PolicyArn"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_beside_a_user_hides_nobody() {
        let caller = Caller::root("us-east-1".parse().unwrap());
        let (state, body) = (State::default(), json!({"UserName": "admin", "GroupName": "devs"}));
        let resources = |name: &str| {
            let operation = Operation {
                service: Service::Iam,
                name: name.to_owned(),
                wire: coracle_protocol::Wire::Query,
            };
            let account = AccountId::default();
            Request { state: &state, account, caller: &caller, operation: &operation, body: &body }
                .resources()
        };
        let arn = |what: &str| format!("arn:aws:iam::{}:{what}", AccountId::default());
        assert_eq!(resources("PutUserPolicy"), [arn("user/admin"), arn("group/devs")]);
        assert_eq!(resources("AddUserToGroup"), [arn("group/devs")]);
    }

    #[test]
    fn a_policy_can_ask_for_the_namespace_of_values() {
        let caller = Caller::root("us-east-1".parse().unwrap());
        let (state, body) = (State::default(), json!({"Namespace": "Shop"}));
        let operation = Operation {
            service: Service::CloudWatch,
            name: "PutMetricData".to_owned(),
            wire: coracle_protocol::Wire::Cbor,
        };
        let account = AccountId::default();
        let mut context = Context::default();
        Request { state: &state, account, caller: &caller, operation: &operation, body: &body }
            .add_to(&mut context);
        let condition = json!({"StringEquals": {"cloudwatch:namespace": "Shop"}});
        let conditions = crate::auth::condition::Condition::read_all(&condition).unwrap();
        assert!(conditions.iter().all(|condition| condition.holds(&context)));
    }
}
