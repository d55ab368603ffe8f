//! What users, groups and roles have in common: inline policies, attached ones, and tags.
//!
//! A request says which of them it means by naming a `UserName`, a `GroupName` or a `RoleName`.

use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{Changes, Group, IamName, Identity, Record, Role, State, User};
use serde_json::Value;

use super::{merge_tags, name, nothing, page};
use crate::api::Api;
use crate::auth::managed;
use crate::auth::policy::Policy;

/// IAM's quota of managed policies attached to one identity.
const ATTACHED_MAX: usize = 20;
/// All inline policies of one identity together, in characters: IAM's quota for a role.
const INLINE_CHARS_MAX: usize = 10_240;

/// A user, a group or a role.
pub(super) enum Holder {
    User(User),
    Group(Group),
    Role(Role),
}

/// Whom a request names.
#[derive(Clone)]
enum Named {
    User(IamName),
    Group(IamName),
    Role(IamName),
}

impl Named {
    fn take(members: &mut Members) -> Result<Self, ApiError> {
        if members.peek("UserName").is_some() {
            return Ok(Self::User(name(members, "UserName")?));
        }
        if members.peek("GroupName").is_some() {
            return Ok(Self::Group(name(members, "GroupName")?));
        }
        Ok(Self::Role(name(members, "RoleName")?))
    }

    fn find(&self, state: &State) -> Result<Holder, ApiError> {
        match self {
            Self::User(name) => super::users::find(state, name).map(Holder::User),
            Self::Group(name) => super::groups::find(state, name).map(Holder::Group),
            Self::Role(name) => super::roles::find(state, name).map(Holder::Role),
        }
    }

    /// `UserName` and its like, as answers have it.
    fn member(&self) -> (&'static str, String) {
        match self {
            Self::User(name) => ("UserName", name.to_string()),
            Self::Group(name) => ("GroupName", name.to_string()),
            Self::Role(name) => ("RoleName", name.to_string()),
        }
    }
}

impl Holder {
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::User(user) => &user.identity,
            Self::Group(group) => &group.identity,
            Self::Role(role) => &role.identity,
        }
    }

    fn identity_mut(&mut self) -> &mut Identity {
        match self {
            Self::User(user) => &mut user.identity,
            Self::Group(group) => &mut group.identity,
            Self::Role(role) => &mut role.identity,
        }
    }
}

impl From<Holder> for Record {
    fn from(holder: Holder) -> Self {
        match holder {
            Holder::User(user) => user.into(),
            Holder::Group(group) => group.into(),
            Holder::Role(role) => role.into(),
        }
    }
}

/// Refuses to delete an identity that has policies.
pub(super) fn check_unused(identity: &Identity) -> Result<(), ApiError> {
    let conflict =
        |what: &str| Err(ApiError::DeleteConflict(format!("Cannot delete entity, must {what} first.")));
    if !identity.policies.is_empty() {
        return conflict("delete policies");
    }
    if !identity.attached.is_empty() {
        return conflict("detach all policies");
    }
    Ok(())
}

/// Changes one identity.
async fn change(
    api: &Api,
    named: &Named,
    change: impl Fn(&mut Identity, &State) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    api.transact(|state| {
        let mut holder = named.find(state)?;
        change(holder.identity_mut(), state)?;
        let mut changes = Changes::new();
        changes.put(holder);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

pub(super) async fn put_policy(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let policy = name(&mut members, "PolicyName")?;
    let document = members.required_text("PolicyDocument")?;
    Policy::parse(&document).map_err(|error| ApiError::MalformedPolicyDocument(error.to_string()))?;
    change(api, &named, |identity, _| {
        identity.policies.insert(policy.clone(), document.clone());
        let characters = |text: &String| text.chars().filter(|character| !character.is_whitespace()).count();
        if identity.policies.values().map(characters).sum::<usize>() > INLINE_CHARS_MAX {
            return Err(ApiError::LimitExceeded(format!(
                "Maximum policy size of {INLINE_CHARS_MAX} bytes exceeded for {}",
                identity.name
            )));
        }
        Ok(())
    })
    .await
}

fn no_policy(policy: &IamName) -> ApiError {
    ApiError::NoSuchEntity(format!("The policy with name {policy} cannot be found."))
}

pub(super) fn get_policy(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let policy = name(&mut members, "PolicyName")?;
    let holder = named.find(&api.store.snapshot())?;
    let document = holder.identity().policies.get(&policy).ok_or_else(|| no_policy(&policy))?;
    let (member, name) = named.member();
    Ok(Object::new()
        .with(member, name)
        .with("PolicyName", policy.to_string())
        .with("PolicyDocument", wire::document(document))
        .into())
}

pub(super) fn list_policies(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let holder = Named::take(&mut members)?.find(&api.store.snapshot())?;
    let names = holder.identity().policies.keys().map(|name| (name.to_string(), name.to_string().into()));
    page(&mut members, "InlinePolicies", "PolicyNames", names)
}

pub(super) async fn delete_policy(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let policy = name(&mut members, "PolicyName")?;
    change(api, &named, |identity, _| {
        identity.policies.remove(&policy).map(|_| ()).ok_or_else(|| no_policy(&policy))
    })
    .await
}

pub(super) async fn attach(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let arn = members.required_text("PolicyArn")?;
    change(api, &named, |identity, state| {
        if managed::document(&arn).is_none() {
            super::policies::find(state, api.account(), &arn)?;
        }
        identity.attached.insert(arn.clone());
        if identity.attached.len() > ATTACHED_MAX {
            return Err(ApiError::LimitExceeded(format!(
                "Cannot exceed quota for PoliciesPerUser: {ATTACHED_MAX}"
            )));
        }
        Ok(())
    })
    .await
}

pub(super) async fn detach(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let arn = members.required_text("PolicyArn")?;
    change(api, &named, |identity, _| match identity.attached.remove(&arn) {
        true => Ok(()),
        false => Err(ApiError::NoSuchEntity(format!("Policy {arn} was not found."))),
    })
    .await
}

pub(super) fn list_attached(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let holder = Named::take(&mut members)?.find(&api.store.snapshot())?;
    let attached = holder.identity().attached.iter().map(|arn| {
        let name = arn.rsplit('/').next().unwrap_or_default();
        (arn.clone(), Object::new().with("PolicyName", name).with("PolicyArn", arn.clone()).into())
    });
    page(&mut members, "AttachedPolicies", "AttachedPolicies", attached)
}

pub(super) async fn tag(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let named = Named::take(&mut members)?;
    let mut given = coracle_types::Tags::default();
    merge_tags(&mut given, &mut members)?;
    change(api, &named, |identity, _| {
        let pairs = given.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        identity.tags.merge(pairs).map_err(|error| ApiError::Client(error.to_string()))
    })
    .await
}
