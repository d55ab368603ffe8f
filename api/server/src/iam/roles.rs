//! Roles.

use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{Changes, IamName, Identity, Key, Role, State};
use serde_json::Value;

use super::{description, keys, name, nothing, page, path, tags};
use crate::api::Api;
use crate::auth::policy::Policy;

/// How long sessions of a role may last, in seconds.
const SESSION_S: std::ops::RangeInclusive<u32> = 3_600..=43_200;

/// A role by name.
///
/// # Errors
/// `NoSuchEntity`.
pub(super) fn find(state: &State, name: &IamName) -> Result<Role, ApiError> {
    let found = state.roles.get(&name.key()).map(|found| Role::clone(&found.value));
    found.ok_or_else(|| ApiError::NoSuchEntity(format!("The role with name {name} cannot be found.")))
}

fn check_trust(document: &str) -> Result<(), ApiError> {
    let checked = Policy::parse_trust(document);
    checked.map(|_| ()).map_err(|error| ApiError::MalformedPolicyDocument(error.to_string()))
}

pub(super) async fn create(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let role = Role {
        identity: Identity {
            name: name(&mut members, "RoleName")?,
            path: path(&mut members)?,
            id: keys::new_id("AROA"),
            created_at: api.now(),
            policies: Default::default(),
            attached: Default::default(),
            tags: tags(&mut members)?,
        },
        trust: members.required_text("AssumeRolePolicyDocument")?,
        description: description(&mut members)?,
        session_max_s: members.integer_in("MaxSessionDuration", SESSION_S)?.unwrap_or(*SESSION_S.start()),
    };
    check_trust(&role.trust)?;
    let name = &role.identity.name;
    api.transact(|state| {
        if state.roles.get(&name.key()).is_some() {
            return Err(ApiError::EntityAlreadyExists(format!("Role with name {name} already exists.")));
        }
        let mut changes = Changes::new();
        changes.put(role.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(Object::new().with("Role", wire::role(&role, api.account())).into())
}

pub(super) fn get(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let role = find(&api.store.snapshot(), &name(&mut members, "RoleName")?)?;
    Ok(Object::new().with("Role", wire::role(&role, api.account())).into())
}

pub(super) fn list(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let prefix = members.text("PathPrefix")?.unwrap_or_default();
    let state = api.store.snapshot();
    let roles = state.roles.iter().map(|(key, found)| (key, &found.value));
    let roles = roles.filter(|(_, role)| role.identity.path.starts_with(&prefix));
    let roles = roles.map(|(key, role)| (key.clone(), wire::role(role, api.account())));
    page(&mut members, "Roles", "Roles", roles)
}

/// UpdateRole and UpdateAssumeRolePolicy: what is given replaces what was.
pub(super) async fn update(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "RoleName")?;
    let trust = members.text("PolicyDocument")?;
    trust.as_deref().map(check_trust).transpose()?;
    let description = description(&mut members)?;
    let session_max_s = members.integer_in("MaxSessionDuration", SESSION_S)?;
    api.transact(|state| {
        let mut role = find(state, &name)?;
        role.trust = trust.clone().unwrap_or(role.trust);
        role.description = description.clone().or(role.description);
        role.session_max_s = session_max_s.unwrap_or(role.session_max_s);
        let mut changes = Changes::new();
        changes.put(role);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

pub(super) async fn delete(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "RoleName")?;
    api.transact(|state| {
        super::identities::check_unused(&find(state, &name)?.identity)?;
        let mut changes = Changes::new();
        changes.delete(Key::Role(name.key()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
