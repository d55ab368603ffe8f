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

/// A moment as Query services write it: ISO 8601 in UTC, with milliseconds.
#[must_use]
pub fn iso8601(at: Timestamp) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, ms) = (at.as_millis().div_euclid(DAY_MS), at.as_millis().rem_euclid(DAY_MS));
    // Days in eras of 400 years that begin on a 1st of March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
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
    fn moments_are_iso_8601() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_254_385_250, "2026-11-21T09:46:25.250Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601(Timestamp(at)), text);
        }
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
