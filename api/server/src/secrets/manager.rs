//! Secrets Manager: secrets and their versions.

use std::sync::Arc;

use coracle_protocol::ecs::tag::nothing;
use coracle_protocol::members::Refusal;
use coracle_protocol::secretsmanager as wire;
use coracle_protocol::{ApiError, Members};
use coracle_types::secret::{CURRENT, Deletion, Secret, SecretId, SecretVersion};
use coracle_types::{Changes, Key, Region, State, TagError, Tags, Timestamp};
use rand::Rng as _;
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};
use crate::seal::Sealer;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let members = Members::of_body(body, Refusal::InvalidParameter)?;
    match operation {
        "CreateSecret" => create(api, caller, wire::CreateSecret::decode(members)?).await,
        "GetSecretValue" => get_value(api, caller, &wire::GetSecretValue::decode(members)?),
        "PutSecretValue" => put_value(api, caller, wire::PutSecretValue::decode(members)?).await,
        "UpdateSecret" => update(api, caller, wire::UpdateSecret::decode(members)?).await,
        "DescribeSecret" => describe(api, caller, &wire::decode_secret(members)?),
        "ListSecrets" => list(api, caller, &wire::ListSecrets::decode(members)?),
        "ListSecretVersionIds" => {
            let mut members = members;
            let deprecated_too = members.flag("IncludeDeprecated")?.unwrap_or(false);
            let (_, secret) = find(api, caller, &wire::decode_secret(members)?)?;
            Ok(wire::versions_answer(api.account(), &secret, deprecated_too))
        }
        "DeleteSecret" => delete(api, caller, wire::DeleteSecret::decode(members)?).await,
        "RestoreSecret" => {
            let id = wire::decode_secret(members)?;
            let restore = |secret: &mut Secret, _| {
                secret.deleted = None;
                Ok(())
            };
            let (secret, ()) = change(api, caller, &id, restore).await?;
            Ok(wire::secret_answer(api.account(), &secret, None))
        }
        "TagResource" => {
            let (id, tags) = wire::decode_tag(members)?;
            change(api, caller, &id, move |secret, _| secret.tags.merge(tags.clone()).map_err(bad_tag))
                .await?;
            Ok(nothing())
        }
        "UntagResource" => {
            let (id, keys) = wire::decode_untag(members)?;
            change(api, caller, &id, move |secret, _| {
                keys.iter().for_each(|key| secret.tags.remove(key));
                Ok(())
            })
            .await?;
            Ok(nothing())
        }
        unknown => Err(unknown_operation(Service::SecretsManager, unknown)),
    }
}

fn not_found() -> ApiError {
    ApiError::ResourceNotFound("Secrets Manager can't find the specified secret.".to_owned())
}

fn invalid_request(message: impl Into<String>) -> ApiError {
    ApiError::Named { code: "InvalidRequestException", message: message.into() }
}

fn exists(message: impl Into<String>) -> ApiError {
    ApiError::Named { code: "ResourceExistsException", message: message.into() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn bad_tag(error: TagError) -> ApiError {
    ApiError::InvalidParameter(error.to_string())
}

/// The secret that a name or an ARN means. An ARN may leave out the six characters at its end.
pub(crate) fn lookup<'a>(
    state: &'a State,
    region: &Region,
    name_or_arn: &str,
    now: Timestamp,
) -> Option<&'a Arc<Secret>> {
    let alive = |name: &str| {
        let id = SecretId { region: region.clone(), name: name.to_owned() };
        state.secrets.get(&id).map(|found| &found.value).filter(|secret| !secret.is_gone(now))
    };
    let Some(rest) = name_or_arn.strip_prefix("arn:") else { return alive(name_or_arn) };
    let name = rest.splitn(6, ':').nth(5)?;
    // With its suffix; or else the suffix was left out.
    let suffixed = name.rsplit_once('-').filter(|(_, suffix)| suffix.len() == 6);
    suffixed
        .and_then(|(plain, suffix)| alive(plain).filter(|secret| secret.suffix == suffix))
        .or_else(|| alive(name))
}

