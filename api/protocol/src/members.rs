//! Taking requests apart: members of a JSON object, by name and type, with the path to each in every
//! complaint.
//!
//! A member that is `null` counts as absent, as in AWS's services. A member of the wrong type is a
//! `SerializationException`; a missing or impossible one is refused as the action's [`Refusal`] says.
//! Members nobody takes are left over for [`Members::rest`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use coracle_types::{JsonMap, Timestamp};
use serde_json::Value;

use crate::error::ApiError;
use crate::names::Named;

/// What an action calls a parameter it does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `ClientException`: RegisterTaskDefinition.
    Client,
    /// `InvalidParameterException`: all others.
    InvalidParameter,
    /// `ValidationException`: Systems Manager.
    Validation,
    /// `ValidationError`: CloudWatch's alarms.
    ValidationError,
    /// `InvalidParameterValue`: CloudWatch's metrics.
    InvalidParameterValue,
}

impl Refusal {
    /// The error with this text.
    #[must_use]
    pub fn because(self, text: impl Display) -> ApiError {
        match self {
            Self::Client => ApiError::Client(text.to_string()),
            Self::InvalidParameter => ApiError::InvalidParameter(text.to_string()),
            Self::ValidationError => ApiError::Named { code: "ValidationError", message: text.to_string() },
            Self::InvalidParameterValue => {
                ApiError::Named { code: "InvalidParameterValue", message: text.to_string() }
            }
            Self::Validation => ApiError::Named { code: "ValidationException", message: text.to_string() },
        }
    }
}

/// The members of one JSON object of a request that have not been taken yet.
#[derive(Clone, Debug)]
pub struct Members {
    map: JsonMap,
    path: String,
    refusal: Refusal,
}

impl Members {
    /// The members of a request's body.
    ///
    /// # Errors
    /// `SerializationException` when it is not a JSON object.
    pub fn of_body(body: Value, refusal: Refusal) -> Result<Self, ApiError> {
        match body {
            Value::Object(map) => Ok(Self { map, path: String::new(), refusal }),
            other => Err(ApiError::Serialization(format!(
                "the request body must be a JSON object, not {}",
                type_name(&other)
            ))),
        }
    }

