//! Names and numbers of load-balancing resources. Each kind's ARN ends in what is here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{IdError, Region, serde_as_text};

/// The name of a load balancer, target group or trust store: 1 to 32 letters, digits and hyphens, with
/// no hyphen at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElbName(Arc<str>);

impl ElbName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ElbName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if (1..=32).contains(&text.len()) && plain && !text.starts_with('-') && !text.ends_with('-') {
            return Ok(Self(text.into()));
        }
        Err(IdError::new(
            "name",
            text,
            "1 to 32 letters, digits and hyphens are allowed, with no hyphen at the beginning or the end",
        ))
    }
}

impl fmt::Display for ElbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
serde_as_text!(ElbName);

/// The 16 hexadecimal digits that end a load-balancing ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElbNumber(pub u64);

impl FromStr for ElbNumber {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("id", text, "16 lowercase hexadecimal digits are expected");
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() != 16 || !plain {
            return Err(error());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for ElbNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
serde_as_text!(ElbNumber);

/// A load balancer. Its name is unique in its region among those that exist; the number tells it from
/// earlier ones of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LoadBalancerId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub name: ElbName,
    /// What ends its ARN.
    pub number: ElbNumber,
}

/// A listener, by its load balancer first, so that a load balancer's listeners are one range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId {
    /// The load balancer it belongs to.
    pub load_balancer: LoadBalancerId,
    /// What ends its ARN.
    pub number: ElbNumber,
}

/// A rule, by its listener first. A listener's default rule has an id like any other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId {
    /// The listener it belongs to.
    pub listener: ListenerId,
    /// What ends its ARN.
    pub number: ElbNumber,
}

/// A target group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetGroupId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub name: ElbName,
    /// What ends its ARN.
    pub number: ElbNumber,
}

/// A trust store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrustStoreId {
    /// The region it belongs to.
    pub region: Region,
    /// Its name there.
    pub name: ElbName,
    /// What ends its ARN.
    pub number: ElbNumber,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_bounded() {
        assert!("my-lb-1".parse::<ElbName>().is_ok());
        for bad in ["", "-a", "a-", "a_b", "é", &"x".repeat(33)] {
            assert!(bad.parse::<ElbName>().is_err(), "{bad:?}");
        }
        let number: ElbNumber = "50dc6c495c0c9188".parse().unwrap();
        assert_eq!(number.to_string(), "50dc6c495c0c9188");
        for bad in ["", "50DC6C495C0C9188", "+0dc6c495c0c9188", "50dc6c495c0c918"] {
            assert!(bad.parse::<ElbNumber>().is_err(), "{bad:?}");
        }
    }
}
