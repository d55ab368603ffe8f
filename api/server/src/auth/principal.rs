//! Who sends a request: an access key, and the identity behind it.

use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_types::{AccountId, Identity, Role, State, Timestamp, User};

use super::{Session, Signature};
use crate::seal::Sealer;

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// The account itself: whoever holds a key from the configuration, and everybody where signatures
    /// are not checked. May do anything.
    Root,
    /// A user.
    User(Arc<User>),
    /// Somebody who has become a role for a while.
    Role(Arc<Role>, SessionName),
}

/// The name somebody gave a session of a role.
#[derive(Clone, Debug)]
pub(crate) struct SessionName(pub(crate) String);

/// A principal, with what its requests are signed with.
pub(super) struct Credentials {
    pub(super) principal: Principal,
    pub(super) secret: String,
}

impl Principal {
    /// Its ARN, as STS and the audit log print it.
    pub(crate) fn arn(&self, account: AccountId) -> String {
        match self {
            Self::Root => format!("arn:aws:iam::{account}:root"),
            Self::User(user) => user.arn(account),
            Self::Role(role, session) => {
                format!("arn:aws:sts::{account}:assumed-role/{}/{}", role.identity.name, session.0)
            }
        }
    }

    /// IAM's own id of it.
    pub(crate) fn id(&self, account: AccountId) -> String {
        match self {
            Self::Root => account.to_string(),
            Self::User(user) => user.identity.id.clone(),
            Self::Role(role, session) => format!("{}:{}", role.identity.id, session.0),
        }
    }

    /// The identity whose policies say what it may do; None may do anything.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Root => None,
            Self::User(user) => Some(&user.identity),
            Self::Role(role, _) => Some(&role.identity),
        }
    }
}

/// Finds who holds the key a request was signed with.
///
/// # Errors
/// When nobody does, the key is inactive, or its session is over.
pub(super) fn credentials(
    configured: &[(String, String)],
    state: &State,
    sealer: &Sealer,
    signature: &Signature,
    now: Timestamp,
) -> Result<Credentials, ApiError> {
    let id = signature.access_key.as_str();
    if let Some((_, secret)) = configured.iter().find(|(known, _)| known == id) {
        return Ok(Credentials { principal: Principal::Root, secret: secret.clone() });
    }
    if let Some(token) = &signature.session_token {
        let session = Session::open(sealer, id, token).ok_or(ApiError::UnknownAccessKey)?;
        if now >= session.expires {
            return Err(ApiError::ExpiredToken);
        }
        let principal = session.principal(state).ok_or(ApiError::UnknownAccessKey)?;
        return Ok(Credentials { principal, secret: session.secret });
    }
    let key = state.access_keys.get(id).map(|found| &found.value).filter(|key| key.active);
    let key = key.ok_or(ApiError::UnknownAccessKey)?;
    let user = state.users.get(&key.user.key()).ok_or(ApiError::UnknownAccessKey)?;
    let secret = open_secret(sealer, id, &key.sealed_secret).ok_or_else(|| {
        tracing::error!(access_key = id, "the secret of an access key cannot be opened");
        ApiError::Server("The access key cannot be read.".to_owned())
    })?;
    Ok(Credentials { principal: Principal::User(Arc::clone(&user.value)), secret })
}

/// Seals the secret of an access key.
pub(crate) fn seal_secret(sealer: &Sealer, id: &str, secret: &str) -> String {
    sealer.seal(&format!("access-key/{id}"), secret.as_bytes())
}

fn open_secret(sealer: &Sealer, id: &str, sealed: &str) -> Option<String> {
    String::from_utf8(sealer.open_sealed(&format!("access-key/{id}"), sealed).ok()?).ok()
}
