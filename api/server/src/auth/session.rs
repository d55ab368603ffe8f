//! Temporary credentials. Nothing of them is stored: the session token is itself the record, sealed, so
//! that only this process's key could have made it and only the access key it was made for can use it.

use std::sync::Arc;

use coracle_types::{IamName, State, Timestamp};
use serde::{Deserialize, Serialize};

use super::principal::{Principal, SessionName};
use crate::seal::Sealer;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8192;

/// What a session token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) subject: Subject,
    /// What its requests are signed with.
    pub(crate) secret: String,
    /// When it ends.
    pub(crate) expires: Timestamp,
}

/// Whose session it is. By IAM's ids, because a name may be given to somebody else later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Subject {
    /// The account itself.
    Root,
    /// A user's own session.
    User {
        /// Its name.
        name: IamName,
        /// IAM's id of it.
        id: String,
    },
    /// A role somebody has assumed.
    Role {
        /// Its name.
        name: IamName,
        /// IAM's id of it.
        id: String,
        /// The name of the session.
        session: String,
    },
}

impl Session {
    /// The token of this session, for requests signed with `access_key`.
    pub(crate) fn seal(&self, sealer: &Sealer, access_key: &str) -> String {
        let text = serde_json::to_string(self).expect("a session is plain data");
        sealer.seal(&context(access_key), text.as_bytes())
    }

    /// The session of a token; None for a token that is not ours, or is for another key.
    pub(super) fn open(sealer: &Sealer, access_key: &str, token: &str) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let text = sealer.open_sealed(&context(access_key), token).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Who this is, if it is still there.
    pub(super) fn principal(&self, state: &State) -> Option<Principal> {
        match &self.subject {
            Subject::Root => Some(Principal::Root),
            Subject::User { name, id } => {
                let user = state.users.get(&name.key()).filter(|user| user.value.identity.id == *id)?;
                Some(Principal::User(Arc::clone(&user.value)))
            }
            Subject::Role { name, id, session } => {
                let role = state.roles.get(&name.key()).filter(|role| role.value.identity.id == *id)?;
                Some(Principal::Role(Arc::clone(&role.value), SessionName(session.clone())))
            }
        }
    }
}

fn context(access_key: &str) -> String {
    format!("session/{access_key}")
}
