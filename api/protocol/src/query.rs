//! The Query protocol: a form in, XML out. What ELBv2, IAM and STS speak.
//!
//! A form is flat: `Targets.member.1.Id=10.0.0.1`. [`decode`] makes it the JSON a JSON service would have
//! got, led by the [`Shape`] of the request, so that everything after it is the same for both; [`answer`]
//! makes XML of the JSON a JSON service would have answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Number, Value};

use crate::error::ApiError;
use crate::shape::Shape;
use crate::sts::escape;

/// The most parameters a form may have.
const PARAMETERS_MAX: usize = 20_000;
/// How deep a parameter's name may go.
const DEPTH_MAX: usize = 24;

/// One level of a form's names.
#[derive(Default)]
struct Node {
    value: Option<String>,
    children: BTreeMap<String, Self>,
}

/// The request in a form, brought into `shape`. Parameters the shape does not have are passed over, as AWS
/// passes over them.
///
/// # Errors
/// `MalformedQueryString` for a form that is none, `ValidationError` for a parameter of the wrong type.
pub fn decode(form: &str, shape: &Shape) -> Result<Value, ApiError> {
    let mut root = Node::default();
    for (index, pair) in form.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if index >= PARAMETERS_MAX {
            return Err(ApiError::Serialization(format!(
                "the form has more than {PARAMETERS_MAX} parameters"
            )));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut node = &mut root;
        let name = form_text(name);
        for (depth, part) in name.split('.').enumerate() {
            if depth >= DEPTH_MAX {
                let shown: String = name.chars().take(100).collect();
                return Err(ApiError::Serialization(format!("the parameter {shown:?} is nested too deep")));
            }
            node = node.children.entry(part.to_owned()).or_default();
        }
        node.value = Some(form_text(value));
    }
    Ok(node_value(&root, shape, &mut String::new())?.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

/// A name or value of a form, decoded.
#[must_use]
pub fn form_text(text: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(&text.replace('+', " "))).into_owned()
}

/// The bytes a percent-encoded text stands for; a `%` without two digits stands for itself.
#[must_use]
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let value = pair
            .filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            .and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        decoded.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

/// The value of a node in a shape; None for one that is not there.
fn node_value(node: &Node, shape: &Shape, path: &mut String) -> Result<Option<Value>, ApiError> {
    let text = || node.value.clone().unwrap_or_default();
    let invalid = |why: &str| -> ApiError {
        let given: String = text().chars().take(200).collect();
        ApiError::Client(format!(
            "1 validation error detected: Value '{given}' at '{}' {why}",
            member_path(path)
        ))
    };
    let value = match shape {
        Shape::Text | Shape::Any => Value::String(text()),
        Shape::OneOf(names) if names.contains(&text().as_str()) => Value::String(text()),
        Shape::OneOf(names) => {
            return Err(invalid(&format!(
                "failed to satisfy constraint: Member must satisfy enum value set: [{}]",
                names.join(", ")
            )));
        }
        Shape::Flag => match text().as_str() {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            _ => return Err(invalid("is not a boolean")),
        },
        Shape::Int => match text().parse::<i32>() {
            Ok(number) => Value::from(number),
            Err(_) => return Err(invalid("is not an integer")),
        },
        Shape::Number => match text().parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => return Err(invalid("is not a number")),
        },
        Shape::List(item) => {
            let mut items = Vec::new();
            for (index, node) in numbered(node, "member") {
                let outer = path.len();
                let _ = write!(path, ".{index}.member");
                items.extend(node_value(node, item, path)?);
                path.truncate(outer);
            }
            Value::Array(items)
        }
        Shape::Map(item) => {
            let mut members = serde_json::Map::new();
            for (_, entry) in numbered(node, "entry") {
                let Some(key) = entry.children.get("key").and_then(|key| key.value.clone()) else { continue };
                let value =
                    entry.children.get("value").map(|value| node_value(value, item, path)).transpose()?;
                members.extend(value.flatten().map(|value| (key, value)));
            }
            Value::Object(members)
        }
        Shape::Object(shapes) => {
            let mut members = serde_json::Map::new();
            for (name, shape) in *shapes {
                let Some(node) = node.children.get(*name) else { continue };
                let outer = path.len();
                let _ = write!(path, ".{name}");
                members.extend(node_value(node, shape, path)?.map(|value| ((*name).to_owned(), value)));
                path.truncate(outer);
            }
            Value::Object(members)
        }
    };
    Ok(Some(value))
}

