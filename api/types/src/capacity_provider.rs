//! Capacity providers and the strategies that name them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::CapacityProviderId;
use crate::placement::text;
use crate::tags::Tags;
use crate::task::LaunchType;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// Whether a capacity provider takes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapacityProviderStatus {
    /// It does.
    Active,
    /// Deleted; still described for a while.
    Inactive,
}

/// A group of nodes that strategies can name. FARGATE and FARGATE_SPOT are built in and have no record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityProvider {
    /// Its name and region.
    pub id: CapacityProviderId,
    /// Whether it takes tasks.
    pub status: CapacityProviderStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members kept as sent: autoScalingGroupProvider, managedInstancesProvider, cluster.
    #[serde(default)]
    pub rest: JsonMap,
}

/// One item of a `capacityProviderStrategy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategyItem {
    /// The provider, by its bare name.
    pub provider: String,
    /// Its share of the tasks beyond all bases.
    pub weight: u32,
    /// Tasks it gets first.
    pub base: u32,
}

/// The items of a `capacityProviderStrategy`, as it was sent.
#[must_use]
pub fn strategy_items(strategy: &Value) -> Vec<StrategyItem> {
    let number = |item: &Value, member: &str| {
        item.get(member).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
    };
    let items = strategy.as_array().into_iter().flatten();
    items
        .filter_map(|item| {
            let provider = text(item, "capacityProvider")?;
            // An ARN ends with the name.
            let provider = provider.rsplit('/').next().unwrap_or(provider).to_owned();
            Some(StrategyItem { provider, weight: number(item, "weight"), base: number(item, "base") })
        })
        .collect()
}

/// How the CPU units of tasks that a provider takes are meant: FARGATE and FARGATE_SPOT cap them, every other
/// provider is made of nodes, whose tasks share.
#[must_use]
pub fn launch_type_of(provider: &str) -> LaunchType {
    match provider {
        "FARGATE" | "FARGATE_SPOT" => LaunchType::Fargate,
        _ => LaunchType::Ec2,
    }
}

/// The provider of a strategy that the next task goes to, when each provider has as many as `have` says: first
/// whoever is short of its base, then the one whose share of the rest is furthest below its weight. None when
/// the strategy is empty.
#[must_use]
pub fn next_provider(items: &[StrategyItem], have: impl Fn(&str) -> usize) -> Option<&str> {
    let count = |item: &StrategyItem| u64::try_from(have(&item.provider)).unwrap_or(u64::MAX);
    if let Some(short) = items.iter().find(|item| count(item) < u64::from(item.base)) {
        return Some(&short.provider);
    }
    // The smallest (tasks beyond the base + 1) / weight goes next; compared crosswise, to stay exact.
    let beyond = |item: &StrategyItem| u128::from(count(item) - u64::from(item.base)) + 1;
    let weighted = items.iter().filter(|item| item.weight > 0);
    let next = weighted.reduce(|best, item| {
        let further = beyond(item) * u128::from(best.weight) < beyond(best) * u128::from(item.weight);
        if further { item } else { best }
    });
    next.or_else(|| items.first()).map(|item| item.provider.as_str())
}

/// The provider of a `capacityProviderStrategy` that the first task goes to. None when the strategy is empty.
#[must_use]
pub fn leading_provider(strategy: &Value) -> Option<&str> {
    let items = strategy_items(strategy);
    let leading = next_provider(&items, |_| 0)?;
    let named = strategy.as_array()?.iter().filter_map(|item| text(item, "capacityProvider"));
    named.into_iter().find(|name| name.rsplit('/').next() == Some(leading))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_base_goes_before_a_weight_and_a_weight_before_none() {
        let item = |name: &str, base: u32, weight: u32| json!({"capacityProvider": name, "base": base, "weight": weight});
        let none = json!({"capacityProvider": "none"});
        for (strategy, leading) in [
            (json!([item("weight", 0, 5), item("base", 1, 0)]), Some("base")),
            (json!([none, item("zero", 0, 0), item("weight", 0, 1)]), Some("weight")),
            (json!([none]), Some("none")),
            (json!([]), None),
            (json!("nonsense"), None),
        ] {
            assert_eq!(leading_provider(&strategy), leading, "{strategy}");
        }
    }

    #[test]
    fn tasks_are_divided_by_base_and_weight() {
        let item = |name: &str, base: u32, weight: u32| json!({"capacityProvider": name, "base": base, "weight": weight});
        let items = strategy_items(&json!([item("a", 2, 1), item("b", 0, 3), item("c", 0, 0)]));
        let mut have: BTreeMap<String, usize> = BTreeMap::new();
        let mut order = String::new();
        for _ in 0..10 {
            let next = next_provider(&items, |name| have.get(name).copied().unwrap_or(0)).unwrap().to_owned();
            order.push_str(&next);
            *have.entry(next).or_default() += 1;
        }
        assert_eq!(order, "aabbabbbab");
        assert_eq!((have["a"], have["b"], have.get("c")), (4, 6, None));
    }
}
