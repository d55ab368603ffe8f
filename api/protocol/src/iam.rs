//! IAM: identities and policies as its actions ask for and answer them.

use coracle_types::{AccessKey, AccountId, Group, Identity, ManagedPolicy, Role, Tags, User};
use serde_json::Value;

use crate::object::{Object, list};
use crate::shape::{Shape, shape};

/// The version of IAM's model, which a form names beside the action.
pub const VERSION: &str = "2010-05-08";
/// The namespace of its answers.
pub const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// Every operation there is here.
const OPERATIONS: [&str; 50] = [
    "AddUserToGroup",
    "AttachGroupPolicy",
    "AttachRolePolicy",
    "AttachUserPolicy",
    "CreateAccessKey",
    "CreateGroup",
    "CreatePolicy",
    "CreateRole",
    "CreateUser",
    "DeleteAccessKey",
    "DeleteGroup",
    "DeleteGroupPolicy",
    "DeletePolicy",
    "DeleteRole",
    "DeleteRolePolicy",
    "DeleteUser",
    "DeleteUserPolicy",
    "DetachGroupPolicy",
    "DetachRolePolicy",
    "DetachUserPolicy",
    "GetGroup",
    "GetGroupPolicy",
    "GetPolicy",
    "GetPolicyVersion",
    "GetRole",
    "GetRolePolicy",
    "GetUser",
    "GetUserPolicy",
    "ListAccessKeys",
    "ListAttachedGroupPolicies",
    "ListAttachedRolePolicies",
    "ListAttachedUserPolicies",
    "ListGroupPolicies",
    "ListGroups",
    "ListGroupsForUser",
    "ListPolicies",
    "ListRolePolicies",
    "ListRoles",
    "ListUserPolicies",
    "ListUsers",
    "PutGroupPolicy",
    "PutRolePolicy",
    "PutUserPolicy",
    "RemoveUserFromGroup",
    "SimulatePrincipalPolicy",
    "TagRole",
    "TagUser",
    "UpdateAccessKey",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
];

const TAG: Shape = shape!({ Key: text, Value: text });
const CONTEXT_ENTRY: Shape = shape!({ ContextKeyName: text, ContextKeyValues: [text] });
/// One shape for all: the same names mean the same everywhere in IAM's model.
const INPUT: Shape = shape!({
    UserName: text, RoleName: text, GroupName: text, PolicyName: text, PolicyArn: text, Path: text, PathPrefix: text,
    Description: text, PolicyDocument: text, AssumeRolePolicyDocument: text, MaxSessionDuration: int,
    AccessKeyId: text, Status: ("Active" "Inactive"), VersionId: text, Scope: ("All" "AWS" "Local"),
    OnlyAttached: flag, Tags: [TAG], TagKeys: [text], Marker: text, MaxItems: int, PolicySourceArn: text,
    ActionNames: [text], ResourceArns: [text], ContextEntries: [CONTEXT_ENTRY],
});

/// What the request of an operation looks like; None for one there is not.
#[must_use]
pub fn input(operation: &str) -> Option<&'static Shape> {
    OPERATIONS.contains(&operation).then_some(&INPUT)
}

/// A user.
#[must_use]
pub fn user(user: &User, account: AccountId) -> Value {
    identity(&user.identity, "User", &user.arn(account)).into()
}

/// A group.
#[must_use]
pub fn group(group: &Group, account: AccountId) -> Value {
    Object::new()
        .with("Path", group.identity.path.clone())
        .with("GroupName", group.identity.name.to_string())
        .with("GroupId", group.identity.id.clone())
        .with("Arn", group.arn(account))
        .with("CreateDate", group.identity.created_at.iso8601())
        .into()
}

/// A role.
#[must_use]
pub fn role(role: &Role, account: AccountId) -> Value {
    identity(&role.identity, "Role", &role.arn(account))
        .with("AssumeRolePolicyDocument", document(&role.trust))
        .maybe("Description", role.description.clone())
        .with("MaxSessionDuration", role.session_max_s)
        .into()
}

fn identity(identity: &Identity, kind: &str, arn: &str) -> Object {
    Object::new()
        .with("Path", identity.path.clone())
        .with(&format!("{kind}Name"), identity.name.to_string())
        .with(&format!("{kind}Id"), identity.id.clone())
        .with("Arn", arn)
        .with("CreateDate", identity.created_at.iso8601())
        .with("Tags", tags(&identity.tags))
}

/// A managed policy. `attachments` is how many users and roles have it.
#[must_use]
pub fn policy(policy: &ManagedPolicy, account: AccountId, attachments: usize) -> Value {
    Object::new()
        .with("PolicyName", policy.name.to_string())
        .with("PolicyId", policy.id.clone())
        .with("Arn", policy.arn(account))
        .with("Path", policy.path.clone())
        .with("DefaultVersionId", "v1")
        .with("AttachmentCount", attachments)
        .with("PermissionsBoundaryUsageCount", 0)
        .with("IsAttachable", true)
        .maybe("Description", policy.description.clone())
        .with("CreateDate", policy.created_at.iso8601())
        .with("UpdateDate", policy.created_at.iso8601())
        .with("Tags", tags(&policy.tags))
        .into()
}

/// An access key without its secret; with `secret` as CreateAccessKey answers it, the only time.
#[must_use]
pub fn access_key(key: &AccessKey, secret: Option<&str>) -> Value {
    Object::new()
        .with("UserName", key.user.to_string())
        .with("AccessKeyId", key.id.clone())
        .with("Status", if key.active { "Active" } else { "Inactive" })
        .maybe("SecretAccessKey", secret)
        .with("CreateDate", key.created_at.iso8601())
        .into()
}

/// Tags as IAM writes them.
#[must_use]
pub fn tags(tags: &Tags) -> Value {
    list(tags.iter().map(|(key, value)| Object::new().with("Key", key).with("Value", value)))
}

/// A policy document as IAM answers it: percent-encoded.
#[must_use]
pub fn document(text: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_in_order_and_have_a_shape() {
        assert!(OPERATIONS.is_sorted());
        assert!(input("CreateUser").is_some() && input("CreateInstanceProfile").is_none());
        assert_eq!(document("{\"a\": \"*\"}"), "%7B%22a%22%3A%20%22%2A%22%7D");
    }
}
