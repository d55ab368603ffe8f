//! Identity and Access Management: users and their access keys, groups, roles, and policies.
//!
//! The room keeps them and checks documents when they are put; who may do what is decided in `auth`.
//! Changes count from the next request on. Permission boundaries and versions of policies are not here.

mod groups;
mod identities;
pub(crate) mod keys;
mod policies;
mod roles;
mod simulate;
mod users;

use coracle_protocol::members::Refusal;
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members, PageRequest};
use coracle_types::{IamName, Tags};
use serde_json::Value;

pub use self::keys::NewAdmin;
use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};

/// The longest description of a role or policy, in characters.
const DESCRIPTION_CHARS_MAX: usize = 1_000;

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
    let members = Members::of_body(body, Refusal::Client)?;
    match operation {
        "CreateUser" => users::create(api, members).await,
        "GetUser" => users::get(api, caller, members),
        "ListUsers" => users::list(api, members),
        "DeleteUser" => users::delete(api, members).await,
        "CreateGroup" => groups::create(api, members).await,
        "GetGroup" => groups::get(api, members),
        "ListGroups" => groups::list_all(api, members),
        "ListGroupsForUser" => groups::list_for_user(api, members),
        "DeleteGroup" => groups::delete(api, members).await,
        "AddUserToGroup" => groups::set_member(api, members, true).await,
        "RemoveUserFromGroup" => groups::set_member(api, members, false).await,
        "CreateAccessKey" => keys::create(api, caller, members).await,
        "ListAccessKeys" => keys::list(api, caller, members),
        "UpdateAccessKey" => keys::update(api, caller, members).await,
        "DeleteAccessKey" => keys::delete(api, caller, members).await,
        "CreateRole" => roles::create(api, members).await,
        "GetRole" => roles::get(api, members),
        "ListRoles" => roles::list(api, members),
        "UpdateRole" | "UpdateAssumeRolePolicy" => roles::update(api, members).await,
        "DeleteRole" => roles::delete(api, members).await,
        "PutUserPolicy" | "PutGroupPolicy" | "PutRolePolicy" => identities::put_policy(api, members).await,
        "GetUserPolicy" | "GetGroupPolicy" | "GetRolePolicy" => identities::get_policy(api, members),
        "ListUserPolicies" | "ListGroupPolicies" | "ListRolePolicies" => {
            identities::list_policies(api, members)
        }
        "DeleteUserPolicy" | "DeleteGroupPolicy" | "DeleteRolePolicy" => {
            identities::delete_policy(api, members).await
        }
        "AttachUserPolicy" | "AttachGroupPolicy" | "AttachRolePolicy" => {
            identities::attach(api, members).await
        }
        "DetachUserPolicy" | "DetachGroupPolicy" | "DetachRolePolicy" => {
            identities::detach(api, members).await
        }
        "ListAttachedUserPolicies" | "ListAttachedGroupPolicies" | "ListAttachedRolePolicies" => {
            identities::list_attached(api, members)
        }
        "TagUser" | "TagRole" => identities::tag(api, members).await,
        "CreatePolicy" => policies::create(api, members).await,
        "GetPolicy" => policies::get(api, members),
        "GetPolicyVersion" => policies::get_version(api, members),
        "ListPolicies" => policies::list(api, members),
        "DeletePolicy" => policies::delete(api, members).await,
        "SimulatePrincipalPolicy" => simulate::simulate(api, members),
        unknown => Err(unknown_operation(Service::Iam, unknown)),
    }
}

/// A required name.
fn name(members: &mut Members, member: &str) -> Result<IamName, ApiError> {
    members
        .required_text(member)?
        .parse()
        .map_err(|error| ApiError::Client(format!("The specified value for {member} is invalid: {error}")))
}

/// A path, `/` unless given.
fn path(members: &mut Members) -> Result<String, ApiError> {
    let Some(path) = members.text("Path")? else { return Ok("/".to_owned()) };
    let is_plain = path.len() <= 512 && path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if is_plain && path.starts_with('/') && path.ends_with('/') {
        return Ok(path);
    }
    Err(ApiError::Client(
        "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric \
         characters and/or / characters."
            .to_owned(),
    ))
}

fn description(members: &mut Members) -> Result<Option<String>, ApiError> {
    let description = members.text("Description")?;
    if description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
        return Err(ApiError::Client(format!(
            "Description must have at most {DESCRIPTION_CHARS_MAX} characters."
        )));
    }
    Ok(description)
}

/// `Tags`, as IAM writes them.
fn tags(members: &mut Members) -> Result<Tags, ApiError> {
    let mut tags = Tags::default();
    merge_tags(&mut tags, members)?;
    Ok(tags)
}

fn merge_tags(tags: &mut Tags, members: &mut Members) -> Result<(), ApiError> {
    let text = |tag: &Value, name: &str| tag.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = members.value("Tags");
    let given = given.as_ref().and_then(Value::as_array).into_iter().flatten();
    tags.merge(given.map(|tag| (text(tag, "Key"), text(tag, "Value"))))
        .map_err(|error| ApiError::Client(error.to_string()))
}

/// One page of a list: `Marker` and `MaxItems` in, `IsTruncated` and `Marker` out.
fn page(
    members: &mut Members,
    list_name: &str,
    member: &str,
    items: impl IntoIterator<Item = (String, Value)>,
) -> Result<Value, ApiError> {
    let limit = members.integer_in("MaxItems", 1..=1000)?.unwrap_or(100);
    let token = members.text("Marker")?.filter(|marker| !marker.is_empty());
    let request = PageRequest { limit: limit as usize, token };
    let page =
        request.of(list_name, items, |(key, _)| key.clone(), String::clone, |text| Some(text.to_owned()))?;
    Ok(Object::new()
        .with(member, list(page.items.into_iter().map(|(_, value)| value)))
        .with("IsTruncated", page.next.is_some())
        .maybe("Marker", page.next)
        .into())
}

/// What an action answers that has nothing to say.
fn nothing() -> Value {
    Object::new().into()
}
