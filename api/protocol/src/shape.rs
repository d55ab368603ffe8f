//! What a request may look like: the types of its members, all the way down.
//!
//! Much of a request is kept as it was sent and given back later. A client of the same model has to be
//! able to read it then, so a request is brought into its shape before anybody keeps anything: members
//! of the wrong type refuse it, and members the model does not have are left out, as AWS leaves them out.
//! Whether a value makes sense is not asked here, only whether it is one of those a member can have.

use std::fmt::Write as _;

use serde_json::Value;

use crate::error::ApiError;
use crate::members::{Refusal, type_name};

/// What values a member can have.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// An integer of 32 bits.
    Int,
    /// Any number.
    Number,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Self),
    /// An object whose members' names are the client's.
    Map(&'static Self),
    /// An object with these members, each of which may be missing.
    Object(&'static [(&'static str, Self)]),
    /// Anything.
    Any,
}

/// Writes a [`Shape`] as models are written: `{ name: text, sizes: [int], mode: ("a" "b"), labels: {* text} }`.
/// An identifier that is none of the words is a shape with that name.
macro_rules! shape {
    (text) => { $crate::shape::Shape::Text };
    (flag) => { $crate::shape::Shape::Flag };
    (int) => { $crate::shape::Shape::Int };
    (number) => { $crate::shape::Shape::Number };
    (any) => { $crate::shape::Shape::Any };
    (($($name:literal)+)) => { $crate::shape::Shape::OneOf(&[$($name),+]) };
    ([$item:tt]) => { $crate::shape::Shape::List(&$crate::shape::shape!($item)) };
    ({* $item:tt}) => { $crate::shape::Shape::Map(&$crate::shape::shape!($item)) };
    ({$($name:ident: $item:tt),* $(,)?}) => {
        $crate::shape::Shape::Object(&[$((stringify!($name), $crate::shape::shape!($item))),*])
    };
    ($named:ident) => { $named };
}
pub(crate) use shape;

impl Shape {
    /// Brings `value` into this shape: what is `null` and what the shape does not have is taken out.
    ///
    /// # Errors
    /// `SerializationException` for a value of the wrong type, `refusal` for a string that is not one of
    /// those that are possible.
    pub fn conform(&self, value: &mut Value, refusal: Refusal) -> Result<(), ApiError> {
        self.conform_at(value, &mut String::new(), refusal)
    }

    /// [`Shape::conform`] for the value at `path`, which is as it was when this returns `Ok`.
    fn conform_at(&self, value: &mut Value, path: &mut String, refusal: Refusal) -> Result<(), ApiError> {
        match (self, &mut *value) {
            (Self::Text, Value::String(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::Any, _) => Ok(()),
            (Self::Int, Value::Number(number))
                if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) =>
            {
                Ok(())
            }
            (Self::OneOf(names), Value::String(given)) => {
                if names.contains(&given.as_str()) {
                    return Ok(());
                }
                let given: String = given.chars().take(100).collect();
                let names = names.join(", ");
                Err(refusal
                    .because(format_args!("Invalid value for {path}: {given:?} is not one of {names}")))
            }
            (Self::List(item), Value::Array(items)) => {
                items.retain(|item| !item.is_null());
                let outer = path.len();
                for (index, one) in items.iter_mut().enumerate() {
                    let _ = write!(path, "[{index}]");
                    item.conform_at(one, path, refusal)?;
                    path.truncate(outer);
                }
                Ok(())
            }
            (Self::Map(item), Value::Object(members)) => {
                members.retain(|_, member| !member.is_null());
                for (name, member) in members.iter_mut() {
                    item.conform_member(member, name, path, refusal)?;
                }
                Ok(())
            }
            (Self::Object(shapes), Value::Object(members)) => {
                members.retain(|name, member| {
                    !member.is_null() && shapes.iter().any(|(known, _)| *known == name.as_str())
                });
                for (name, shape) in *shapes {
                    if let Some(member) = members.get_mut(*name) {
                        shape.conform_member(member, name, path, refusal)?;
                    }
                }
                Ok(())
            }
            (Self::Int, Value::Number(number)) => Err(ApiError::Serialization(format!(
                "{path} must be an integer between {} and {}, not {number}",
                i32::MIN,
                i32::MAX
            ))),
            (_, found) => {
                let place = if path.is_empty() { "the request body" } else { path.as_str() };
                Err(ApiError::Serialization(format!(
                    "{place} must be {}, not {}",
                    self.in_words(),
                    type_name(found)
                )))
            }
        }
    }

