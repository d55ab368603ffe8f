//! What people say about where tasks may and should go: constraints and strategies.
//!
//! Services, tasks and task definitions keep these members as they were sent; the functions here are the
//! typed view of them. A member that is not understood is left out: requests with one are refused at the edge.

use serde_json::Value;

use crate::task_definition::JsonMap;

/// One of `placementConstraints`: where a task may go at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementConstraint {
    /// No two tasks of the group on one node.
    DistinctInstance,
    /// Only nodes for which an expression of the cluster query language holds.
    MemberOf(String),
}

/// One of `placementStrategy`: where a task should rather go. They apply in sequence: a later one decides among
/// the nodes the earlier ones leave equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementStrategy {
    /// As few tasks of the group as possible in one place.
    Spread(SpreadField),
    /// As little of this resource left free as possible, so that the fewest nodes are used.
    Binpack(BinpackField),
    /// Anywhere.
    Random,
}

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadField {
    /// `instanceId` or `host`: nodes.
    Instance,
    /// The values of an attribute, such as `ecs.availability-zone`.
    Attribute(String),
}

/// What is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinpackField {
    /// CPU units.
    Cpu,
    /// Memory.
    Memory,
}

/// The `placementConstraints` among members that were kept as sent.
#[must_use]
pub fn placement_constraints(rest: &JsonMap) -> Vec<PlacementConstraint> {
    items(rest, "placementConstraints")
        .filter_map(|item| match text(item, "type")? {
            "distinctInstance" => Some(PlacementConstraint::DistinctInstance),
            "memberOf" => Some(PlacementConstraint::MemberOf(text(item, "expression")?.to_owned())),
            _ => None,
        })
        .collect()
}

/// The strategies of `member` (`placementStrategy`) among members that were kept as sent.
#[must_use]
pub fn placement_strategies(rest: &JsonMap) -> Vec<PlacementStrategy> {
    items(rest, "placementStrategy")
        .filter_map(|item| {
            let field = text(item, "field").unwrap_or_default();
            match text(item, "type")? {
                "random" => Some(PlacementStrategy::Random),
                "spread" => Some(PlacementStrategy::Spread(spread_field(field))),
                "binpack" if field.eq_ignore_ascii_case("cpu") => {
                    Some(PlacementStrategy::Binpack(BinpackField::Cpu))
                }
                "binpack" => Some(PlacementStrategy::Binpack(BinpackField::Memory)),
                _ => None,
            }
        })
        .collect()
}

fn spread_field(field: &str) -> SpreadField {
    let field = field.strip_prefix("attribute:").unwrap_or(field);
    match field {
        "" | "instanceId" | "host" => SpreadField::Instance,
        name => SpreadField::Attribute(name.to_owned()),
    }
}

pub(crate) fn items<'a>(rest: &'a JsonMap, member: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    rest.get(member).and_then(Value::as_array).into_iter().flatten()
}

pub(crate) fn text<'a>(item: &'a Value, member: &str) -> Option<&'a str> {
    item.get(member).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> JsonMap {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn members_are_read_as_ecs_means_them() {
        let rest = map(&json!({
            "placementConstraints": [
                {"type": "distinctInstance"},
                {"type": "memberOf", "expression": "attribute:disk == ssd"},
                {"type": "memberOf"},
                {"type": "nearby"},
            ],
            "placementStrategy": [
                {"type": "spread", "field": "attribute:ecs.availability-zone"},
                {"type": "spread", "field": "instanceId"},
                {"type": "spread", "field": "host"},
                {"type": "binpack", "field": "CPU"},
                {"type": "binpack", "field": "memory"},
                {"type": "random"},
            ],
        }));
        assert_eq!(
            placement_constraints(&rest),
            [
                PlacementConstraint::DistinctInstance,
                PlacementConstraint::MemberOf("attribute:disk == ssd".to_owned())
            ]
        );
        assert_eq!(
            placement_strategies(&rest),
            [
                PlacementStrategy::Spread(SpreadField::Attribute("ecs.availability-zone".to_owned())),
                PlacementStrategy::Spread(SpreadField::Instance),
                PlacementStrategy::Spread(SpreadField::Instance),
                PlacementStrategy::Binpack(BinpackField::Cpu),
                PlacementStrategy::Binpack(BinpackField::Memory),
                PlacementStrategy::Random,
            ]
        );
        assert!(placement_strategies(&map(&json!({"placementStrategy": "spread"}))).is_empty());
    }
}
