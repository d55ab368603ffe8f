//! Expressions of the cluster query language in requests: understood when they come in, so that a mistake is
//! answered to whoever made it. The language itself is the scheduler's.

use coracle_protocol::ApiError;
use coracle_scheduler::{Expression, Subject};
use coracle_types::{ClusterId, JsonMap, LastStatus, Node, State, Task};
use serde_json::Value;

/// Whether the `memberOf` expressions of `placementConstraints` can be understood.
///
/// # Errors
/// The first that can't: which one it is, and at which of its characters.
pub(super) fn check_constraints(rest: &JsonMap) -> Result<(), String> {
    let constraints = rest.get("placementConstraints").and_then(Value::as_array);
    for (place, constraint) in constraints.into_iter().flatten().enumerate() {
        if constraint.get("type").and_then(Value::as_str) != Some("memberOf") {
            continue;
        }
        let expression = constraint.get("expression").and_then(Value::as_str).unwrap_or_default();
        Expression::parse(expression)
            .map_err(|error| format!("placementConstraints[{place}].expression: {error}"))?;
    }
    Ok(())
}

/// The `filter` of a list of container instances.
///
/// # Errors
/// `InvalidParameterException` that says where it can't be understood.
pub(super) fn filter(text: &str) -> Result<Expression, ApiError> {
    Expression::parse(text).map_err(|error| ApiError::InvalidParameter(format!("filter: {error}")))
}

/// A container instance as one cluster sees it: tasks of other clusters on the same node do not count, as they
/// do not in `runningTasksCount`.
pub(super) struct Instance<'a> {
    pub(super) state: &'a State,
    pub(super) cluster: &'a ClusterId,
    pub(super) node: &'a Node,
}

impl Instance<'_> {
    fn tasks(&self) -> impl Iterator<Item = &Task> {
        let here = self.state.tasks_on(self.node.id);
        here.map(|task| &**task).filter(|task| task.cluster == *self.cluster)
    }
}

impl Subject for Instance<'_> {
    fn node(&self) -> &Node {
        self.node
    }

    fn running_tasks(&self) -> usize {
        self.tasks().filter(|task| task.last_status == LastStatus::Running).count()
    }

    fn has_task_of(&self, group: &str) -> bool {
        self.tasks().any(|task| task.group.to_string() == group)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistake_is_named_by_constraint_and_character() {
        let check = |constraints: Value| {
            let rest = json!({"placementConstraints": constraints});
            check_constraints(rest.as_object().unwrap())
        };
        let fine =
            json!({"type": "memberOf", "expression": "attribute:disk == ssd and not task:group == web"});
        assert_eq!(check(json!([{"type": "distinctInstance"}, fine])), Ok(()));
        let error =
            check(json!([fine, {"type": "memberOf", "expression": "attribute:disk like ssd"}])).unwrap_err();
        let start = "placementConstraints[1].expression: Invalid expression at character 16: ";
        assert!(error.starts_with(start), "{error}");
        assert!(check(json!([{"type": "memberOf"}])).is_err());
        assert_eq!(check_constraints(&JsonMap::new()), Ok(()));
    }
}
