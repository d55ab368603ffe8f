//! Users.

use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{Changes, IamName, Identity, Key, State, User};
use serde_json::Value;

use super::{keys, name, nothing, page, path, tags};
use crate::api::{Api, Caller};

/// A user by name.
///
/// # Errors
/// `NoSuchEntity`.
pub(super) fn find(state: &State, name: &IamName) -> Result<User, ApiError> {
    let found = state.users.get(&name.key()).map(|found| User::clone(&found.value));
    found.ok_or_else(|| ApiError::NoSuchEntity(format!("The user with name {name} cannot be found.")))
}

pub(super) async fn create(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let user = User {
        identity: Identity {
            name: name(&mut members, "UserName")?,
            path: path(&mut members)?,
            id: keys::new_id("AIDA"),
            created_at: api.now(),
            policies: Default::default(),
            attached: Default::default(),
            tags: tags(&mut members)?,
        },
    };
    let name = &user.identity.name;
    api.transact(|state| {
        if state.users.get(&name.key()).is_some() {
            return Err(ApiError::EntityAlreadyExists(format!("User with name {name} already exists.")));
        }
        let mut changes = Changes::new();
        changes.put(user.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(Object::new().with("User", wire::user(&user, api.account())).into())
}

pub(super) fn get(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = keys::user_name(caller, &mut members)?;
    let user = find(&api.store.snapshot(), &name)?;
    Ok(Object::new().with("User", wire::user(&user, api.account())).into())
}

pub(super) fn list(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let prefix = members.text("PathPrefix")?.unwrap_or_default();
    let state = api.store.snapshot();
    let users = state.users.iter().map(|(key, found)| (key, &found.value));
    let users = users.filter(|(_, user)| user.identity.path.starts_with(&prefix));
    let users = users.map(|(key, user)| (key.clone(), wire::user(user, api.account())));
    page(&mut members, "Users", "Users", users)
}

pub(super) async fn delete(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "UserName")?;
    api.transact(|state| {
        let user = find(state, &name)?;
        super::identities::check_unused(&user.identity)?;
        super::groups::check_alone(state, &user)?;
        if keys::has_keys(state, &name) {
            return Err(ApiError::DeleteConflict(
                "Cannot delete entity, must delete access keys first.".to_owned(),
            ));
        }
        let mut changes = Changes::new();
        changes.delete(Key::User(name.key()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
