//! Attributes of container instances: what placement constraints and strategies go by.

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// At most this many attributes in one request, and custom ones on one container instance.
pub const ATTRIBUTES_MAX: usize = 10;

/// One attribute, as a request gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeInput {
    /// Its name.
    pub name: String,
    /// Its value, if it has one.
    pub value: Option<String>,
    /// The container instance it is meant for, by id or ARN.
    pub target: Option<String>,
}

/// Takes `attributes` as RegisterContainerInstance has them.
///
/// # Errors
/// When one breaks a rule.
pub fn take(members: &mut Members) -> Result<Vec<AttributeInput>, ApiError> {
    members.objects("attributes")?.unwrap_or_default().into_iter().map(one).collect()
}

fn one(mut members: Members) -> Result<AttributeInput, ApiError> {
    let allowed = |text: &str, others: &str| {
        (1..=128).contains(&text.chars().count())
            && text.chars().all(|one| one.is_ascii_alphanumeric() || others.contains(one))
    };
    let name = members.required_text("name")?;
    if !allowed(&name, "-_/\\.") {
        return Err(members.invalid(
            "name",
            "1 to 128 letters, numbers, hyphens, underscores, slashes, back slashes and periods are allowed",
        ));
    }
    let value = members.text("value")?.filter(|value| !value.is_empty());
    let trimmed = value.as_deref().is_none_or(|value| value.trim() == value);
    if !trimmed || value.as_deref().is_some_and(|value| !allowed(value, "-_.@/\\: ")) {
        return Err(members.invalid(
            "value",
            "1 to 128 letters, numbers, hyphens, underscores, periods, at signs, slashes, back slashes, colons and \
             spaces inside are allowed",
        ));
    }
    Ok(AttributeInput { name, value, target: members.text("targetId")?.filter(|id| !id.is_empty()) })
}

/// Whether an attribute is one that people put on an instance, and not ECS.
#[must_use]
pub fn is_custom(name: &str) -> bool {
    !name.starts_with("ecs.") && !name.starts_with("com.amazonaws.ecs.")
}

/// PutAttributes and DeleteAttributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeAttributes {
    /// The cluster.
    pub cluster: Option<String>,
    /// The attributes, each with its target.
    pub attributes: Vec<AttributeInput>,
}

impl ChangeAttributes {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are none or more than 10 attributes, one of them breaks a rule, has no target or is ECS's.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let attributes = take(&mut members)?;
        if attributes.is_empty() {
            return Err(members.missing("attributes"));
        }
        if attributes.len() > ATTRIBUTES_MAX {
            return Err(members.refuse(format_args!(
                "A request can have at most {ATTRIBUTES_MAX} attributes, not {}.",
                attributes.len()
            )));
        }
        for attribute in &attributes {
            if attribute.target.is_none() {
                return Err(members.refuse(format_args!(
                    "targetId should not be null or empty: the attribute {} is meant for no container instance.",
                    attribute.name
                )));
            }
            if !is_custom(&attribute.name) {
                return Err(members.refuse(format_args!(
                    "The attribute {} belongs to ECS and cannot be changed.",
                    attribute.name
                )));
            }
        }
        Ok(Self { cluster: members.text("cluster")?, attributes })
    }
}

/// ListAttributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAttributes {
    /// The cluster.
    pub cluster: Option<String>,
    /// Only those with this name.
    pub name: Option<String>,
    /// Only those with this value.
    pub value: Option<String>,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListAttributes {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the type of target is missing, or a value is given without a name.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        members.required_text("targetType")?;
        let name = members.text("attributeName")?.filter(|name| !name.is_empty());
        let value = members.text("attributeValue")?.filter(|value| !value.is_empty());
        if name.is_none() && value.is_some() {
            return Err(members.refuse("An attributeValue can only be given together with an attributeName."));
        }
        Ok(Self {
            cluster: members.text("cluster")?,
            name,
            value,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// An attribute of the instance it is shown with.
#[must_use]
pub fn bare(name: &str, value: Option<&str>) -> Value {
    Object::new().with("name", name).maybe("value", value).into()
}

/// An attribute of the instance with this ARN.
#[must_use]
pub fn attribute(name: &str, value: Option<&str>, target_arn: &str) -> Value {
    Object::new().with("name", name).maybe("value", value).with("targetId", target_arn).into()
}

/// The answer with attributes.
#[must_use]
pub fn attributes(attributes: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("attributes", list(attributes)).maybe("nextToken", next).into()
}