fn find(api: &Api, caller: &Caller, id: &str) -> Result<(Arc<State>, Arc<Secret>), ApiError> {
    let state = api.store.snapshot();
    let secret = lookup(&state, &caller.region, id, api.now()).cloned().ok_or_else(not_found)?;
    Ok((state, secret))
}

/// Changes a secret, in whatever state it is.
async fn change<T>(
    api: &Api,
    caller: &Caller,
    id: &str,
    mut change: impl FnMut(&mut Secret, Timestamp) -> Result<T, ApiError>,
) -> Result<(Secret, T), ApiError> {
    let now = api.now();
    let (_, changed) = api
        .transact(|state| {
            let secret = lookup(state, &caller.region, id, now).ok_or_else(not_found)?;
            let mut secret = Secret::clone(secret);
            let answer = change(&mut secret, now)?;
            secret.changed_at = now;
            let mut changes = Changes::new();
            changes.put(secret.clone());
            Ok((changes, (secret, answer)))
        })
        .await?;
    Ok(changed)
}

fn refuse_deleted(secret: &Secret) -> Result<(), ApiError> {
    match secret.deleted {
        None => Ok(()),
        Some(_) => Err(invalid_request(
            "You can't perform this operation on the secret because it was marked for deletion.",
        )),
    }
}

/// A version with this value; None if it is there already, from an earlier request with the same token.
fn new_version(
    sealer: &Sealer,
    secret: &Secret,
    token: &str,
    value: &wire::SecretValue,
    stages: Vec<String>,
    now: Timestamp,
) -> Result<Option<SecretVersion>, ApiError> {
    let context = Secret::seal_context(&secret.id, token);
    if let Some(known) = secret.versions.iter().find(|version| version.id == token) {
        let same = sealer.open_sealed(&context, &known.sealed).is_ok_and(|bytes| bytes == value.bytes);
        return if same {
            Ok(None)
        } else {
            Err(exists("You can't use ClientRequestToken again with a different value; the version exists."))
        };
    }
    Ok(Some(SecretVersion {
        id: token.to_owned(),
        stages,
        created_at: now,
        sealed: sealer.seal(&context, &value.bytes),
        binary: value.binary,
    }))
}

fn new_token(token: Option<String>) -> String {
    token.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
}

fn new_suffix() -> String {
    let mut rng = rand::rng();
    (0..6).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

async fn create(api: &Api, caller: &Caller, request: wire::CreateSecret) -> Result<Value, ApiError> {
    let now = api.now();
    let token = new_token(request.token.clone());
    let suffix = new_suffix();
    let mut tags = Tags::default();
    tags.merge(request.tags.clone()).map_err(bad_tag)?;
    let id = SecretId { region: caller.region.clone(), name: request.name.clone() };
    let (_, secret) = api
        .transact(|state| {
            let known = state.secrets.get(&id).map(|found| &found.value).filter(|known| !known.is_gone(now));
            if let Some(known) = known {
                if known.deleted.is_some() {
                    return Err(invalid_request(
                        "You can't create this secret because a secret with this name is already scheduled for \
                         deletion.",
                    ));
                }
                // The same request once more.
                let repeated = match (&request.token, &request.value) {
                    (Some(token), Some(value)) if known.versions.iter().any(|version| version.id == *token) => {
                        new_version(&api.sealer, known, token, value, Vec::new(), now)?.is_none()
                    }
                    _ => false,
                };
                if repeated {
                    return Ok((Changes::new(), Secret::clone(known)));
                }
                return Err(exists(format!(
                    "The operation failed because the secret {} already exists.",
                    request.name
                )));
            }
            let mut secret = Secret {
                id: id.clone(),
                suffix: suffix.clone(),
                description: request.description.clone(),
                kms_key_id: request.kms_key_id.clone(),
                kind: request.kind.clone(),
                tags: tags.clone(),
                created_at: now,
                changed_at: now,
                deleted: None,
                versions: Vec::new(),
            };
            if let Some(value) = &request.value {
                let stages = vec![CURRENT.to_owned()];
                secret.versions.extend(new_version(&api.sealer, &secret, &token, value, stages, now)?);
            }
            let mut changes = Changes::new();
            changes.put(secret.clone());
            Ok((changes, secret))
        })
        .await?;
    Ok(wire::secret_answer(api.account(), &secret, secret.at_stage(CURRENT)))
}

/// The version of a secret that a request means.
pub(crate) fn version_of<'a>(
    secret: &'a Secret,
    version: Option<&str>,
    stage: Option<&str>,
) -> Result<&'a SecretVersion, ApiError> {
    let found = match (version, stage) {
        (None, stage) => {
            let stage = stage.unwrap_or(CURRENT);
            secret.at_stage(stage).ok_or_else(|| format!("staging label: {stage}"))
        }
        (Some(version), stage) => secret
            .versions
            .iter()
            .find(|known| known.id == version)
            .filter(|known| stage.is_none_or(|stage| known.stages.iter().any(|known| known == stage)))
            .ok_or_else(|| format!("VersionId: {version}")),
    };
    found.map_err(|what| {
        ApiError::ResourceNotFound(format!(
            "Secrets Manager can't find the specified secret value for {what}"
        ))
    })
}

