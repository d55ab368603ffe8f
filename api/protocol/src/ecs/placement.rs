//! `placementConstraints`, `placementStrategy` and `networkConfiguration`: members that are kept as they were
//! sent, and looked at before.

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;

/// The most constraints, and the most strategies.
const CONSTRAINTS_MAX: usize = 10;
const STRATEGIES_MAX: usize = 5;
/// The most subnets, and the most security groups.
const SUBNETS_MAX: usize = 16;
const GROUPS_MAX: usize = 5;
/// The longest expression, in characters.
const EXPRESSION_MAX: usize = 2000;

/// Looks at `placementConstraints` and `placementStrategy`.
///
/// # Errors
/// When there are too many, or one is not complete.
pub fn check_placement(members: &Members) -> Result<(), ApiError> {
    let mut probe = members.clone();
    let constraints = probe.objects("placementConstraints")?.unwrap_or_default();
    if constraints.len() > CONSTRAINTS_MAX {
        return Err(
            members.refuse(format_args!("At most {CONSTRAINTS_MAX} placement constraints are allowed."))
        );
    }
    for mut constraint in constraints {
        let expression = constraint.text("expression")?.filter(|text| !text.is_empty());
        match (constraint.required_text("type")?.as_str(), expression) {
            ("memberOf", None) => return Err(constraint.missing("expression")),
            ("memberOf", Some(expression)) if expression.chars().count() > EXPRESSION_MAX => {
                return Err(constraint
                    .invalid("expression", format_args!("it is longer than {EXPRESSION_MAX} characters")));
            }
            ("distinctInstance", Some(_)) => {
                return Err(constraint.invalid("expression", "a distinctInstance constraint has none"));
            }
            _ => {}
        }
    }
    let strategies = probe.objects("placementStrategy")?.unwrap_or_default();
    if strategies.len() > STRATEGIES_MAX {
        return Err(
            members.refuse(format_args!("At most {STRATEGIES_MAX} placement strategies are allowed."))
        );
    }
    for mut strategy in strategies {
        let field = strategy.text("field")?.filter(|text| !text.is_empty());
        let field = field.as_deref();
        match strategy.required_text("type")?.as_str() {
            "spread" if field.is_none() => return Err(strategy.missing("field")),
            "spread" => {
                let known = |field: &str| {
                    matches!(field, "instanceId" | "host")
                        || field.strip_prefix("attribute:").is_some_and(|name| !name.is_empty())
                };
                if !field.is_some_and(known) {
                    return Err(
                        strategy.invalid("field", "tasks are spread over instanceId, host or attribute:NAME")
                    );
                }
            }
            "binpack"
                if !field
                    .is_some_and(|field| matches!(field.to_ascii_lowercase().as_str(), "cpu" | "memory")) =>
            {
                return Err(strategy.invalid("field", "tasks are packed by cpu or memory"));
            }
            "random" if field.is_some() => {
                return Err(strategy.invalid("field", "a random strategy has none"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks at `networkConfiguration`.
///
/// # Errors
/// When it says nothing, or names too many subnets or security groups.
pub fn check_network(members: &Members) -> Result<(), ApiError> {
    let Some(mut network) = members.clone().object("networkConfiguration")? else { return Ok(()) };
    let Some(mut vpc) = network.object("awsvpcConfiguration")? else {
        return Err(network.missing("awsvpcConfiguration"));
    };
    let subnets = vpc.texts("subnets")?.unwrap_or_default();
    if subnets.is_empty() || subnets.iter().any(String::is_empty) {
        return Err(vpc.refuse("subnets can not be empty."));
    }
    if subnets.len() > SUBNETS_MAX {
        return Err(vpc.refuse(format_args!("subnets can have at most {SUBNETS_MAX} items.")));
    }
    if vpc.texts("securityGroups")?.is_some_and(|groups| groups.len() > GROUPS_MAX) {
        return Err(vpc.refuse(format_args!("securityGroups can have at most {GROUPS_MAX} items.")));
    }
    Ok(())
}

/// Looks at `platformVersion`.
///
/// # Errors
/// `PlatformUnknownException` when Fargate never had it.
pub fn check_platform(members: &Members) -> Result<(), ApiError> {
    match members.peek("platformVersion").and_then(Value::as_str) {
        None | Some("" | "LATEST" | "1.0.0" | "1.1.0" | "1.2.0" | "1.3.0" | "1.4.0") => Ok(()),
        Some(_) => Err(ApiError::PlatformUnknown),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn members(body: Value) -> Members {
        Members::of_body(body, Refusal::InvalidParameter).unwrap()
    }

    #[test]
    fn constraints_and_strategies_have_to_be_complete() {
        for (body, place) in [
            (json!({"placementConstraints": [{"type": "memberOf"}]}), "placementConstraints[0].expression"),
            (json!({"placementConstraints": [{"type": "distinctInstance", "expression": "x"}]}), "has none"),
            (json!({"placementConstraints": [{"expression": "x"}]}), "placementConstraints[0].type"),
            (json!({"placementStrategy": [{"type": "spread"}]}), "placementStrategy[0].field"),
            (json!({"placementStrategy": [{"type": "spread", "field": "attribute:"}]}), "attribute:NAME"),
            (json!({"placementStrategy": [{"type": "binpack", "field": "disk"}]}), "cpu or memory"),
            (json!({"placementStrategy": [{"type": "random", "field": "cpu"}]}), "has none"),
            (json!({"placementStrategy": vec![json!({"type": "random"}); 6]}), "At most 5"),
        ] {
            let error = check_placement(&members(body.clone())).unwrap_err().to_string();
            assert!(error.contains(place), "{body}: {error}");
        }
        let fine = json!({
            "placementConstraints": [{"type": "distinctInstance"}, {"type": "memberOf", "expression": "attribute:a exists"}],
            "placementStrategy": [
                {"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "binpack", "field": "MEMORY"},
                {"type": "random"},
            ],
        });
        assert_eq!(check_placement(&members(fine)), Ok(()));
    }

    #[test]
    fn a_network_names_subnets() {
        let of = |vpc: Value| {
            check_network(&members(json!({"networkConfiguration": {"awsvpcConfiguration": vpc}})))
        };
        assert_eq!(of(json!({"subnets": ["subnet-a"], "securityGroups": ["sg-1"]})), Ok(()));
        for bad in [json!({}), json!({"subnets": []}), json!({"subnets": vec!["s"; 17]})] {
            assert!(of(bad.clone()).is_err(), "{bad}");
        }
        assert!(check_network(&members(json!({"networkConfiguration": {}}))).is_err());
        assert_eq!(check_network(&members(json!({}))), Ok(()));
    }

    #[test]
    fn platforms_are_those_of_fargate() {
        assert_eq!(check_platform(&members(json!({"platformVersion": "LATEST"}))), Ok(()));
        assert_eq!(
            check_platform(&members(json!({"platformVersion": "9.9"}))),
            Err(ApiError::PlatformUnknown)
        );
    }
}
