//! Groups: users who share policies.

use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{Changes, Group, IamName, Identity, Key, State, User};
use serde_json::Value;

use super::{keys, name, nothing, page, path, users};
use crate::api::Api;

/// IAM's quota of groups one user is in.
const GROUPS_OF_USER_MAX: usize = 10;

/// A group by name.
///
/// # Errors
/// `NoSuchEntity`.
pub(super) fn find(state: &State, name: &IamName) -> Result<Group, ApiError> {
    let found = state.groups.get(&name.key()).map(|found| Group::clone(&found.value));
    found.ok_or_else(|| ApiError::NoSuchEntity(format!("The group with name {name} cannot be found.")))
}

/// The groups a user is in, in the order of their names.
fn groups_of<'a>(state: &'a State, user: &'a User) -> impl Iterator<Item = &'a Group> {
    state.groups.values().map(|found| &*found.value).filter(|group| group.has(user))
}

pub(super) async fn create(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let group = Group {
        identity: Identity {
            name: name(&mut members, "GroupName")?,
            path: path(&mut members)?,
            id: keys::new_id("AGPA"),
            created_at: api.now(),
            policies: Default::default(),
            attached: Default::default(),
            tags: Default::default(),
        },
        users: Default::default(),
    };
    let name = &group.identity.name;
    api.transact(|state| {
        if state.groups.get(&name.key()).is_some() {
            return Err(ApiError::EntityAlreadyExists(format!("Group with name {name} already exists.")));
        }
        let mut changes = Changes::new();
        changes.put(group.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(Object::new().with("Group", wire::group(&group, api.account())).into())
}

/// GetGroup: the group and who is in it.
pub(super) fn get(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "GroupName")?;
    let state = api.store.snapshot();
    let group = find(&state, &name)?;
    let users = group.users.keys().filter_map(|key| state.users.get(key)).map(|found| &found.value);
    let users = users.filter(|user| group.has(user));
    let shown = users.map(|user| wire::user(user, api.account()));
    Ok(Object::new()
        .with("Group", wire::group(&group, api.account()))
        .with("Users", list(shown))
        .with("IsTruncated", false)
        .into())
}

pub(super) fn list_all(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let prefix = members.text("PathPrefix")?.unwrap_or_default();
    let state = api.store.snapshot();
    let groups = state.groups.iter().map(|(key, found)| (key, &found.value));
    let groups = groups.filter(|(_, group)| group.identity.path.starts_with(&prefix));
    let groups = groups.map(|(key, group)| (key.clone(), wire::group(group, api.account())));
    page(&mut members, "Groups", "Groups", groups)
}

pub(super) fn list_for_user(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "UserName")?;
    let state = api.store.snapshot();
    let user = users::find(&state, &name)?;
    let groups =
        groups_of(&state, &user).map(|group| (group.identity.name.key(), wire::group(group, api.account())));
    page(&mut members, "GroupsForUser", "Groups", groups)
}

pub(super) async fn delete(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = name(&mut members, "GroupName")?;
    api.transact(|state| {
        let group = find(state, &name)?;
        super::identities::check_unused(&group.identity)?;

        if state.users.values().any(|found| group.has(&found.value)) {
            return Err(ApiError::DeleteConflict(
                "Cannot delete entity, must remove users from group first.".to_owned(),
            ));
        }
        let mut changes = Changes::new();
        changes.delete(Key::Group(name.key()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// AddUserToGroup and RemoveUserFromGroup.
pub(super) async fn set_member(api: &Api, mut members: Members, is_in: bool) -> Result<Value, ApiError> {
    let (group, user) = (name(&mut members, "GroupName")?, name(&mut members, "UserName")?);
    api.transact(|state| {
        let mut group = find(state, &group)?;
        let found = users::find(state, &user)?;
        if is_in {
            if !group.has(&found) && groups_of(state, &found).count() >= GROUPS_OF_USER_MAX {
                return Err(ApiError::LimitExceeded(format!(
                    "Cannot exceed quota for GroupsPerUser: {GROUPS_OF_USER_MAX}"
                )));
            }
            group.users.insert(user.key(), found.identity.id.clone());
        } else if group.users.remove(&user.key()).is_none() {
            return Err(ApiError::NoSuchEntity(format!(
                "User {user} is not in group {}.",
                group.identity.name
            )));
        }
        let mut changes = Changes::new();
        changes.put(group);
        // Who is deleted meanwhile must not be in it.
        changes.guard(Key::User(user.key()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// Refuses to delete a user that is in a group.
pub(super) fn check_alone(state: &State, user: &User) -> Result<(), ApiError> {
    match groups_of(state, user).next() {
        None => Ok(()),
        Some(_) => Err(ApiError::DeleteConflict(
            "Cannot delete entity, must remove users from group first.".to_owned(),
        )),
    }
}