    /// What of `value` does not fit this shape, as whoever wrote it by hand wants to hear it: every place at
    /// once, and members the shape does not have among them, which [`Shape::conform`] leaves out.
    #[must_use]
    pub fn misfits(&self, value: &Value) -> Vec<Misfit> {
        let mut found = Vec::new();
        self.find_misfits(value, &mut String::new(), &mut found);
        found
    }

    fn find_misfits(&self, value: &Value, path: &mut String, found: &mut Vec<Misfit>) {
        let mut misfit = |why: String| found.push(Misfit { path: path.clone(), why });
        match (self, value) {
            // What is null is not there.
            (_, Value::Null)
            | (Self::Text, Value::String(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::Any, _) => {}
            (Self::Int, Value::Number(number)) => {
                if number.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
                    misfit(format!("must be an integer of 32 bits, not {number}"));
                }
            }
            (Self::OneOf(names), Value::String(given)) => {
                if !names.contains(&given.as_str()) {
                    misfit(format!("is {given:?}; it can be {}", names.join(", ")));
                }
            }
            (Self::List(item), Value::Array(items)) => {
                for (index, one) in items.iter().enumerate() {
                    let outer = path.len();
                    let _ = write!(path, "[{index}]");
                    item.find_misfits(one, path, found);
                    path.truncate(outer);
                }
            }
            (Self::Map(item), Value::Object(members)) => {
                for (name, member) in members {
                    within(path, name, |path| item.find_misfits(member, path, found));
                }
            }
            (Self::Object(shapes), Value::Object(members)) => {
                for (name, member) in members {
                    within(path, name, |path| match shapes.iter().find(|(known, _)| known == name) {
                        Some((_, shape)) => shape.find_misfits(member, path, found),
                        None => found.push(Misfit { path: path.clone(), why: unknown_member(name, shapes) }),
                    });
                }
            }
            (Self::Text, Value::Number(_) | Value::Bool(_)) => {
                misfit(format!("must be a string, not {}; put it in quotes: \"{value}\"", type_name(value)));
            }
            (_, other) => misfit(format!("must be {}, not {}", self.in_words(), type_name(other))),
        }
    }

    fn conform_member(
        &self,
        member: &mut Value,
        name: &str,
        path: &mut String,
        refusal: Refusal,
    ) -> Result<(), ApiError> {
        let outer = path.len();
        if outer > 0 {
            path.push('.');
        }
        path.push_str(name);
        self.conform_at(member, path, refusal)?;
        path.truncate(outer);
        Ok(())
    }

    fn in_words(&self) -> &'static str {
        match self {
            Self::Text | Self::OneOf(_) => "a string",
            Self::Flag => "true or false",
            Self::Int => "an integer",
            Self::Number => "a number",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Object(_) => "an object",
            Self::Any => "anything",
        }
    }
}

/// A place where a value is not what its shape says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where, such as `containerDefinitions[0].image`; empty for the value itself.
    pub path: String,
    /// What is wrong there, as the rest of a sentence that begins with the place.
    pub why: String,
}

/// Does something with the path of a member.
fn within(path: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    let outer = path.len();
    if outer > 0 {
        path.push('.');
    }
    path.push_str(name);
    inside(path);
    path.truncate(outer);
}

