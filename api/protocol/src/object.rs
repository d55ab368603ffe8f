//! Putting answers together: JSON objects member by member, and timestamps as AWS writes them.

use coracle_types::{JsonMap, Timestamp};
use serde_json::{Number, Value};

/// A JSON object under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(JsonMap);

impl Object {
    /// No members yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a member if there is a value: AWS leaves out what has none.
    #[must_use]
    pub fn maybe<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a moment, in seconds since the Unix epoch, if there is one.
    #[must_use]
    pub fn time(self, name: &str, at: Option<Timestamp>) -> Self {
        self.maybe(name, at.map(seconds))
    }

    /// Adds what was kept as it was sent, except what is there already.
    #[must_use]
    pub fn rest(mut self, rest: &JsonMap) -> Self {
        for (name, value) in rest {
            if !self.0.contains_key(name) {
                self.0.insert(name.clone(), value.clone());
            }
        }
        self
    }

    /// Adds those of these members that were kept, as they were sent.
    #[must_use]
    pub fn kept(self, rest: &JsonMap, names: &[&str]) -> Self {
        names.iter().fold(self, |object, name| object.maybe(name, rest.get(*name).cloned()))
    }

    /// Adds the member as it was kept, or else `default`.
    #[must_use]
    pub fn kept_or(self, rest: &JsonMap, name: &str, default: impl Into<Value>) -> Self {
        let value = rest.get(name).cloned().unwrap_or_else(|| default.into());
        self.with(name, value)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

/// A list, empty or not: clients index into lists that AWS always sends.
#[must_use]
pub fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(Into::into).collect())
}

/// A moment as JSON services write it: seconds since the Unix epoch with a fraction.
#[must_use]
pub fn seconds(at: Timestamp) -> Value {
    // An f64 holds milliseconds exactly enough for 285,000 years.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
    let seconds = at.as_millis() as f64 / 1000.0;
    Number::from_f64(seconds).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_numbers_of_seconds() {
        assert_eq!(seconds(Timestamp(1_466_801_808_595)).to_string(), "1466801808.595");
        assert_eq!(seconds(Timestamp(1_466_801_808_000)).to_string(), "1466801808.0");
    }

    #[test]
    fn what_is_known_wins_over_what_was_sent() {
        let mut sent = JsonMap::new();
        sent.insert("a".into(), 1.into());
        sent.insert("b".into(), 2.into());
        let value: Value = Object::new().with("a", "known").maybe("none", None::<u32>).rest(&sent).into();
        assert_eq!(value, serde_json::json!({"a": "known", "b": 2}));
    }
}
