//! Whether whoever sends a request may do what it asks for.

use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_types::{Identity, State};
use serde_json::Value;

use super::condition::Context;
use super::managed;
use super::policy::{Access, Decision, Policy, decide};
use super::principal::Principal;
use super::resources::Request;
use crate::api::{Api, Caller};
use crate::dispatch::{Operation, Service};

/// Refuses a request that its sender's policies do not allow.
///
/// Each resource the request names has to be allowed, and each role it hands to tasks
/// (`iam:PassRole`). Everybody may ask who they are.
///
/// # Errors
/// `AccessDeniedException`, in IAM's words: who, what, and why not.
pub(crate) fn authorize(
    api: &Api,
    caller: &Caller,
    operation: &Operation,
    body: &Value,
) -> Result<(), ApiError> {
    let Some(identity) = caller.principal.identity() else { return Ok(()) };
    if operation.service == Service::Sts && operation.name == "GetCallerIdentity" {
        return Ok(());
    }
    let state = api.store.snapshot();
    let policies = policies(api, identity, &state);
    let request = Request { state: &state, account: api.account(), caller, operation, body };
    let mut context = context(api, caller);
    request.add_to(&mut context);
    let action = format!("{}:{}", operation.service.prefix(), operation.name);
    let check = |action: &str, resource: &str| match decide(
        policies.iter().map(|policy| &**policy),
        Access { action, resource, context: &context },
    ) {
        Decision::Allowed => Ok(()),
        decision => Err(denied(&caller.principal, api, action, resource, decision)),
    };
    for resource in request.resources() {
        check(&action, &resource)?;
    }
    for role in request.passed_roles() {
        check("iam:PassRole", &role)?;
    }
    Ok(())
}

/// Refuses what is not an action of an AWS service, by a name in our own namespace (`coracle:Reset`).
///
/// # Errors
/// `AccessDeniedException`.
pub(crate) fn authorize_own(api: &Api, caller: &Caller, action: &str) -> Result<(), ApiError> {
    let Some(identity) = caller.principal.identity() else { return Ok(()) };
    let policies = policies(api, identity, &api.store.snapshot());
    let context = context(api, caller);
    match decide(policies.iter().map(|policy| &**policy), Access { action, resource: "*", context: &context })
    {
        Decision::Allowed => Ok(()),
        decision => Err(denied(&caller.principal, api, action, "*", decision)),
    }
}

/// What the policies of `identity` say of an access that is not being made now.
pub(crate) fn simulate(
    api: &Api,
    identity: &Identity,
    action: &str,
    resource: &str,
    context: &Context,
) -> Decision {
    let policies = policies(api, identity, &api.store.snapshot());
    decide(policies.iter().map(|policy| &**policy), Access { action, resource, context })
}

/// Every policy of an identity, and of the groups it is in if it is a user's.
fn policies(api: &Api, identity: &Identity, state: &State) -> Vec<Arc<Policy>> {
    let user = state.users.get(&identity.name.key()).map(|found| &*found.value);
    let user = user.filter(|user| user.identity.id == identity.id);
    let groups = state.groups.values().map(|found| &*found.value);
    let groups = groups.filter(|group| user.is_some_and(|user| group.has(user)));
    let holders = std::iter::once(identity).chain(groups.map(|group| &group.identity));
    holders.flat_map(|holder| policies_of(api, holder, state)).collect()
}

/// The policies an identity has itself.
fn policies_of(api: &Api, identity: &Identity, state: &State) -> Vec<Arc<Policy>> {
    let attached = identity.attached.iter().filter_map(|arn| {
        managed::policy(arn).or_else(|| {
            let name = arn.rsplit('/').next()?.to_ascii_lowercase();
            let found = &state.policies.get(&name)?.value;
            (found.arn(api.account()) == *arn).then(|| api.policies.read(&found.document))
        })
    });
    identity.policies.values().map(|document| api.policies.read(document)).chain(attached).collect()
}

fn context(api: &Api, caller: &Caller) -> Context {
    let mut context = Context::default();
    context.add("aws:PrincipalArn", caller.principal.arn(api.account()));
    context.add("aws:PrincipalAccount", api.account().to_string());
    context.add("aws:userid", caller.principal.id(api.account()));
    context.add("aws:RequestedRegion", caller.region.as_str());
    context.add("aws:SecureTransport", "false");
    match &caller.principal {
        Principal::User(user) => {
            context.add("aws:username", user.identity.name.as_str());
            context.add("aws:PrincipalType", "User");
        }
        Principal::Role(..) => context.add("aws:PrincipalType", "AssumedRole"),
        Principal::Root => context.add("aws:PrincipalType", "Account"),
    }
    if let Some(identity) = caller.principal.identity() {
        for (key, value) in identity.tags.iter() {
            context.add(&format!("aws:PrincipalTag/{key}"), value);
        }
    }
    if let Some(address) = caller.source {
        context.add("aws:SourceIp", address.to_string());
    }
    context
}

fn denied(principal: &Principal, api: &Api, action: &str, resource: &str, decision: Decision) -> ApiError {
    let who = principal.arn(api.account());
    let why = match decision {
        Decision::ExplicitDeny => "with an explicit deny in an identity-based policy".to_owned(),
        _ => format!("because no identity-based policy allows the {action} action"),
    };
    let resource: String = resource.chars().take(300).collect();
    ApiError::AccessDenied(format!(
        "User: {who} is not authorized to perform: {action} on resource: {resource} {why}"
    ))
}