/// Says that there is no such member, and which one may have been meant: spelled otherwise, or the one that
/// begins alike.
fn unknown_member(name: &str, shapes: &[(&'static str, Shape)]) -> String {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let given = plain(name);
    let alike = |known: &str| {
        let known = plain(known);
        let same = known.bytes().zip(given.bytes()).take_while(|(one, other)| one == other).count();
        // All but the last few letters: `command` for `commands`, `portMappings` for `portMapping`.
        if known == given {
            usize::MAX
        } else if same + 2 >= known.len().max(given.len()) {
            same
        } else {
            0
        }
    };
    let closest = shapes.iter().map(|(known, _)| (alike(known), *known)).max_by_key(|(alike, _)| *alike);
    match closest {
        Some((1.., known)) => format!("is not known; did you mean {known}?"),
        _ => "is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INNER: Shape = shape!({ mode: ("on" "off"), size: int });
    const OUTER: Shape = shape!({
        name: text, type: text, wanted: flag, share: number, labels: {* text}, items: [INNER], free: any,
    });

    fn conformed(mut value: Value) -> Result<Value, ApiError> {
        OUTER.conform(&mut value, Refusal::InvalidParameter).map(|()| value)
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let value = json!({
            "name": "a", "type": "b", "wanted": true, "share": 0.5, "labels": {"any": "x"},
            "items": [{"mode": "on", "size": -2_147_483_648i64}, {}], "free": [{"x": 1}],
        });
        assert_eq!(conformed(value.clone()), Ok(value));
    }

    #[test]
    fn what_the_model_does_not_have_and_what_is_null_is_left_out() {
        let value = json!({
            "name": null, "bogus": 1, "labels": {"a": null, "b": "c"}, "items": [null, {"size": null, "bogus": {}}],
        });
        assert_eq!(conformed(value), Ok(json!({"labels": {"b": "c"}, "items": [{}]})));
    }

    #[test]
    fn wrong_types_are_refused_with_the_place() {
        for (value, text) in [
            (json!([]), "the request body must be an object, not a list"),
            (json!({"name": 1}), "name must be a string, not a number"),
            (json!({"wanted": "true"}), "wanted must be true or false, not a string"),
            (json!({"labels": {"a": 1}}), "labels.a must be a string, not a number"),
            (json!({"items": {}}), "items must be a list, not an object"),
            (json!({"items": [{}, {"size": "1"}]}), "items[1].size must be an integer, not a string"),
            (
                json!({"items": [{"size": 1.5}]}),
                "items[0].size must be an integer between -2147483648 and 2147483647, not 1.5",
            ),
            (
                json!({"items": [{"size": 2_147_483_648i64}]}),
                "items[0].size must be an integer between -2147483648 and 2147483647, not 2147483648",
            ),
        ] {
            assert_eq!(conformed(value), Err(ApiError::Serialization(text.to_owned())));
        }
    }

    #[test]
    fn a_string_that_is_none_of_those_possible_is_an_invalid_parameter() {
        assert_eq!(
            conformed(json!({"items": [{"mode": "auto"}]})),
            Err(ApiError::InvalidParameter(
                "Invalid value for items[0].mode: \"auto\" is not one of on, off".to_owned()
            ))
        );
    }

    #[test]
    fn misfits_are_all_told_with_unknown_members_among_them() {
        let value = json!({
            "Name": "a", "name": 5, "bogus": 1, "labels": {"a": null, "b": []},
            "items": [{"mode": "auto", "sizes": 1}, "x"], "share": 1.5, "free": {"any": "thing"},
        });
        let found: Vec<String> =
            OUTER.misfits(&value).into_iter().map(|one| format!("{} {}", one.path, one.why)).collect();
        let expected = [
            "Name is not known; did you mean name?",
            "bogus is not known",
            "items[0].mode is \"auto\"; it can be on, off",
            "items[0].sizes is not known; did you mean size?",
            "items[1] must be an object, not a string",
            "labels.b must be a string, not a list",
            "name must be a string, not a number; put it in quotes: \"5\"",
        ];
        assert_eq!(found, expected);
        assert_eq!(OUTER.misfits(&json!({"items": [{"size": 3_000_000_000u32}]})).len(), 1);
        assert_eq!(OUTER.misfits(&json!({"name": null, "items": [], "wanted": false})), []);
    }
}
