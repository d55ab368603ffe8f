//! Names and identifiers, each a type of its own, so that a service's name cannot be passed for a
//! cluster's. Parsed once at the edge; `Display` gives back the form AWS prints.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name or identifier was refused. The text names the kind and quotes the offender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {given:?}: {expected}")]
pub struct IdError {
    /// What was being parsed, in words: "cluster name", "task id".
    pub kind: &'static str,
    /// The text that was given, cut to 300 characters.
    pub given: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl IdError {
    pub(crate) fn new(kind: &'static str, given: &str, expected: &'static str) -> Self {
        Self { kind, given: given.chars().take(300).collect(), expected }
    }
}

/// Serde through `Display` and `FromStr`: an id is a string in the store.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid = (1..=255).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
                if valid {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError::new(
                        $kind,
                        text,
                        "up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens are allowed",
                    ))
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        serde_as_text!($name);
    };
}

name!(
    /// A cluster's name, unique in its region.
    ClusterName,
    "cluster name"
);
name!(
    /// A service's name, unique in its cluster among services that are not INACTIVE.
    ServiceName,
    "service name"
);

impl ServiceName {
    /// What comes before every name, where a range of them begins; no service has it.
    pub(crate) fn first() -> Self {
        Self(Arc::from(""))
    }
}

name!(
    /// A task definition's family.
    Family,
    "family"
);
name!(
    /// A capacity provider's name, unique in its region.
    CapacityProviderName,
    "capacity provider name"
);
name!(
    /// A container's name, unique in its task definition.
    ContainerName,
    "container name"
);

name!(
    /// A daemon's name, unique in its cluster.
    DaemonName,
    "daemon name"
);

impl Family {
    /// What stands for a family where there is none.
    pub(crate) fn none() -> Self {
        Self("none".into())
    }
}

impl ClusterName {
    /// `default`, the cluster that every request without a cluster means and that always exists.
    #[must_use]
    pub fn default_cluster() -> Self {
        Self("default".into())
    }
}

/// A region's name, such as `us-east-1`: 1 to 64 lowercase letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Arc<str>);

impl Region {
    /// The region as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(IdError::new("region", text, "1 to 64 lowercase letters, digits and hyphens are allowed"))
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
serde_as_text!(Region);

macro_rules! hex_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub u128);

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = || IdError::new($kind, text, "32 lowercase hexadecimal digits are expected");
                let valid = text.len() == 32
                    && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
                if !valid {
                    return Err(error());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| error())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        serde_as_text!($name);
    };
}

hex_id!(
    /// A task's id: the last part of its ARN, unique everywhere.
    ///
    /// Its first half is random, so that a few digits are enough to name a task; its second half counts on. Ids are
    /// ordered by the second half first: tasks that were made one after the other lie side by side in everything that
    /// is sorted by their ids, and a change of a thousand of them does not touch a thousand far corners of it.
    TaskId,
    "task id"
);
hex_id!(
    /// A node's id: the last part of a container instance's ARN.
    #[derive(PartialOrd, Ord)]
    NodeId,
    "container instance id"
);

impl TaskId {
    /// The id with these halves.
    #[must_use]
    pub fn from_halves(random: u64, number: u64) -> Self {
        Self((u128::from(random) << 64) | u128::from(number))
    }

    /// The address its task says it has. No such network exists here: it is derived from the id, so that it is
    /// the same on every answer and differs between tasks that were made one after the other. In 10.0.0.0/8, without
    /// the first and last address of each 256.
    #[must_use]
    pub fn private_ipv4(self) -> std::net::Ipv4Addr {
        const HOSTS: u128 = 254;
        let number = self.0 % (1 << 64);
        let [.., a, b] = (number / HOSTS).to_be_bytes();
        let [.., c] = (number % HOSTS).to_be_bytes();
        std::net::Ipv4Addr::new(10, a, b, 1 + c)
    }
}

impl Ord for TaskId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.rotate_left(64).cmp(&other.0.rotate_left(64))
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = || IdError::new($kind, text, "a UUID with dashes is expected");
                let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|&i| text.as_bytes()[i] == b'-');
                if !dashed || text.bytes().filter(|&byte| byte == b'-').count() != 4 || text.contains('+') {
                    return Err(error());
                }
                u128::from_str_radix(&text.replace('-', ""), 16).map(Self).map_err(|_| error())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let id = self.0;
                write!(
                    f,
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    id >> 96,
                    (id >> 80) & 0xffff,
                    (id >> 64) & 0xffff,
                    (id >> 48) & 0xffff,
                    id & 0xffff_ffff_ffff
                )
            }
        }
        serde_as_text!($name);
    };
}

