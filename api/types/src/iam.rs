//! Identities and what they may do: IAM's users, access keys, roles and policies.
//!
//! Policy documents are kept as text, as they were sent; what they allow is decided where requests are
//! authorised. IAM is global: nothing here has a region.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::arn::AccountId;
use crate::ids::{IdError, serde_as_text};
use crate::tags::Tags;
use crate::time::Timestamp;

/// The name of a user, role or policy: 1 to 128 letters, digits and `+=,.@_-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IamName(Arc<str>);

impl IamName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its record is stored under: names are unique without regard to case, as IAM has it.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for IamName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let valid = (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(IdError::new("name", text, "1 to 128 letters, digits and +=,.@_- are expected"))
        }
    }
}

impl fmt::Display for IamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
serde_as_text!(IamName);

/// What a user and a role have in common: a name, a path, and policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub name: IamName,
    /// `/`, or a path such as `/division/team/`.
    pub path: String,
    /// IAM's own id of it: `AIDA…` for users, `AROA…` for roles.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Inline policies: documents by name.
    #[serde(default)]
    pub policies: BTreeMap<IamName, String>,
    /// The ARNs of managed policies that are attached.
    #[serde(default)]
    pub attached: BTreeSet<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// Somebody who holds access keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Who it is, and what it may do.
    pub identity: Identity,
}

impl User {
    /// `arn:aws:iam::ACCOUNT:user/PATH/NAME`
    #[must_use]
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:user{}{}", self.identity.path, self.identity.name)
    }
}

/// Users who share policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, and what its users may do.
    pub identity: Identity,
    /// Its users, by the keys of their names: IAM's ids of them, because another user may get the name of one that
    /// was deleted.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
}

impl Group {
    /// `arn:aws:iam::ACCOUNT:group/PATH/NAME`
    #[must_use]
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:group{}{}", self.identity.path, self.identity.name)
    }

    /// Whether a user is in it.
    #[must_use]
    pub fn has(&self, user: &User) -> bool {
        self.users.get(&user.identity.name.key()) == Some(&user.identity.id)
    }
}

/// What others may become for a while, and what a task may be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// What it is, and what it allows.
    pub identity: Identity,
    /// The policy that says who may assume it.
    pub trust: String,
    /// What it is for, in words.
    #[serde(default)]
    pub description: Option<String>,
    /// How long a session may last, in seconds: 3,600 to 43,200.
    pub session_max_s: u32,
}

impl Role {
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
    #[must_use]
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:role{}{}", self.identity.path, self.identity.name)
    }
}

/// A policy of its own, which users and roles can share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManagedPolicy {
    /// Its name.
    pub name: IamName,
    /// `/`, or a path such as `/division/team/`.
    pub path: String,
    /// IAM's own id of it: `ANPA…`.
    pub id: String,
    /// What it says.
    pub document: String,
    /// What it is for, in words.
    #[serde(default)]
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

impl ManagedPolicy {
    /// `arn:aws:iam::ACCOUNT:policy/PATH/NAME`
    #[must_use]
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:policy{}{}", self.path, self.name)
    }
}

/// One of a user's access keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its public half: `AKIA…`.
    pub id: String,
    /// Whose it is.
    pub user: IamName,
    /// Its secret half, sealed: signatures cannot be checked with a hash of it.
    pub sealed_secret: String,
    /// Whether it is accepted.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_given_and_unique_without_regard_to_case() {
        let name = |text: &str| text.parse::<IamName>().unwrap();
        assert_eq!(name("Dev").key(), name("dEV").key());
        assert_eq!(name("Dev").to_string(), "Dev");
        for bad in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<IamName>().is_err(), "{bad:?}");
        }
    }
}
