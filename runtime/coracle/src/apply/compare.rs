//! What would change: a declared value beside the one that is there. Pure.

use serde_json::Value;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// Where, such as `containerDefinitions[web].image`.
    pub(super) path: String,
    /// What is there; None if nothing is.
    pub(super) from: Option<Value>,
    /// What is declared; None if it is to go.
    pub(super) to: Option<Value>,
}

impl Change {
    /// A difference between values that must not be shown.
    pub(super) fn hidden(path: &str) -> Self {
        Self { path: path.to_owned(), from: None, to: None }
    }

    /// The member of the item in which it is.
    pub(super) fn member(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or(&self.path)
    }
}

/// What of `current` is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The members that are declared.
    Declared,
    /// Every member: one that is not declared is to go.
    Whole,
}

/// The differences between what is declared and what is there.
pub(super) fn changes(declared: &Value, current: &Value, scope: Scope) -> Vec<Change> {
    let mut found = Vec::new();
    compare(declared, current, scope, &mut String::new(), &mut found);
    found
}

fn compare(declared: &Value, current: &Value, scope: Scope, path: &mut String, found: &mut Vec<Change>) {
    match (declared, current) {
        (Value::Object(declared), Value::Object(current)) => {
            for (name, value) in declared {
                let inside = current.get(name).unwrap_or(&Value::Null);
                within(path, name, |path| compare(value, inside, scope, path, found));
            }
            let undeclared = current.iter().filter(|(name, _)| !declared.contains_key(*name));
            for (name, value) in undeclared.filter(|_| scope == Scope::Whole) {
                within(path, name, |path| compare(&Value::Null, value, scope, path, found));
            }
        }
        (Value::Array(declared), Value::Array(current)) => {
            compare_lists(declared, current, scope, path, found);
        }
        (declared, current) if same(declared, current) => {}
        (declared, current) => {
            let there = |value: &Value| (!is_nothing(value)).then(|| value.clone());
            found.push(Change { path: path.clone(), from: there(current), to: there(declared) });
        }
    }
}

fn compare_lists(
    declared: &[Value],
    current: &[Value],
    scope: Scope,
    path: &mut String,
    found: &mut Vec<Change>,
) {
    // Things with names are the same in any order.
    if let Some(key) = key_of(declared, current) {
        let named = |list: &[Value], name: &Value| list.iter().find(|item| item[key] == *name).cloned();
        for item in declared {
            let there = named(current, &item[key]).unwrap_or_default();
            indexed(path, &item[key], |path| compare(item, &there, scope, path, found));
        }
        for item in current.iter().filter(|item| named(declared, &item[key]).is_none()) {
            indexed(path, &item[key], |path| compare(&Value::Null, item, scope, path, found));
        }
    } else if declared.len() == current.len() {
        for (index, (declared, current)) in declared.iter().zip(current).enumerate() {
            indexed(path, &index.into(), |path| compare(declared, current, scope, path, found));
        }
    } else {
        let list = |items: &[Value]| Some(Value::Array(items.to_vec())).filter(|list| !is_nothing(list));
        found.push(Change { path: path.clone(), from: list(current), to: list(declared) });
    }
}

/// The members by which elements of lists are told apart.
const KEYS: [&str; 4] = ["name", "Key", "key", "containerName"];

/// The member that every element has, with a value of its own.
fn key_of(declared: &[Value], current: &[Value]) -> Option<&'static str> {
    let distinct = |list: &[Value], key: &str| {
        let names: Option<Vec<&str>> = list.iter().map(|item| item.get(key)?.as_str()).collect();
        names
            .is_some_and(|names| names.iter().enumerate().all(|(index, name)| !names[..index].contains(name)))
    };
    if declared.is_empty() && current.is_empty() {
        return None;
    }
    KEYS.into_iter().find(|key| distinct(declared, key) && distinct(current, key))
}

/// Nothing at all, in the ways in which answers say it.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn same(declared: &Value, current: &Value) -> bool {
    if is_nothing(declared) && is_nothing(current) {
        return true;
    }
    match (declared, current) {
        // XML has no types.
        (Value::Number(number), Value::String(text)) => number.to_string() == *text,
        (Value::Bool(yes), Value::String(text)) => yes.to_string() == *text,
        // An empty element may be an empty list.
        (Value::Array(items), Value::String(text)) => items.is_empty() && text.is_empty(),
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (declared, current) => declared == current,
    }
}

fn within(path: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    let outer = path.len();
    if outer > 0 {
        path.push('.');
    }
    path.push_str(name);
    inside(path);
    path.truncate(outer);
}

fn indexed(path: &mut String, index: &Value, inside: impl FnOnce(&mut String)) {
    let outer = path.len();
    path.push('[');
    match index {
        Value::String(name) => path.push_str(name),
        other => path.push_str(&other.to_string()),
    }
    path.push(']');
    inside(path);
    path.truncate(outer);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(declared: &Value, current: &Value, scope: Scope) -> Vec<String> {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
        let one = |change: &Change| format!("{}: {} > {}", change.path, text(&change.from), text(&change.to));
        changes(declared, current, scope).iter().map(one).collect()
    }

    #[test]
    fn what_is_not_declared_is_left_alone_or_goes() {
        let (declared, current) =
            (json!({"a": 1, "b": {"c": "x"}}), json!({"a": 2, "b": {"c": "x", "d": 1}, "e": []}));
        assert_eq!(told(&declared, &current, Scope::Declared), ["a: 2 > 1"]);
        assert_eq!(told(&declared, &current, Scope::Whole), ["a: 2 > 1", "b.d: 1 > -"]);
    }

    #[test]
    fn things_with_names_are_compared_by_name() {
        let declared =
            json!({"containers": [{"name": "b", "cpu": 2}, {"name": "a", "cpu": 1}, {"name": "new"}]});
        let current =
            json!({"containers": [{"name": "a", "cpu": 1}, {"name": "b", "cpu": 1}, {"name": "old"}]});
        let expected = [
            "containers[b].cpu: 1 > 2",
            "containers[new]: - > {\"name\":\"new\"}",
            "containers[old]: {\"name\":\"old\"} > -",
        ];
        assert_eq!(told(&declared, &current, Scope::Declared), expected);
    }

    #[test]
    fn other_lists_are_compared_in_order() {
        assert_eq!(told(&json!(["a", "b"]), &json!(["a", "c"]), Scope::Declared), ["[1]: \"c\" > \"b\""]);
        assert_eq!(told(&json!(["a"]), &json!(["a", "c"]), Scope::Declared), [": [\"a\",\"c\"] > [\"a\"]"]);
        assert_eq!(told(&json!({"a": []}), &json!({}), Scope::Whole), [""; 0]);
    }

    #[test]
    fn xml_has_no_types() {
        let declared = json!({"Port": 80, "On": true, "Empty": [], "Text": "80"});
        let current = json!({"Port": "80", "On": "true", "Empty": "", "Text": "80"});
        assert_eq!(told(&declared, &current, Scope::Declared), [""; 0]);
        assert_eq!(told(&json!({"Port": 81}), &current, Scope::Declared), ["Port: \"80\" > 81"]);
    }
}
