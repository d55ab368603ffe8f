//! Secrets Manager: secrets and their versions. Members begin with capitals here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_types::secret::{Secret, SecretVersion};
use coracle_types::{AccountId, Timestamp};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list, seconds};

/// What `X-Amz-Target` begins with, before the dot.
pub const TARGET_PREFIX: &str = "secretsmanager";

/// The largest value, in bytes.
const VALUE_BYTES_MAX: usize = 65_536;

/// A secret's value as it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether they were sent as `SecretBinary`.
    pub binary: bool,
}

impl std::fmt::Debug for SecretValue {
    /// Never the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretValue({} bytes)", self.bytes.len())
    }
}

fn value(members: &mut Members) -> Result<Option<SecretValue>, ApiError> {
    let text = members.text("SecretString")?;
    let binary = members.text("SecretBinary")?;
    let value = match (text, binary) {
        (Some(_), Some(_)) => {
            return Err(
                members.refuse("You can't specify both a binary secret value and a string secret value.")
            );
        }
        (Some(text), None) => SecretValue { bytes: text.into_bytes(), binary: false },
        (None, Some(encoded)) => {
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|_| ApiError::Serialization("SecretBinary must be encoded in base64".to_owned()))?;
            SecretValue { bytes, binary: true }
        }
        (None, None) => return Ok(None),
    };
    if !(1..=VALUE_BYTES_MAX).contains(&value.bytes.len()) {
        let length = value.bytes.len();
        return Err(members.refuse(format_args!(
            "The secret value has {length} bytes; it must have 1 to {VALUE_BYTES_MAX}."
        )));
    }
    Ok(Some(value))
}

/// The request's token: it becomes the version's id.
fn token(members: &mut Members) -> Result<Option<String>, ApiError> {
    let Some(token) = members.text("ClientRequestToken")? else { return Ok(None) };
    if !(32..=64).contains(&token.chars().count()) {
        return Err(members.invalid("ClientRequestToken", "it must have 32 to 64 characters"));
    }
    Ok(Some(token))
}

fn secret_id(members: &mut Members) -> Result<String, ApiError> {
    let id = members.required_text("SecretId")?;
    if id.len() > 2048 {
        return Err(members.invalid("SecretId", "it must have at most 2048 characters"));
    }
    Ok(id)
}

fn description(members: &mut Members) -> Result<Option<String>, ApiError> {
    let description = members.text("Description")?;
    if description.as_ref().is_some_and(|text| text.chars().count() > 2048) {
        return Err(members.invalid("Description", "it must have at most 2048 characters"));
    }
    Ok(description)
}

/// CreateSecret.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSecret {
    /// Its name.
    pub name: String,
    /// The id of its first version.
    pub token: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Kept and returned.
    pub kms_key_id: Option<String>,
    /// Kept and returned.
    pub kind: Option<String>,
    /// Its first value.
    pub value: Option<SecretValue>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

impl CreateSecret {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, wrong or too long.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let name = members.required_text("Name")?;
        let plain = |char: char| char.is_ascii_alphanumeric() || "/_+=.@-".contains(char);
        if name.len() > 512 || !name.chars().all(plain) {
            return Err(members.refuse(
                "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: \
                 -/_+=.@!",
            ));
        }
        Ok(Self {
            name,
            token: token(&mut members)?,
            description: description(&mut members)?,
            kms_key_id: members.text("KmsKeyId")?,
            kind: members.text("Type")?,
            value: value(&mut members)?,
            tags: members.pairs("Tags", "Key", "Value")?.unwrap_or_default(),
        })
    }
}

/// GetSecretValue.
#[derive(Clone, Debug, PartialEq)]
pub struct GetSecretValue {
    /// Name or ARN.
    pub secret: String,
    /// Of this version.
    pub version: Option<String>,
    /// Of the version that carries this stage.
    pub stage: Option<String>,
}

impl GetSecretValue {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the secret is not named or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            secret: secret_id(&mut members)?,
            version: members.text("VersionId")?.filter(|text| !text.is_empty()),
            stage: members.text("VersionStage")?.filter(|text| !text.is_empty()),
        })
    }
}

/// PutSecretValue.
#[derive(Clone, Debug, PartialEq)]
pub struct PutSecretValue {
    /// Name or ARN.
    pub secret: String,
    /// The id of the version.
    pub token: Option<String>,
    /// The value.
    pub value: SecretValue,
    /// The version's stages; None is `AWSCURRENT`.
    pub stages: Option<Vec<String>>,
}

