//! Elastic Load Balancing v2.

pub mod action;
pub mod attributes;
pub mod catalogue;
pub mod condition;
pub mod error;
pub mod inputs;
pub mod listener;
pub mod load_balancer;
pub mod page;
pub mod target;
pub mod target_group;

use coracle_types::Tags;
use serde_json::Value;

pub use error::{ElbCode, ElbError};

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// The version of ELBv2's model, which a form names beside the action. It alone tells ELBv2 from the
/// classic Elastic Load Balancing.
pub const VERSION: &str = "2015-12-01";

/// The namespace of ELBv2's answers.
pub const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// Takes `Tags`.
///
/// # Errors
/// When a key comes twice, or a tag breaks a rule.
pub fn take_tags(members: &mut Members) -> Result<Tags, ApiError> {
    let mut tags = Tags::default();
    merge_tags(&mut tags, members.pairs("Tags", "Key", "Value")?.unwrap_or_default())?;
    Ok(tags)
}

/// Adds tags to those there are.
///
/// # Errors
/// When a key comes twice among the new ones, or a tag breaks a rule.
pub fn merge_tags(tags: &mut Tags, pairs: Vec<(String, String)>) -> Result<(), ApiError> {
    let keys: std::collections::HashSet<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    if keys.len() < pairs.len() {
        return Err(ElbCode::DuplicateTagKeys.because("A tag key was specified more than once").into());
    }
    tags.merge(pairs).map_err(|error| match error {
        coracle_types::TagError::TooMany => ElbCode::TooManyTags.because(error).into(),
        other => ApiError::Client(other.to_string()),
    })
}

/// Tags as they are answered.
#[must_use]
pub fn tags(tags: &Tags) -> Value {
    list(tags.iter().map(|(key, value)| Object::new().with("Key", key).with("Value", value)))
}

/// An answer that says nothing but that it was done.
#[must_use]
pub fn nothing() -> Value {
    Object::new().into()
}
