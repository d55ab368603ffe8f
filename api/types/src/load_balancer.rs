//! Which target groups a service's tasks are registered in.

use serde_json::Value;

use crate::elb::TargetGroupId;
use crate::placement::{items, text};
use crate::task_definition::JsonMap;

/// One of `loadBalancers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLoadBalancer {
    /// The target group.
    pub target_group: String,
    /// The container that answers.
    pub container_name: String,
    /// The port of it.
    pub container_port: u16,
    /// `advancedConfiguration`, for deployments that shift traffic.
    pub advanced: Option<AdvancedConfiguration>,
}

/// What a deployment that shifts traffic works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvancedConfiguration {
    /// The target group that is the other one of the pair: deployments take turns in the two.
    pub alternate_target_group: String,
    /// The listener rule whose weights are shifted.
    pub production_rule: String,
    /// The listener rule that leads to the new tasks before production traffic does.
    pub test_rule: Option<String>,
}

const ADVANCED: &str = "advancedConfiguration";

impl ServiceLoadBalancer {
    /// The `loadBalancers` among members that were kept as sent. Those without a target group are left out.
    #[must_use]
    pub fn all(rest: &JsonMap) -> Vec<Self> {
        items(rest, "loadBalancers").filter_map(Self::read).collect()
    }

    /// Whether one of the `loadBalancers` among these members has the group, or has it for the alternate one. Reads less
    /// than [`Self::all`].
    #[must_use]
    pub fn any_has_group(rest: &JsonMap, group: &TargetGroupId) -> bool {
        // What an ARN ends with is the group's alone.
        let end = format!("/{}", group.number);
        items(rest, "loadBalancers").any(|item| {
            let alternate = item.get(ADVANCED).and_then(|advanced| text(advanced, "alternateTargetGroupArn"));
            let groups = [text(item, "targetGroupArn"), alternate];
            groups.into_iter().flatten().any(|arn| arn.ends_with(&end))
        })
    }

    /// Whether one of the `loadBalancers` among these members names rules whose weights are shifted.
    #[must_use]
    pub fn any_shifts(rest: &JsonMap) -> bool {
        items(rest, "loadBalancers").any(|item| item.get(ADVANCED).is_some())
    }

    fn read(item: &Value) -> Option<Self> {
        Some(Self {
            target_group: text(item, "targetGroupArn")?.to_owned(),
            container_name: text(item, "containerName").unwrap_or_default().to_owned(),
            container_port: item
                .get("containerPort")
                .and_then(Value::as_u64)
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(0),
            advanced: item.get(ADVANCED).and_then(AdvancedConfiguration::read),
        })
    }

    /// The same with the two target groups exchanged, if there are two.
    #[must_use]
    pub fn alternate(mut self) -> Self {
        if let Some(advanced) = &mut self.advanced {
            std::mem::swap(&mut self.target_group, &mut advanced.alternate_target_group);
        }
        self
    }
}

impl AdvancedConfiguration {
    fn read(item: &Value) -> Option<Self> {
        Some(Self {
            alternate_target_group: text(item, "alternateTargetGroupArn")?.to_owned(),
            production_rule: text(item, "productionListenerRule")?.to_owned(),
            test_rule: text(item, "testListenerRule").map(str::to_owned),
        })
    }
}