/// The value of a version in the clear.
pub(crate) fn open(sealer: &Sealer, secret: &Secret, version: &SecretVersion) -> Result<Vec<u8>, ApiError> {
    sealer.open_sealed(&Secret::seal_context(&secret.id, &version.id), &version.sealed).map_err(|error| {
        tracing::error!(secret = %secret.id.name, %error, "a secret was not opened");
        ApiError::Named {
            code: "DecryptionFailure",
            message: "Secrets Manager can't decrypt the protected secret text using the provided KMS key."
                .to_owned(),
        }
    })
}

fn get_value(api: &Api, caller: &Caller, request: &wire::GetSecretValue) -> Result<Value, ApiError> {
    let (_, secret) = find(api, caller, &request.secret)?;
    refuse_deleted(&secret)?;
    let version = version_of(&secret, request.version.as_deref(), request.stage.as_deref())?;
    let value = open(&api.sealer, &secret, version)?;
    Ok(wire::value_answer(api.account(), &secret, version, value))
}

async fn put_value(api: &Api, caller: &Caller, request: wire::PutSecretValue) -> Result<Value, ApiError> {
    let token = new_token(request.token);
    let stages = request.stages.unwrap_or_else(|| vec![CURRENT.to_owned()]);
    let (secret, ()) = change(api, caller, &request.secret, |secret, now| {
        refuse_deleted(secret)?;
        // The first value is always the current one.
        let mut stages = stages.clone();
        if secret.versions.is_empty() && !stages.iter().any(|stage| stage == CURRENT) {
            stages.push(CURRENT.to_owned());
        }
        if let Some(version) = new_version(&api.sealer, secret, &token, &request.value, stages, now)? {
            secret.add(version);
        }
        Ok(())
    })
    .await?;
    let version = version_of(&secret, Some(&token), None)?;
    Ok(wire::put_answer(api.account(), &secret, version))
}

async fn update(api: &Api, caller: &Caller, request: wire::UpdateSecret) -> Result<Value, ApiError> {
    let token = new_token(request.token);
    let (secret, ()) = change(api, caller, &request.secret, |secret, now| {
        refuse_deleted(secret)?;
        if let Some(description) = &request.description {
            secret.description = Some(description.clone());
        }
        if let Some(key) = &request.kms_key_id {
            secret.kms_key_id = Some(key.clone());
        }
        if let Some(value) = &request.value
            && let Some(version) =
                new_version(&api.sealer, secret, &token, value, vec![CURRENT.to_owned()], now)?
        {
            secret.add(version);
        }
        Ok(())
    })
    .await?;
    let version = request.value.as_ref().and_then(|_| secret.versions.iter().find(|known| known.id == token));
    Ok(wire::secret_answer(api.account(), &secret, version))
}