    fn nested(&self, name: &str, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, path: self.path_to(name), refusal: self.refusal }),
            other => Err(self.wrong_type(name, &other, "an object")),
        }
    }

    /// Where a member is, such as `containerDefinitions[0].name`.
    #[must_use]
    pub fn path_to(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong_type(&self, name: &str, found: &Value, expected: &str) -> ApiError {
        ApiError::Serialization(format!(
            "{} must be {expected}, not {}",
            self.path_to(name),
            type_name(found)
        ))
    }

    /// The refusal of a member, with its path and why.
    #[must_use]
    pub fn invalid(&self, name: &str, why: impl Display) -> ApiError {
        self.refusal.because(format_args!("Invalid value for {}: {why}", self.path_to(name)))
    }

    /// The refusal of a member that is not there.
    #[must_use]
    pub fn missing(&self, name: &str) -> ApiError {
        self.refusal.because(format_args!("{} should not be null or empty.", self.path_to(name)))
    }

    /// The refusal with this text alone.
    #[must_use]
    pub fn refuse(&self, text: impl Display) -> ApiError {
        self.refusal.because(text)
    }

    /// Takes a member of any type.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Looks at a member without taking it.
    #[must_use]
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Takes a string.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(name, &other, "a string")),
        }
    }

    /// Takes a string that must be there and not be empty.
    ///
    /// # Errors
    /// When it is not, or is of another type.
    pub fn required_text(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(name))
    }

    /// Takes a string and parses it.
    ///
    /// # Errors
    /// When it is of another type, or does not parse.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| self.refusal.because(error)),
        }
    }

    /// Takes one of a set of names.
    ///
    /// # Errors
    /// When it is none of them; the text lists them.
    pub fn named<T: Named>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => T::of_name(&text).map(Some).ok_or_else(|| {
                let names: Vec<&str> = T::ALL.iter().map(|(name, _)| *name).collect();
                let given: String = text.chars().take(100).collect();
                self.invalid(name, format_args!("{given:?} is not one of {}", names.join(", ")))
            }),
        }
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong_type(name, &other, "true or false")),
        }
    }

    /// Takes an integer.
    ///
    /// # Errors
    /// When it is of another type, or has a fraction.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(other) => match other.as_i64() {
                Some(integer) => Ok(Some(integer)),
                None => Err(self.wrong_type(name, &other, "an integer")),
            },
        }
    }

    /// Takes an integer within `range`.
    ///
    /// # Errors
    /// When it is outside, or of another type.
    pub fn integer_in(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let Some(integer) = self.integer(name)? else { return Ok(None) };
        match u32::try_from(integer).ok().filter(|integer| range.contains(integer)) {
            Some(integer) => Ok(Some(integer)),
            None => Err(self.invalid(
                name,
                format_args!("{integer} is not between {} and {}", range.start(), range.end()),
            )),
        }
    }

    /// Takes a moment: seconds since the Unix epoch, with or without a fraction.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn time(&mut self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let seconds = value.as_f64().ok_or_else(|| self.wrong_type(name, &value, "a number of seconds"))?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float out of range becomes the nearest there is"
        )]
        let millis = (seconds * 1000.0) as i64;
        Ok(Some(Timestamp(millis)))
    }

    /// Takes an object.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        self.value(name).map(|value| self.nested(name, value)).transpose()
    }

    fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong_type(name, &other, "a list")),
        }
    }

    /// Takes a list of objects; None when it is not there.
    ///
    /// # Errors
    /// When it or one of its items is of another type.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, ApiError> {
        let Some(items) = self.array(name)? else { return Ok(None) };
        let each = items.into_iter().enumerate();
        each.map(|(index, item)| self.nested(&format!("{name}[{index}]"), item))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes a list of strings; None when it is not there.
    ///
    /// # Errors
    /// When it or one of its items is of another type.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(items) = self.array(name)? else { return Ok(None) };
        let each = items.into_iter().enumerate();
        each.map(|(index, item)| match item {
            Value::String(text) => Ok(text),
            other => Err(self.wrong_type(&format!("{name}[{index}]"), &other, "a string")),
        })
        .collect::<Result<_, _>>()
        .map(Some)
    }

    /// Takes a list of objects of two strings, such as tags; the second may be missing and is then
    /// empty. None when the list is not there.
    ///
    /// # Errors
    /// When something in it is of another type, or a first string is missing.
    pub fn pairs(
        &mut self,
        name: &str,
        first: &str,
        second: &str,
    ) -> Result<Option<Vec<(String, String)>>, ApiError> {
        let Some(items) = self.objects(name)? else { return Ok(None) };
        items
            .into_iter()
            .map(|mut item| {
                let key = item.text(first)?.ok_or_else(|| item.missing(first))?;
                Ok((key, item.text(second)?.unwrap_or_default()))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes an object whose members are all strings.
    ///
    /// # Errors
    /// When it or one of its members is of another type.
    pub fn text_map(&mut self, name: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let Some(nested) = self.object(name)? else { return Ok(BTreeMap::new()) };
        let mut texts = BTreeMap::new();
        for (key, value) in &nested.map {
            match value {
                Value::String(text) => texts.insert(key.clone(), text.clone()),
                Value::Null => None,
                other => return Err(nested.wrong_type(key, other, "a string")),
            };
        }
        Ok(texts)
    }

    /// Takes only the named members, as they are.
    pub fn keep(&mut self, names: &[&str]) -> JsonMap {
        let mut kept = JsonMap::new();
        for name in names {
            if let Some(value) = self.value(name) {
                kept.insert((*name).to_owned(), value);
            }
        }
        kept
    }

    /// Every member nobody took, without those that are `null`.
    #[must_use]
    pub fn rest(self) -> JsonMap {
        self.map.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }
}

/// What a JSON value is, in words.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn members(body: Value) -> Members {
        Members::of_body(body, Refusal::InvalidParameter).unwrap()
    }

    #[test]
    fn complaints_name_the_path() {
        let mut body = members(json!({"a": [{"b": {"c": 5}}]}));
        let mut item = body.objects("a").unwrap().unwrap().remove(0);
        let mut nested = item.object("b").unwrap().unwrap();
        assert_eq!(
            nested.text("c"),
            Err(ApiError::Serialization("a[0].b.c must be a string, not a number".into()))
        );
        assert_eq!(
            nested.required_text("d"),
            Err(ApiError::InvalidParameter("a[0].b.d should not be null or empty.".into()))
        );
    }

    #[test]
    fn numbers_have_bounds() {
        let mut body = members(json!({"a": 11, "b": -1, "c": 1.5, "d": 10, "e": 18446744073709551615u64}));
        assert!(matches!(body.integer_in("a", 1..=10), Err(ApiError::InvalidParameter(_))));
        assert!(matches!(body.integer_in("b", 0..=10), Err(ApiError::InvalidParameter(_))));
        assert!(matches!(body.integer_in("c", 0..=10), Err(ApiError::Serialization(_))));
        assert_eq!(body.integer_in("d", 1..=10), Ok(Some(10)));
        assert!(matches!(body.integer("e"), Err(ApiError::Serialization(_))));
    }

    #[test]
    fn null_is_absent_and_what_is_left_is_the_rest() {
        let mut body = members(json!({"a": null, "b": "x", "c": [1], "d": null}));
        assert_eq!(body.text("a"), Ok(None));
        assert_eq!(body.text("b"), Ok(Some("x".into())));
        assert_eq!(Value::Object(body.rest()), json!({"c": [1]}));
    }

    #[test]
    fn a_body_is_an_object() {
        assert!(matches!(Members::of_body(json!([1]), Refusal::Client), Err(ApiError::Serialization(_))));
    }
}