/// The numbered items below `word`, in the order of their numbers. An empty list has none.
fn numbered<'a>(node: &'a Node, word: &str) -> Vec<(u32, &'a Node)> {
    let children = node.children.get(word).into_iter().flat_map(|list| &list.children);
    let mut items: Vec<(u32, &Node)> =
        children.filter_map(|(index, node)| Some((index.parse().ok()?, node))).collect();
    items.sort_by_key(|(index, _)| *index);
    items
}

/// A path as AWS prints it in its complaints: without the first dot, each member beginning small.
fn member_path(path: &str) -> String {
    let small = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
    };
    path.split('.').filter(|part| !part.is_empty()).map(small).collect::<Vec<_>>().join(".")
}

/// The answer to an action: `result` as `<OPERATIONResult>`, in the namespace of the service's model.
#[must_use]
pub fn answer(operation: &str, namespace: &str, result: &Value, request_id: &str) -> String {
    let mut xml = String::new();
    let _ = write!(xml, "<{operation}Response xmlns=\"{namespace}\">");
    element(&mut xml, &format!("{operation}Result"), result);
    let _ = write!(
        xml,
        "<ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
        escape(request_id)
    );
    xml
}

/// A value as an element. Names are ours; only texts come from outside.
fn element(xml: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    let _ = write!(xml, "<{name}>");
    match value {
        Value::Null => {}
        Value::Bool(flag) => xml.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(xml, "{number}");
        }
        Value::String(text) => xml.push_str(&escape(text)),
        Value::Array(items) => items.iter().for_each(|item| element(xml, "member", item)),
        Value::Object(members) => members.iter().for_each(|(name, value)| element(xml, name, value)),
    }
    let _ = write!(xml, "</{name}>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shape::shape;

    const INNER: Shape = shape!({ Id: text, Port: int });
    const REQUEST: Shape = shape!({
        Name: text, Kind: ("a" "b"), On: flag, Share: number, Targets: [INNER], Names: [text], Labels: {* text},
    });

    #[test]
    fn a_form_becomes_what_its_shape_says() {
        let mut form = "Action=X&Version=1&Name=a+b%2Fc%C3%A9&Kind=b&On=true&Share=0.5&Unknown=1".to_owned();
        form.push_str("&Targets.member.10.Id=last&Targets.member.2.Id=first&Targets.member.2.Port=80");
        form.push_str("&Names=&Labels.entry.1.key=k&Labels.entry.1.value=v");
        let expected = json!({
            "Name": "a b/cé", "Kind": "b", "On": true, "Share": 0.5, "Names": [], "Labels": {"k": "v"},
            "Targets": [{"Id": "first", "Port": 80}, {"Id": "last"}],
        });
        assert_eq!(decode(&form, &REQUEST), Ok(expected));
        assert_eq!(decode("", &REQUEST), Ok(json!({})));
    }

    #[test]
    fn wrong_types_are_refused_as_aws_does() {
        for (form, why) in [
            (
                "Kind=c",
                "Value 'c' at 'kind' failed to satisfy constraint: Member must satisfy enum value set: [a, b]",
            ),
            ("On=yes", "Value 'yes' at 'on' is not a boolean"),
            ("Targets.member.1.Port=x", "Value 'x' at 'targets.1.member.port' is not an integer"),
        ] {
            let expected = format!("1 validation error detected: {why}");
            assert_eq!(decode(form, &REQUEST), Err(ApiError::Client(expected)), "{form}");
        }
    }

    #[test]
    fn forms_are_bounded() {
        let deep = format!("a{}=1", ".b".repeat(DEPTH_MAX));
        assert!(matches!(decode(&deep, &REQUEST), Err(ApiError::Serialization(_))));
        let long = "a=1&".repeat(PARAMETERS_MAX + 1);
        assert!(matches!(decode(&long, &REQUEST), Err(ApiError::Serialization(_))));
    }

    #[test]
    fn an_answer_is_xml_and_text_cannot_become_markup() {
        let result =
            json!({"Items": [{"Name": "<a&b>"}, {"Port": 80, "On": true, "None": null}], "Empty": []});
        assert_eq!(
            answer("Do", "urn:x", &result, "r-1"),
            "<DoResponse xmlns=\"urn:x\"><DoResult><Empty></Empty><Items><member><Name>&lt;a&amp;b&gt;</Name></member>\
             <member><On>true</On><Port>80</Port></member></Items></DoResult><ResponseMetadata><RequestId>r-1</RequestId>\
             </ResponseMetadata></DoResponse>"
        );
    }
}
