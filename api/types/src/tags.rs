//! Tags on resources, with ECS's limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// At most this many tags on one resource (ECS service quotas).
pub const MAX_TAGS: usize = 50;

/// Why a set of tags was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// More than [`MAX_TAGS`] in all.
    #[error("a resource can have at most {MAX_TAGS} tags")]
    TooMany,
    /// A key of 0 or more than 128 characters.
    #[error("tag key {0:?} must have 1 to 128 characters")]
    BadKey(String),
    /// A value of more than 256 characters.
    #[error("the value of tag {0:?} must have at most 256 characters")]
    BadValue(String),
    /// A key that begins with `aws:`, which AWS keeps for itself.
    #[error("tag key {0:?} must not begin with aws:")]
    Reserved(String),
}

/// The tags of one resource, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Adds tags, replacing those of the same key; all of them or, on an error, none.
    ///
    /// # Errors
    /// The first rule that one of them breaks.
    pub fn merge(&mut self, tags: impl IntoIterator<Item = (String, String)>) -> Result<(), TagError> {
        let mut merged = self.0.clone();
        for (key, value) in tags {
            if key.is_empty() || key.chars().count() > 128 {
                return Err(TagError::BadKey(key.chars().take(140).collect()));
            }
            if key.to_ascii_lowercase().starts_with("aws:") {
                return Err(TagError::Reserved(key));
            }
            if value.chars().count() > 256 {
                return Err(TagError::BadValue(key));
            }
            merged.insert(key, value);
        }
        if merged.len() > MAX_TAGS {
            return Err(TagError::TooMany);
        }
        self.0 = merged;
        Ok(())
    }

    /// Takes away the tag with this key, if there is one.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The tags in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn all_or_none() {
        let mut tags = Tags::default();
        tags.merge([pair("team", "shop")]).unwrap();
        assert_eq!(
            tags.merge([pair("ok", "1"), pair("aws:x", "2")]),
            Err(TagError::Reserved("aws:x".to_owned()))
        );
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("team", "shop")]);
        assert_eq!(tags.merge((0..50).map(|n| pair(&n.to_string(), ""))), Err(TagError::TooMany));
    }
}
