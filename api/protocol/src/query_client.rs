//! The client's side of the Query protocol: JSON into a form, and the XML of an answer into JSON.
//!
//! XML does not say what is a number or an empty list: whatever has no elements in it is text.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// The most elements that are in one another in any answer; one that has more is not one of ours.
const DEPTH_MAX: usize = 64;

/// An error that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its code, such as `TargetGroupNotFound`.
    pub code: String,
    /// What was wrong.
    pub message: String,
}

/// The form that calls an operation.
#[must_use]
pub fn form(operation: &str, version: &str, body: &Value) -> String {
    let mut form = format!("Action={}&Version={}", encoded(operation), encoded(version));
    add(&mut form, &mut String::new(), body);
    form
}

fn add(form: &mut String, name: &mut String, value: &Value) {
    let outer = name.len();
    let separator = if outer == 0 { "" } else { "." };
    match value {
        Value::Null => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let _ = write!(name, "{separator}member.{}", index + 1);
                add(form, name, item);
                name.truncate(outer);
            }
            if items.is_empty() {
                let _ = write!(form, "&{}=", encoded(name));
            }
        }
        Value::Object(members) => {
            for (member, value) in members {
                let _ = write!(name, "{separator}{member}");
                add(form, name, value);
                name.truncate(outer);
            }
        }
        Value::String(text) => {
            let _ = write!(form, "&{}={}", encoded(name), encoded(text));
        }
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(form, "&{}={value}", encoded(name));
        }
    }
}

/// Percent-encoded, all but what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// What an operation answered: the content of `<OPERATIONResult>`; None when this is no answer of the protocol.
#[must_use]
pub fn result(operation: &str, xml: &str) -> Option<Value> {
    let mut answer = parse(xml)?;
    match answer.get_mut(format!("{operation}Result")).map(Value::take) {
        Some(object @ Value::Object(_)) => Some(object),
        // An empty one is text, as far as XML says.
        _ => Some(Value::Object(Map::new())),
    }
}

/// The error in an answer; None when there is none.
#[must_use]
pub fn refused(xml: &str) -> Option<Refused> {
    let answer = parse(xml)?;
    let text = |name: &str| answer["Error"][name].as_str().map(str::to_owned);
    Some(Refused { code: text("Code")?, message: text("Message").unwrap_or_default() })
}

/// An element whose end has not been seen.
#[derive(Default)]
struct Open {
    name: String,
    text: String,
    children: Vec<(String, Value)>,
}

impl Open {
    fn new(start: &BytesStart<'_>) -> Self {
        let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
        Self { name, ..Self::default() }
    }

    fn value(self) -> Value {
        match self.children.as_slice() {
            [] => Value::String(self.text),
            children if children.iter().all(|(name, _)| name == "member") => {
                Value::Array(self.children.into_iter().map(|(_, value)| value).collect())
            }
            _ => Value::Object(self.children.into_iter().collect()),
        }
    }
}

/// The content of the outermost element.
fn parse(xml: &str) -> Option<Value> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return None;
                }
                open.push(Open::new(&start));
                continue;
            }
            Event::Empty(start) => Open::new(&start),
            Event::End(_) => open.pop()?,
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&text.decode().ok()?);
                }
                continue;
            }
            Event::GeneralRef(reference) => {
                let element = open.last_mut()?;
                match reference.resolve_char_ref().ok()? {
                    Some(character) => element.text.push(character),
                    None => element.text.push_str(resolve_xml_entity(&reference.decode().ok()?)?),
                }
                continue;
            }
            Event::Eof => return None,
            _ => continue,
        };
        let name = closed.name.clone();
        let value = closed.value();
        match open.last_mut() {
            Some(parent) => parent.children.push((name, value)),
            None => return Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query;
    use crate::shape::{Shape, shape};

    const TARGET: Shape = shape!({ Id: text, Port: int });
    const REQUEST: Shape =
        shape!({ Name: text, On: flag, Targets: [TARGET], Names: [text], Inner: { Text: text } });

    #[test]
    fn a_form_is_read_as_it_was_meant() {
        let body = json!({
            "Name": "a b&c=ü+", "On": false, "Targets": [{"Id": "x", "Port": 80}, {"Id": "y"}], "Names": [],
            "Inner": {"Text": "%"},
        });
        let form = form("Do", "2015-12-01", &body);
        assert!(form.starts_with("Action=Do&Version=2015-12-01&"), "{form}");
        assert_eq!(query::decode(&form, &REQUEST), Ok(body));
    }

    #[test]
    fn an_answer_comes_back_as_text() {
        let answered = json!({"Items": [{"Name": "<a&b> 'c'", "Port": 80}, {"On": true}], "Next": "x"});
        let xml = query::answer("Do", "urn:x", &answered, "r-1");
        let expected = json!({"Items": [{"Name": "<a&b> 'c'", "Port": "80"}, {"On": "true"}], "Next": "x"});
        assert_eq!(result("Do", &xml), Some(expected));
        assert_eq!(result("Do", &query::answer("Do", "urn:x", &json!({}), "r")), Some(json!({})));
    }

    #[test]
    fn an_error_has_a_code_and_a_message() {
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>TargetGroupNotFound</Code>\
                   <Message>no &lt;web&gt; &#x41;</Message></Error><RequestId>1</RequestId></ErrorResponse>";
        let expected = Refused { code: "TargetGroupNotFound".into(), message: "no <web> A".into() };
        assert_eq!(refused(xml), Some(expected));
        for not_ours in ["", "hello", "<html><body>502</body></html>", "<a><b></a>", &"<a>".repeat(1000)] {
            assert_eq!(refused(not_ours), None, "{not_ours}");
        }
    }
}