impl PutSecretValue {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When secret or value are missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let secret = secret_id(&mut members)?;
        let token = token(&mut members)?;
        let value = value(&mut members)?
            .ok_or_else(|| members.refuse("You must provide either SecretString or SecretBinary."))?;
        let stages = members.texts("VersionStages")?.filter(|stages| !stages.is_empty());
        if stages
            .as_ref()
            .is_some_and(|stages| stages.len() > 20 || stages.iter().any(|stage| stage.len() > 256))
        {
            return Err(members.invalid("VersionStages", "there may be 20 of at most 256 characters"));
        }
        Ok(Self { secret, token, value, stages })
    }
}

/// UpdateSecret.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateSecret {
    /// Name or ARN.
    pub secret: String,
    /// The id of the new version.
    pub token: Option<String>,
    /// What it is for from now on.
    pub description: Option<String>,
    /// Kept and returned.
    pub kms_key_id: Option<String>,
    /// Its new value.
    pub value: Option<SecretValue>,
}

impl UpdateSecret {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the secret is not named or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            secret: secret_id(&mut members)?,
            token: token(&mut members)?,
            description: description(&mut members)?,
            kms_key_id: members.text("KmsKeyId")?,
            value: value(&mut members)?,
        })
    }
}

/// DescribeSecret, RestoreSecret, ListSecretVersionIds: which secret.
///
/// # Errors
/// When it is not named.
pub fn decode_secret(mut members: Members) -> Result<String, ApiError> {
    secret_id(&mut members)
}

/// DeleteSecret.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteSecret {
    /// Name or ARN.
    pub secret: String,
    /// For how many days it can be restored; None: it is gone at once.
    pub recovery_days: Option<u32>,
}

impl DeleteSecret {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the secret is not named, or both a window and none are asked for.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let secret = secret_id(&mut members)?;
        let days = members.integer("RecoveryWindowInDays")?;
        let force = members.flag("ForceDeleteWithoutRecovery")?.unwrap_or(false);
        let recovery_days = match (days, force) {
            (Some(_), true) => {
                return Err(members.refuse(
                    "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
                ));
            }
            (None, true) => None,
            (None, false) => Some(30),
            (Some(days), false) => match u32::try_from(days).ok().filter(|days| (7..=30).contains(days)) {
                Some(days) => Some(days),
                None => {
                    return Err(members.refuse(
                        "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
                    ));
                }
            },
        };
        Ok(Self { secret, recovery_days })
    }
}

/// ListSecrets.
#[derive(Clone, Debug, PartialEq)]
pub struct ListSecrets {
    /// Whether those on their way out are listed too.
    pub deleted_too: bool,
    /// All of these must match: a key, and values of which one must.
    pub filters: Vec<(String, Vec<String>)>,
    /// Whether the newest come first, as they do unless asked otherwise.
    pub descending: bool,
    /// At most so many.
    pub limit: usize,
    /// The name after which the page begins.
    pub token: Option<String>,
}

/// The keys of filters.
const FILTERS: [&str; 7] =
    ["description", "name", "tag-key", "tag-value", "primary-region", "owning-service", "all"];

impl ListSecrets {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type or a filter unknown.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let mut filters = Vec::new();
        for mut filter in members.objects("Filters")?.unwrap_or_default() {
            let key = filter.required_text("Key")?;
            if !FILTERS.contains(&key.as_str()) {
                return Err(filter.invalid("Key", format_args!("it is not one of {}", FILTERS.join(", "))));
            }
            filters.push((key, filter.texts("Values")?.unwrap_or_default()));
        }
        Ok(Self {
            deleted_too: members.flag("IncludePlannedDeletion")?.unwrap_or(false),
            filters,
            descending: members.text("SortOrder")?.is_none_or(|order| order != "asc"),
            limit: members.integer_in("MaxResults", 1..=100)?.unwrap_or(100) as usize,
            token: members.text("NextToken")?,
        })
    }
}

/// TagResource: which secret, and its tags.
///
/// # Errors
/// When a member is missing or of the wrong type.
pub fn decode_tag(mut members: Members) -> Result<(String, Vec<(String, String)>), ApiError> {
    let secret = secret_id(&mut members)?;
    let tags = members.pairs("Tags", "Key", "Value")?.ok_or_else(|| members.missing("Tags"))?;
    Ok((secret, tags))
}

