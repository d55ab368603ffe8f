//! Systems Manager's Parameter Store. Members begin with capitals here, and most errors have names without
//! "Exception".

use coracle_types::parameter::{Parameter, ParameterId, ParameterKind, ParameterVersion};
use coracle_types::{AccountId, Region};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

/// What `X-Amz-Target` begins with, before the dot.
pub const TARGET_PREFIX: &str = "AmazonSSM";

impl Named for ParameterKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("String", Self::Text), ("StringList", Self::List), ("SecureString", Self::Secure)];
}

/// PutParameter.
#[derive(Clone, PartialEq)]
pub struct PutParameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it is; None keeps what it was.
    pub kind: Option<ParameterKind>,
    /// What it is for.
    pub description: Option<String>,
    /// Kept and returned.
    pub key_id: Option<String>,
    /// Whether an existing one gets another version.
    pub overwrite: bool,
    /// What its values have to match.
    pub allowed_pattern: Option<String>,
    /// `Standard`, `Advanced` or `Intelligent-Tiering`.
    pub tier: Option<String>,
    /// `text`, …
    pub data_type: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

impl PutParameter {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, wrong or too long.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let tier = members.text("Tier")?;
        if tier
            .as_ref()
            .is_some_and(|tier| !["Standard", "Advanced", "Intelligent-Tiering"].contains(&tier.as_str()))
        {
            return Err(members.invalid("Tier", "it is not one of Standard, Advanced, Intelligent-Tiering"));
        }
        Ok(Self {
            name: members.required_text("Name")?,
            value: members.required_text("Value")?,
            kind: members.named("Type")?,
            description: members.text("Description")?,
            key_id: members.text("KeyId")?,
            overwrite: members.flag("Overwrite")?.unwrap_or(false),
            allowed_pattern: members.text("AllowedPattern")?.filter(|pattern| !pattern.is_empty()),
            tier,
            data_type: members.text("DataType")?,
            tags: members.pairs("Tags", "Key", "Value")?.unwrap_or_default(),
        })
    }
}

/// Takes a parameter's name or its ARN, which is as good.
fn name(members: &mut Members, member: &str) -> Result<String, ApiError> {
    let name = members.required_text(member)?;
    if name.len() > 2048 {
        return Err(members.invalid(member, "it must have at most 2048 characters"));
    }
    Ok(name)
}

/// GetParameter.
#[derive(Clone, Debug, PartialEq)]
pub struct GetParameter {
    /// Its name, with a selector perhaps.
    pub name: String,
    /// Whether a secure value is shown.
    pub decrypt: bool,
}

impl GetParameter {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the name is missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            name: name(&mut members, "Name")?,
            decrypt: members.flag("WithDecryption")?.unwrap_or(false),
        })
    }
}

/// GetParameters and DeleteParameters.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedParameters {
    /// Their names.
    pub names: Vec<String>,
    /// Whether secure values are shown.
    pub decrypt: bool,
}

impl NamedParameters {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are no names, or too many.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let names = members.texts("Names")?.ok_or_else(|| members.missing("Names"))?;
        if !(1..=10).contains(&names.len()) {
            return Err(members.invalid("Names", "there must be 1 to 10"));
        }
        Ok(Self { names, decrypt: members.flag("WithDecryption")?.unwrap_or(false) })
    }
}

/// A condition on parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterFilter {
    /// `Name`, `Type`, `KeyId`, `Path`, `Tier`, `DataType` or `tag:…`.
    pub key: String,
    /// `Equals`, `BeginsWith`, `Contains`, `Recursive` or `OneLevel`.
    pub option: Option<String>,
    /// One of them must match.
    pub values: Vec<String>,
}

fn filters(members: &mut Members) -> Result<Vec<ParameterFilter>, ApiError> {
    let mut found = Vec::new();
    for mut filter in members.objects("ParameterFilters")?.unwrap_or_default() {
        let key = filter.required_text("Key")?;
        let known = ["Name", "Type", "KeyId", "Path", "Tier", "DataType"].contains(&key.as_str());
        if !known && !key.starts_with("tag:") {
            let shown: String = key.chars().take(100).collect();
            return Err(ApiError::Named {
                code: "InvalidFilterKey",
                message: format!(
                    "The following filter key is not valid: {shown}. Valid filter keys include: [Path, Name, Type, KeyId, Tier, DataType]."
                ),
            });
        }
        let option = filter.text("Option")?;
        if option.as_ref().is_some_and(|option| {
            !["Equals", "BeginsWith", "Contains", "Recursive", "OneLevel"].contains(&option.as_str())
        }) {
            return Err(ApiError::Named {
                code: "InvalidFilterOption",
                message: "The filter option is not valid. Valid options include: [Equals, BeginsWith, Contains, Recursive, OneLevel].".to_owned(),
            });
        }
        found.push(ParameterFilter { key, option, values: filter.texts("Values")?.unwrap_or_default() });
    }
    // The older form of the same.
    for mut filter in members.objects("Filters")?.unwrap_or_default() {
        let key = filter.required_text("Key")?;
        let values = filter.texts("Values")?.unwrap_or_default();
        let option = (key == "Name").then(|| "BeginsWith".to_owned());
        found.push(ParameterFilter { key, option, values });
    }
    Ok(found)
}

