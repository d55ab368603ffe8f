//! Account settings: requests, and a setting as ECS answers it.

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// PutAccountSetting, PutAccountSettingDefault and DeleteAccountSetting; they differ in which members they
/// may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeAccountSetting {
    /// Which setting.
    pub name: String,
    /// Its value; empty when it is to be deleted.
    pub value: String,
    /// Whose setting, as an ARN, if given.
    pub principal: Option<String>,
}

impl ChangeAccountSetting {
    /// Takes a request apart that gives a value.
    ///
    /// # Errors
    /// When a required member is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let value = members.required_text("value")?;
        Ok(Self { value, ..Self::decode_deletion(members)? })
    }

    /// Takes a request apart that gives none.
    ///
    /// # Errors
    /// When the name is missing.
    pub fn decode_deletion(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            name: members.required_text("name")?,
            value: String::new(),
            principal: members.text("principalArn")?.filter(|arn| !arn.is_empty()),
        })
    }
}

/// ListAccountSettings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAccountSettings {
    /// Only this setting.
    pub name: Option<String>,
    /// Only with this value.
    pub value: Option<String>,
    /// Whose settings, as an ARN, if given.
    pub principal: Option<String>,
    /// Whether those nobody changed count.
    pub effective: bool,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListAccountSettings {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a value is given without a name, or more than 10 results are asked for.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let name = members.text("name")?.filter(|name| !name.is_empty());
        let value = members.text("value")?.filter(|value| !value.is_empty());
        if name.is_none() && value.is_some() {
            return Err(members.refuse("You must specify a setting name to filter by its value."));
        }
        Ok(Self {
            name,
            value,
            principal: members.text("principalArn")?.filter(|arn| !arn.is_empty()),
            effective: members.flag("effectiveSettings")?.unwrap_or(false),
            page: PageRequest::take_up_to(&mut members, 10, 10)?,
        })
    }
}

/// One setting.
#[must_use]
pub fn setting(name: &str, value: &str, principal: &str, managed: bool) -> Value {
    Object::new()
        .with("name", name)
        .with("value", value)
        .with("principalArn", principal)
        .with("type", if managed { "aws_managed" } else { "user" })
        .into()
}

/// The answer with one setting.
#[must_use]
pub fn one(setting: Value) -> Value {
    Object::new().with("setting", setting).into()
}

/// The answer to ListAccountSettings.
#[must_use]
pub fn settings(settings: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("settings", list(settings)).maybe("nextToken", next).into()
}