uuid_id!(
    /// A container's id: the last part of its ARN.
    ContainerId,
    "container id"
);
uuid_id!(
    /// The id of a service event.
    EventId,
    "event id"
);

/// A deployment's id. Printed as `ecs-svc/` and 19 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(u64);

impl DeploymentId {
    const MIN: u64 = 1_000_000_000_000_000_000;

    /// Folds any 64 random bits into the range of 19-digit numbers.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        Self(Self::MIN + bits % (8 * Self::MIN))
    }
}

impl FromStr for DeploymentId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("ecs-svc/")
            .filter(|digits| digits.len() == 19 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| IdError::new("deployment id", text, "ecs-svc/ and 19 digits are expected"))
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ecs-svc/{:019}", self.0)
    }
}
serde_as_text!(DeploymentId);

/// The last part of a service deployment's ARN: 21 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceDeploymentKey(u128);

impl ServiceDeploymentKey {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 21;

    /// Folds any 128 random bits into the range of 21 digits to the base of 62.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(bits % 62u128.pow(21))
    }
}

impl FromStr for ServiceDeploymentKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("service deployment id", text, "21 letters and digits are expected");
        if text.len() != Self::LENGTH {
            return Err(error());
        }
        text.bytes()
            .try_fold(0u128, |sum, byte| {
                let digit = Self::DIGITS.iter().position(|&digit| digit == byte)?;
                Some(sum * 62 + u128::try_from(digit).ok()?)
            })
            .map(Self)
            .ok_or_else(error)
    }
}

impl fmt::Display for ServiceDeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut text = [b'0'; Self::LENGTH];
        for place in text.iter_mut().rev() {
            *place = Self::DIGITS[usize::try_from(left % 62).unwrap_or(0)];
            left /= 62;
        }
        text.iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}
serde_as_text!(ServiceDeploymentKey);

/// The last part of a service revision's ARN: 19 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRevisionNumber(u64);

impl ServiceRevisionNumber {
    /// Folds any 64 random bits into the range of 19-digit numbers.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        Self(DeploymentId::MIN + bits % (8 * DeploymentId::MIN))
    }
}

impl FromStr for ServiceRevisionNumber {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Some(text)
            .filter(|digits| digits.len() == 19 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| IdError::new("service revision id", text, "19 digits are expected"))
    }
}

impl fmt::Display for ServiceRevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:019}", self.0)
    }
}
serde_as_text!(ServiceRevisionNumber);

/// A cluster, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub name: ClusterName,
}

/// A service, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its name there.
    pub name: ServiceName,
}

/// A service deployment, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceDeploymentId {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its id there.
    pub key: ServiceDeploymentKey,
}

/// A service revision, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceRevisionId {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its number there.
    pub number: ServiceRevisionNumber,
}

/// A capacity provider, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CapacityProviderId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub name: CapacityProviderName,
}

/// A task definition family, wherever it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FamilyId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub family: Family,
}

/// One immutable task definition. Prints as `family:revision`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskDefinitionId {
    /// The region it belongs to.
    pub region: Region,
    /// Its family.
    pub family: Family,
    /// Its number in the family, from 1.
    pub revision: u32,
}

impl fmt::Display for TaskDefinitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.revision)
    }
}

/// The key a task is stored under: by cluster first, so that a cluster's tasks are one range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its id.
    pub id: TaskId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        assert!("web-app_2".parse::<ServiceName>().is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(256)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tasks_made_one_after_the_other_are_neighbours_with_addresses_of_their_own() {
        let ids: Vec<TaskId> =
            (0..70_000u64).map(|n| TaskId::from_halves(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)).collect();
        assert!(ids.is_sorted());
        let addresses: std::collections::BTreeSet<_> = ids.iter().map(|id| id.private_ipv4()).collect();
        assert_eq!(addresses.len(), ids.len());
        for id in [0, 253, 254, 255, u128::MAX].map(TaskId) {
            let [net, .., last] = id.private_ipv4().octets();
            assert!(net == 10 && (1..=254).contains(&last), "{id}");
        }
    }

    #[test]
    fn ids_print_as_aws_prints_them() {
        let id: TaskId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef");
        assert!("0123456789ABCDEF0123456789ABCDEF".parse::<TaskId>().is_err());
        let id: ContainerId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        for bits in [0, 1, u64::MAX] {
            let id = DeploymentId::from_random(bits);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bits in [0, 1, u128::MAX] {
            let key = ServiceDeploymentKey::from_random(bits);
            assert_eq!(key.to_string().len(), 21);
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!("0123456789abcdefghij-".parse::<ServiceDeploymentKey>().is_err());
    }
}