/// GetParametersByPath and DescribeParameters.
#[derive(Clone, Debug, PartialEq)]
pub struct ListParameters {
    /// What their names begin with: a path, for GetParametersByPath.
    pub path: Option<String>,
    /// Whether those further down are meant too.
    pub recursive: bool,
    /// All of them must hold.
    pub filters: Vec<ParameterFilter>,
    /// Whether secure values are shown.
    pub decrypt: bool,
    /// At most so many.
    pub limit: usize,
    /// The name after which the page begins.
    pub token: Option<String>,
}

impl ListParameters {
    /// Takes a GetParametersByPath apart.
    ///
    /// # Errors
    /// When the path is missing or a member is of the wrong type.
    pub fn decode_by_path(mut members: Members) -> Result<Self, ApiError> {
        let path = name(&mut members, "Path")?;
        if !path.starts_with('/') {
            return Err(members.refuse(
                "The parameter doesn't meet the parameter name requirements. The parameter name must begin with a \
                 forward slash \"/\".",
            ));
        }
        Ok(Self {
            path: Some(path),
            recursive: members.flag("Recursive")?.unwrap_or(false),
            filters: filters(&mut members)?,
            decrypt: members.flag("WithDecryption")?.unwrap_or(false),
            limit: members.integer_in("MaxResults", 1..=10)?.unwrap_or(10) as usize,
            token: members.text("NextToken")?,
        })
    }

    /// Takes a DescribeParameters apart.
    ///
    /// # Errors
    /// When a member is of the wrong type.
    pub fn decode_describe(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            path: None,
            recursive: true,
            filters: filters(&mut members)?,
            decrypt: false,
            limit: members.integer_in("MaxResults", 1..=50)?.unwrap_or(10) as usize,
            token: members.text("NextToken")?,
        })
    }
}

/// GetParameterHistory.
#[derive(Clone, Debug, PartialEq)]
pub struct GetParameterHistory {
    /// Which parameter.
    pub name: String,
    /// Whether secure values are shown.
    pub decrypt: bool,
    /// At most so many.
    pub limit: usize,
    /// The number after which the page begins.
    pub token: Option<String>,
}

impl GetParameterHistory {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the name is missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            name: name(&mut members, "Name")?,
            decrypt: members.flag("WithDecryption")?.unwrap_or(false),
            limit: members.integer_in("MaxResults", 1..=50)?.unwrap_or(50) as usize,
            token: members.text("NextToken")?,
        })
    }
}

/// DeleteParameter: which.
///
/// # Errors
/// When the name is missing.
pub fn decode_name(mut members: Members) -> Result<String, ApiError> {
    name(&mut members, "Name")
}

/// The ARN of a parameter.
#[must_use]
pub fn arn(account: AccountId, region: &Region, name: &str) -> String {
    let slash = if name.starts_with('/') { "" } else { "/" };
    format!("arn:aws:ssm:{region}:{account}:parameter{slash}{name}")
}

/// One value of a parameter as the answers show it. `value` is what the caller may see of it.
#[must_use]
pub fn parameter(
    account: AccountId,
    id: &ParameterId,
    version: &ParameterVersion,
    value: String,
    selector: Option<String>,
) -> Value {
    Object::new()
        .with("Name", id.name.clone())
        .with("Type", version.kind.name())
        .with("Value", value)
        .with("Version", version.number)
        .maybe("Selector", selector)
        .time("LastModifiedDate", Some(version.modified_at))
        .with("ARN", arn(account, &id.region, &id.name))
        .with("DataType", version.data_type.clone())
        .into()
}

fn metadata(account: AccountId, id: &ParameterId, version: &ParameterVersion) -> Object {
    Object::new()
        .with("Name", id.name.clone())
        .with("ARN", arn(account, &id.region, &id.name))
        .with("Type", version.kind.name())
        .maybe("KeyId", version.key_id.clone())
        .time("LastModifiedDate", Some(version.modified_at))
        .with("LastModifiedUser", format!("arn:aws:iam::{account}:root"))
        .maybe("Description", version.description.clone())
        .maybe("AllowedPattern", version.allowed_pattern.clone())
        .with("Version", version.number)
        .with("Tier", version.tier.clone())
        .with("Policies", list::<Value>([]))
        .with("DataType", version.data_type.clone())
}

/// An item of DescribeParameters.
#[must_use]
pub fn described(account: AccountId, parameter: &Parameter) -> Value {
    metadata(account, &parameter.id, parameter.latest()).into()
}

/// An item of GetParameterHistory.
#[must_use]
pub fn historic(account: AccountId, id: &ParameterId, version: &ParameterVersion, value: String) -> Value {
    metadata(account, id, version).with("Value", value).with("Labels", list::<Value>([])).into()
}

/// The answer that lists parameters.
#[must_use]
pub fn list_answer(parameters: Vec<Value>, next: Option<String>) -> Value {
    Object::new().with("Parameters", list(parameters)).maybe("NextToken", next).into()
}
