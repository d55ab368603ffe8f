//! Managed policies: the customer's own, which are kept, and AWS's, which are known.

use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{AccountId, Changes, Key, ManagedPolicy, State};
use serde_json::Value;

use super::{description, keys, name, nothing, page, path, tags};
use crate::api::Api;
use crate::auth::managed;
use crate::auth::policy::Policy;

/// The only version there is of a policy.
const VERSION: &str = "v1";

/// A customer's policy by its ARN.
///
/// # Errors
/// `NoSuchEntity`.
pub(super) fn find(state: &State, account: AccountId, arn: &str) -> Result<ManagedPolicy, ApiError> {
    let name = arn.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let found =
        state.policies.get(&name).map(|found| &found.value).filter(|policy| policy.arn(account) == arn);
    found.map(|policy| ManagedPolicy::clone(policy)).ok_or_else(|| {
        let arn: String = arn.chars().take(300).collect();
        ApiError::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable."))
    })
}

fn attachments(state: &State, arn: &str) -> usize {
    let users = state.users.values().filter(|found| found.value.identity.attached.contains(arn)).count();
    let roles = state.roles.values().filter(|found| found.value.identity.attached.contains(arn)).count();
    let groups = state.groups.values().filter(|found| found.value.identity.attached.contains(arn)).count();
    users + groups + roles
}

pub(super) async fn create(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let policy = ManagedPolicy {
        name: name(&mut members, "PolicyName")?,
        path: path(&mut members)?,
        id: keys::new_id("ANPA"),
        document: members.required_text("PolicyDocument")?,
        description: description(&mut members)?,
        created_at: api.now(),
        tags: tags(&mut members)?,
    };
    Policy::parse(&policy.document).map_err(|error| ApiError::MalformedPolicyDocument(error.to_string()))?;
    let name = &policy.name;
    api.transact(|state| {
        if state.policies.get(&name.key()).is_some() {
            return Err(ApiError::EntityAlreadyExists(format!("A policy called {name} already exists.")));
        }
        let mut changes = Changes::new();
        changes.put(policy.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(Object::new().with("Policy", wire::policy(&policy, api.account(), 0)).into())
}

/// One of AWS's own policies, as far as it is known here.
fn of_aws(state: &State, arn: &str) -> Object {
    Object::new()
        .with("PolicyName", arn.rsplit('/').next().unwrap_or_default())
        .with("Arn", arn)
        .with("DefaultVersionId", VERSION)
        .with("AttachmentCount", attachments(state, arn))
        .with("IsAttachable", true)
}

pub(super) fn get(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("PolicyArn")?;
    let state = api.store.snapshot();
    let policy: Value = match managed::document(&arn) {
        Some(_) => of_aws(&state, &arn).into(),
        None => wire::policy(&find(&state, api.account(), &arn)?, api.account(), attachments(&state, &arn)),
    };
    Ok(Object::new().with("Policy", policy).into())
}

pub(super) fn get_version(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("PolicyArn")?;
    let version = members.required_text("VersionId")?;
    let (document, created) = match managed::document(&arn) {
        Some(document) => (document, None),
        None => {
            let policy = find(&api.store.snapshot(), api.account(), &arn)?;
            (policy.document, Some(policy.created_at.iso8601()))
        }
    };
    if version != VERSION {
        let version: String = version.chars().take(100).collect();
        return Err(ApiError::NoSuchEntity(format!("Policy {arn} version {version} does not exist.")));
    }
    let version = Object::new()
        .with("Document", wire::document(&document))
        .with("VersionId", VERSION)
        .with("IsDefaultVersion", true)
        .maybe("CreateDate", created);
    Ok(Object::new().with("PolicyVersion", version).into())
}

pub(super) fn list(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let scope = members.text("Scope")?.unwrap_or_else(|| "All".to_owned());
    let only_attached = members.flag("OnlyAttached")?.unwrap_or(false);
    let state = api.store.snapshot();
    let own = state.policies.values().map(|found| &found.value).filter(|_| scope != "AWS").map(|policy| {
        let arn = policy.arn(api.account());
        let attached = attachments(&state, &arn);
        (arn, attached, wire::policy(policy, api.account(), attached))
    });
    let of_aws = managed::names().filter(|_| scope != "Local").map(|name| {
        let arn = managed::arn(name);
        (arn.clone(), attachments(&state, &arn), of_aws(&state, &arn).into())
    });
    let mut all: Vec<(String, Value)> = own
        .chain(of_aws)
        .filter(|(_, attached, _)| !only_attached || *attached > 0)
        .map(|(arn, _, policy)| (arn, policy))
        .collect();
    all.sort_by(|(left, _), (right, _)| left.cmp(right));
    page(&mut members, "Policies", "Policies", all)
}

pub(super) async fn delete(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("PolicyArn")?;
    api.transact(|state| {
        let policy = find(state, api.account(), &arn)?;
        if attachments(state, &arn) > 0 {
            return Err(ApiError::DeleteConflict("Cannot delete a policy attached to entities.".to_owned()));
        }
        let mut changes = Changes::new();
        changes.delete(Key::ManagedPolicy(policy.name.key()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