fn describe(api: &Api, caller: &Caller, id: &str) -> Result<Value, ApiError> {
    let (_, secret) = find(api, caller, id)?;
    Ok(wire::description_of(api.account(), &secret, "VersionIdsToStages").into())
}

fn list(api: &Api, caller: &Caller, request: &wire::ListSecrets) -> Result<Value, ApiError> {
    let (state, now) = (api.store.snapshot(), api.now());
    let mut secrets: Vec<&Secret> = state
        .secrets
        .values()
        .map(|found| &*found.value)
        .filter(|secret| secret.id.region == caller.region && !secret.is_gone(now))
        .filter(|secret| request.deleted_too || secret.deleted.is_none())
        .filter(|secret| request.filters.iter().all(|(key, values)| matches(secret, key, values)))
        .collect();
    secrets.sort_by_key(|secret| (secret.created_at, secret.id.name.clone()));
    if request.descending {
        secrets.reverse();
    }
    let begin = match &request.token {
        None => 0,
        Some(token) => {
            let last = secrets.iter().position(|secret| secret.arn_name() == *token);
            last.map(|last| last + 1).ok_or_else(|| ApiError::Named {
                code: "InvalidNextTokenException",
                message: "The NextToken value is invalid.".to_owned(),
            })?
        }
    };
    let page: Vec<&Secret> = secrets[begin..].iter().copied().take(request.limit).collect();
    let more = begin + page.len() < secrets.len();
    let next = page.last().filter(|_| more).map(|last| last.arn_name());
    Ok(wire::list_answer(api.account(), &page, next))
}

/// Whether one of the values matches: it begins what the key names, or does not if a `!` stands before it.
fn matches(secret: &Secret, key: &str, values: &[String]) -> bool {
    let begins = |text: &str, value: &str| text.to_lowercase().starts_with(&value.to_lowercase());
    let holds = |value: &str| {
        let name = begins(&secret.id.name, value);
        let description = secret.description.as_deref().is_some_and(|text| begins(text, value));
        let tag_key = secret.tags.iter().any(|(key, _)| begins(key, value));
        let tag_value = secret.tags.iter().any(|(_, tag)| begins(tag, value));
        match key {
            "name" => name,
            "description" => description,
            "tag-key" => tag_key,
            "tag-value" => tag_value,
            "primary-region" => begins(secret.id.region.as_str(), value),
            "all" => name || description || tag_key || tag_value,
            _ => false,
        }
    };
    values.iter().any(|value| match value.strip_prefix('!') {
        Some(value) => !holds(value),
        None => holds(value),
    })
}

async fn delete(api: &Api, caller: &Caller, request: wire::DeleteSecret) -> Result<Value, ApiError> {
    let now = api.now();
    let (_, (secret, gone_at)) = api
        .transact(|state| {
            let found = lookup(state, &caller.region, &request.secret, now).ok_or_else(not_found)?;
            let mut secret = Secret::clone(found);
            let mut changes = Changes::new();
            let Some(days) = request.recovery_days else {
                changes.delete(Key::Secret(secret.id.clone()));
                return Ok((changes, (secret, now)));
            };
            refuse_deleted(&secret)?;
            let gone_at = Timestamp(now.0.saturating_add(i64::from(days) * DAY_MS));
            secret.deleted = Some(Deletion { asked_at: now, gone_at });
            changes.put(secret.clone());
            // Those whose window is over are taken out of the store when others are put on their way.
            for (id, known) in &state.secrets {
                if known.value.is_gone(now) {
                    changes.delete(Key::Secret(id.clone()));
                }
            }
            Ok((changes, (secret, gone_at)))
        })
        .await?;
    Ok(wire::delete_answer(api.account(), &secret, gone_at))
}
