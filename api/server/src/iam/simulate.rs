//! SimulatePrincipalPolicy: what somebody's policies say, without doing anything.

use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::Identity;
use serde_json::Value;

use crate::api::Api;
use crate::auth::condition::Context;
use crate::auth::policy::Decision;
use crate::auth::simulate as decide;

/// The most pairs of action and resource one request may ask about.
const QUESTIONS_MAX: usize = 1_000;

pub(super) fn simulate(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let source = members.required_text("PolicySourceArn")?;
    let state = api.store.snapshot();
    let key = source.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let user =
        state.users.get(&key).map(|found| &found.value).filter(|user| user.arn(api.account()) == source);
    let role =
        state.roles.get(&key).map(|found| &found.value).filter(|role| role.arn(api.account()) == source);
    let identity: &Identity = match (user, role) {
        (Some(user), _) => &user.identity,
        (None, Some(role)) => &role.identity,
        (None, None) => {
            let source: String = source.chars().take(300).collect();
            return Err(ApiError::NoSuchEntity(format!("{source} is not the ARN of a user or role.")));
        }
    };
    let actions = texts(members.value("ActionNames").as_ref());
    let mut resources = texts(members.value("ResourceArns").as_ref());
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    if actions.len().saturating_mul(resources.len()) > QUESTIONS_MAX {
        return Err(ApiError::Client(format!(
            "At most {QUESTIONS_MAX} pairs of action and resource are simulated."
        )));
    }
    let mut context = Context::default();
    for entry in members.value("ContextEntries").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let Some(key) = entry.get("ContextKeyName").and_then(Value::as_str) else { continue };
        for value in texts(entry.get("ContextKeyValues")) {
            context.add(key, value);
        }
    }
    let questions =
        actions.iter().flat_map(|action| resources.iter().map(move |resource| (action, resource)));
    let results = questions.map(|(action, resource)| {
        let decision = match decide(api, identity, action, resource, &context) {
            Decision::Allowed => "allowed",
            Decision::ExplicitDeny => "explicitDeny",
            Decision::ImplicitDeny => "implicitDeny",
        };
        Object::new()
            .with("EvalActionName", action.as_str())
            .with("EvalResourceName", resource.as_str())
            .with("EvalDecision", decision)
    });
    Ok(Object::new().with("EvaluationResults", list(results)).with("IsTruncated", false).into())
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