/// UntagResource: which secret, and the keys of its tags.
///
/// # Errors
/// When a member is missing or of the wrong type.
pub fn decode_untag(mut members: Members) -> Result<(String, Vec<String>), ApiError> {
    let secret = secret_id(&mut members)?;
    let keys = members.texts("TagKeys")?.ok_or_else(|| members.missing("TagKeys"))?;
    Ok((secret, keys))
}

/// The ARN of a secret.
#[must_use]
pub fn arn(account: AccountId, secret: &Secret) -> String {
    format!("arn:aws:secretsmanager:{}:{account}:secret:{}", secret.id.region, secret.arn_name())
}

/// What names a secret in every answer.
fn named(account: AccountId, secret: &Secret) -> Object {
    Object::new().with("ARN", arn(account, secret)).with("Name", secret.id.name.clone())
}

/// The answer that names a secret, and a version if there is one.
#[must_use]
pub fn secret_answer(account: AccountId, secret: &Secret, version: Option<&SecretVersion>) -> Value {
    named(account, secret).maybe("VersionId", version.map(|version| version.id.clone())).into()
}

/// The answer of PutSecretValue.
#[must_use]
pub fn put_answer(account: AccountId, secret: &Secret, version: &SecretVersion) -> Value {
    named(account, secret)
        .with("VersionId", version.id.clone())
        .with("VersionStages", version.stages.clone())
        .into()
}

/// The answer of GetSecretValue, with the value in the clear.
#[must_use]
pub fn value_answer(account: AccountId, secret: &Secret, version: &SecretVersion, value: Vec<u8>) -> Value {
    let answer = named(account, secret)
        .with("VersionId", version.id.clone())
        .with("VersionStages", version.stages.clone())
        .time("CreatedDate", Some(version.created_at));
    if version.binary {
        answer.with("SecretBinary", STANDARD.encode(value)).into()
    } else {
        answer.with("SecretString", String::from_utf8_lossy(&value).into_owned()).into()
    }
}

/// The answer of DeleteSecret.
#[must_use]
pub fn delete_answer(account: AccountId, secret: &Secret, gone_at: Timestamp) -> Value {
    named(account, secret).with("DeletionDate", seconds(gone_at)).into()
}

/// The answer of DescribeSecret; with `SecretVersionsToStages`, an item of ListSecrets.
#[must_use]
pub fn description_of(account: AccountId, secret: &Secret, stages_member: &str) -> Object {
    let tags = secret
        .tags
        .iter()
        .map(|(key, value)| Value::from(Object::new().with("Key", key).with("Value", value)));
    let staged = secret.versions.iter().filter(|version| !version.stages.is_empty());
    let stages =
        staged.fold(Object::new(), |object, version| object.with(&version.id, version.stages.clone()));
    named(account, secret)
        .maybe("Description", secret.description.clone())
        .maybe("KmsKeyId", secret.kms_key_id.clone())
        .maybe("Type", secret.kind.clone())
        .time("CreatedDate", Some(secret.created_at))
        .time("LastChangedDate", Some(secret.changed_at))
        .time("DeletedDate", secret.deleted.map(|deletion| deletion.asked_at))
        .with("Tags", list(tags))
        .with(stages_member, Value::from(stages))
}

/// The answer of ListSecrets.
#[must_use]
pub fn list_answer(account: AccountId, secrets: &[&Secret], next: Option<String>) -> Value {
    let items =
        secrets.iter().map(|secret| Value::from(description_of(account, secret, "SecretVersionsToStages")));
    Object::new().with("SecretList", list(items)).maybe("NextToken", next).into()
}

/// The answer of ListSecretVersionIds.
#[must_use]
pub fn versions_answer(account: AccountId, secret: &Secret, deprecated_too: bool) -> Value {
    let shown = secret.versions.iter().filter(|version| deprecated_too || !version.stages.is_empty());
    let versions = shown.map(|version| {
        Value::from(
            Object::new()
                .with("VersionId", version.id.clone())
                .with("VersionStages", version.stages.clone())
                .time("CreatedDate", Some(version.created_at)),
        )
    });
    named(account, secret).with("Versions", list(versions)).into()
}
