//! Tags: `[{"key": …, "value": …}]`, and the actions on the tags of any resource.

use coracle_types::{JsonMap, Tags};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// Takes `tags`.
///
/// # Errors
/// When a tag breaks one of ECS's rules.
pub fn take_tags(members: &mut Members) -> Result<Tags, ApiError> {
    let mut tags = Tags::default();
    let pairs = members.pairs("tags", "key", "value")?.unwrap_or_default();
    tags.merge(pairs).map_err(|error| members.refuse(error))?;
    Ok(tags)
}

/// Tags as they are answered.
#[must_use]
pub fn tags(tags: &Tags) -> Value {
    list(tags.iter().map(|(key, value)| Object::new().with("key", key).with("value", value)))
}

/// TagResource.
#[derive(Clone, Debug, PartialEq)]
pub struct TagResource {
    /// What to tag.
    pub resource_arn: String,
    /// With what.
    pub tags: Vec<(String, String)>,
}

impl TagResource {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a required member is missing or one is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            resource_arn: members.required_text("resourceArn")?,
            tags: members.pairs("tags", "key", "value")?.ok_or_else(|| members.missing("tags"))?,
        })
    }
}

/// UntagResource.
#[derive(Clone, Debug, PartialEq)]
pub struct UntagResource {
    /// What to take tags from.
    pub resource_arn: String,
    /// Their keys.
    pub keys: Vec<String>,
}

impl UntagResource {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a required member is missing or one is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            resource_arn: members.required_text("resourceArn")?,
            keys: members.texts("tagKeys")?.ok_or_else(|| members.missing("tagKeys"))?,
        })
    }
}

/// The answer to ListTagsForResource.
#[must_use]
pub fn list_tags_for_resource(of: &Tags) -> Value {
    Object::new().with("tags", tags(of)).into()
}

/// The answer to actions that answer nothing.
#[must_use]
pub fn nothing() -> Value {
    Value::Object(JsonMap::new())
}
