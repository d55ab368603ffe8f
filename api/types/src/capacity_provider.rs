//! Capacity provider strategies.

use serde_json::Value;

/// The provider of a `capacityProviderStrategy` that the first task goes to: the one with a base, else the
/// first with a weight, else the first. None when the strategy is empty.
#[must_use]
pub fn leading_provider(strategy: &Value) -> Option<&str> {
    let items = strategy.as_array()?;
    let above_zero = |item: &Value, member: &str| item.get(member).and_then(Value::as_u64).unwrap_or(0) > 0;
    let leading = items
        .iter()
        .find(|item| above_zero(item, "base"))
        .or_else(|| items.iter().find(|item| above_zero(item, "weight")))
        .or_else(|| items.first())?;
    leading.get("capacityProvider")?.as_str()
}

#[cfg(test)]
mod tests {
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
}
