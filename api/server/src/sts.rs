//! The Security Token Service: who one is, and credentials that are good for a while.

use std::time::Duration;

use coracle_protocol::members::Refusal;
use coracle_protocol::object::Object;
use coracle_protocol::sts::{Credentials, caller_identity};
use coracle_protocol::{ApiError, Members};
use coracle_types::{Role, Timestamp};
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::auth::condition::Context;
use crate::auth::policy::Policy;
use crate::auth::{Principal, Session, SessionName, Subject};
use crate::dispatch::{Service, unknown_operation};
use crate::iam::keys;

/// The shortest session, in seconds.
const SESSION_MIN_S: u32 = 900;
/// The longest session of a user, in seconds: 36 hours.
const USER_SESSION_MAX_S: u32 = 129_600;
/// How long a session lasts unless asked, in seconds.
const ROLE_SESSION_DEFAULT_S: u32 = 3_600;
const USER_SESSION_DEFAULT_S: u32 = 43_200;

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) fn call(api: &Api, caller: &Caller, operation: &str, body: Value) -> Result<Value, ApiError> {
    let members = Members::of_body(body, Refusal::InvalidParameter)?;
    match operation {
        "GetCallerIdentity" => {
            let (account, principal) = (api.account(), &caller.principal);
            Ok(caller_identity(account, &principal.arn(account), &principal.id(account)))
        }
        "AssumeRole" => assume_role(api, caller, members),
        "GetSessionToken" => get_session_token(api, caller, members),
        unknown => Err(unknown_operation(Service::Sts, unknown)),
    }
}

/// Becomes a role, if its trust policy says so. Whether the caller's own policies let it ask was checked
/// before.
fn assume_role(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arn = members.required_text("RoleArn")?;
    let session = members.required_text("RoleSessionName")?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if !(2..=64).contains(&session.len()) || !session.bytes().all(is_word) {
        return Err(ApiError::InvalidParameter(
            "RoleSessionName must have 2 to 64 letters, digits and +=,.@_-".to_owned(),
        ));
    }
    if members.text("Policy")?.is_some() {
        // Less than the role allows is what whoever passes one counts on.
        return Err(ApiError::UnsupportedFeature("Session policies are not supported here.".to_owned()));
    }
    let state = api.store.snapshot();
    let name = arn.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let role = state.roles.get(&name).map(|found| &found.value);
    let role = role.filter(|role| role.arn(api.account()) == arn && trusts(api, caller, role));
    let Some(role) = role else {
        // The same whether it is there or not, so that nobody can find out which roles there are.
        let who = caller.principal.arn(api.account());
        let arn: String = arn.chars().take(300).collect();
        return Err(ApiError::AccessDenied(format!(
            "User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        )));
    };
    let longest = role.session_max_s;
    let seconds = members.integer_in("DurationSeconds", SESSION_MIN_S..=longest)?;
    let subject = Subject::Role {
        name: role.identity.name.clone(),
        id: role.identity.id.clone(),
        session: session.clone(),
    };
    let credentials = credentials(api, subject, seconds.unwrap_or(ROLE_SESSION_DEFAULT_S.min(longest)));
    let principal = Principal::Role(std::sync::Arc::clone(role), SessionName(session));
    let user = Object::new()
        .with("AssumedRoleId", principal.id(api.account()))
        .with("Arn", principal.arn(api.account()));
    Ok(Object::new().with("Credentials", credentials).with("AssumedRoleUser", user).into())
}

fn trusts(api: &Api, caller: &Caller, role: &Role) -> bool {
    let account = api.account();
    let (who, root) = (caller.principal.arn(account), format!("arn:aws:iam::{account}:root"));
    let mut context = Context::default();
    context.add("aws:PrincipalArn", who.as_str());
    if let Some(address) = caller.source {
        context.add("aws:SourceIp", address.to_string());
    }
    Policy::parse_trust(&role.trust).is_ok_and(|trust| trust.trusts(&[&who, &root], &context))
}

fn get_session_token(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let subject = match &caller.principal {
        Principal::Root => Subject::Root,
        Principal::User(user) => {
            Subject::User { name: user.identity.name.clone(), id: user.identity.id.clone() }
        }
        Principal::Role(..) => {
            return Err(ApiError::AccessDenied(
                "Cannot call GetSessionToken with session credentials".to_owned(),
            ));
        }
    };
    let seconds = members.integer_in("DurationSeconds", SESSION_MIN_S..=USER_SESSION_MAX_S)?;
    let credentials = credentials(api, subject, seconds.unwrap_or(USER_SESSION_DEFAULT_S));
    Ok(Object::new().with("Credentials", credentials).into())
}

fn credentials(api: &Api, subject: Subject, seconds: u32) -> Value {
    let (access_key, secret) = (keys::new_id("ASIA"), keys::new_secret());
    let millis = i64::try_from(Duration::from_secs(seconds.into()).as_millis()).unwrap_or(i64::MAX);
    let expires = Timestamp(api.now().0.saturating_add(millis));
    let session = Session { subject, secret: secret.clone(), expires };
    let session_token = session.seal(&api.sealer, &access_key);
    Credentials { access_key, secret, session_token, expires }.encode()
}
