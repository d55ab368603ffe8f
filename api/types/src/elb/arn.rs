//! ARNs of load-balancing resources: `arn:aws:elasticloadbalancing:REGION:ACCOUNT:RESOURCE`.

use std::fmt;
use std::str::FromStr;

use super::ids::{ElbNumber, ListenerId, LoadBalancerId, RuleId, TargetGroupId, TrustStoreId};
use crate::arn::AccountId;
use crate::ids::{IdError, Region};

/// The longest ARN that is looked at, in bytes.
const BYTES_MAX: usize = 2048;

/// What a load-balancing ARN names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElbResource {
    /// `loadbalancer/app/NAME/ID`
    LoadBalancer(LoadBalancerId),
    /// `listener/app/NAME/LOAD-BALANCER/ID`
    Listener(ListenerId),
    /// `listener-rule/app/NAME/LOAD-BALANCER/LISTENER/ID`
    Rule(RuleId),
    /// `targetgroup/NAME/ID`
    TargetGroup(TargetGroupId),
    /// `truststore/NAME/ID`
    TrustStore(TrustStoreId),
}

/// A load-balancing ARN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ElbArn {
    /// The account as it was written; people shorten and invent them, so it is kept as text.
    pub account: String,
    /// What is named.
    pub resource: ElbResource,
}

impl ElbArn {
    /// The ARN of `resource` in `account`.
    #[must_use]
    pub fn new(account: AccountId, resource: impl Into<ElbResource>) -> Self {
        Self { account: account.to_string(), resource: resource.into() }
    }
}

macro_rules! resources {
    ($($variant:ident($id:ty)),* $(,)?) => {
        $(impl From<$id> for ElbResource {
            fn from(id: $id) -> Self { Self::$variant(id) }
        })*
    };
}
resources! {
    LoadBalancer(LoadBalancerId), Listener(ListenerId), Rule(RuleId), TargetGroup(TargetGroupId),
    TrustStore(TrustStoreId),
}

/// Why a text is not a load-balancing ARN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElbArnError {
    /// It does not begin like one, or names another service or an unknown kind of resource.
    #[error("{0:?} is not an Elastic Load Balancing ARN")]
    Malformed(String),
    /// A part of it is not a valid name or id.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl FromStr for ElbArn {
    type Err = ElbArnError;
    fn from_str(text: &str) -> Result<Self, ElbArnError> {
        let malformed = || ElbArnError::Malformed(text.chars().take(300).collect());
        if text.len() > BYTES_MAX {
            return Err(malformed());
        }
        let mut parts = text.splitn(6, ':');
        let (
            Some("arn"),
            Some(partition),
            Some("elasticloadbalancing"),
            Some(region),
            Some(account),
            Some(rest),
        ) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        if !partition.starts_with("aws") {
            return Err(malformed());
        }
        let region: Region = region.parse()?;
        let balancer = |name: &str, number: &str| -> Result<LoadBalancerId, IdError> {
            Ok(LoadBalancerId { region: region.clone(), name: name.parse()?, number: number.parse()? })
        };
        let listener = |name: &str, balancer_number: &str, number: &str| -> Result<ListenerId, IdError> {
            Ok(ListenerId { load_balancer: balancer(name, balancer_number)?, number: number.parse()? })
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let resource = match segments.as_slice() {
            ["loadbalancer", "app", name, number] => balancer(name, number)?.into(),
            ["listener", "app", name, balancer, number] => listener(name, balancer, number)?.into(),
            ["listener-rule", "app", name, balancer, in_listener, number] => {
                let listener = listener(name, balancer, in_listener)?;
                RuleId { listener, number: number.parse::<ElbNumber>()? }.into()
            }
            ["targetgroup", name, number] => {
                TargetGroupId { region, name: name.parse()?, number: number.parse()? }.into()
            }
            ["truststore", name, number] => {
                TrustStoreId { region, name: name.parse()?, number: number.parse()? }.into()
            }
            _ => return Err(malformed()),
        };
        Ok(Self { account: account.to_owned(), resource })
    }
}

impl fmt::Display for ElbArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = match &self.resource {
            ElbResource::LoadBalancer(id) => &id.region,
            ElbResource::Listener(id) => &id.load_balancer.region,
            ElbResource::Rule(id) => &id.listener.load_balancer.region,
            ElbResource::TargetGroup(id) => &id.region,
            ElbResource::TrustStore(id) => &id.region,
        };
        write!(f, "arn:aws:elasticloadbalancing:{region}:{}:", self.account)?;
        match &self.resource {
            ElbResource::LoadBalancer(id) => write!(f, "loadbalancer/app/{}/{}", id.name, id.number),
            ElbResource::Listener(ListenerId { load_balancer, number }) => {
                write!(f, "listener/app/{}/{}/{number}", load_balancer.name, load_balancer.number)
            }
            ElbResource::Rule(RuleId { listener, number }) => {
                let ListenerId { load_balancer, number: in_listener } = listener;
                let LoadBalancerId { name, number: balancer, .. } = load_balancer;
                write!(f, "listener-rule/app/{name}/{balancer}/{in_listener}/{number}")
            }
            ElbResource::TargetGroup(id) => write!(f, "targetgroup/{}/{}", id.name, id.number),
            ElbResource::TrustStore(id) => write!(f, "truststore/{}/{}", id.name, id.number),
        }
    }
}

impl TargetGroupId {
    /// The target group an ARN names; None when it names no target group.
    #[must_use]
    pub fn of_arn(text: &str) -> Option<Self> {
        match text.parse::<ElbArn>().ok()?.resource {
            ElbResource::TargetGroup(id) => Some(id),
            _ => None,
        }
    }
}

impl RuleId {
    /// The rule an ARN names; None when it names no rule.
    #[must_use]
    pub fn of_arn(text: &str) -> Option<Self> {
        match text.parse::<ElbArn>().ok()?.resource {
            ElbResource::Rule(id) => Some(id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_round_trip() {
        for rest in [
            "loadbalancer/app/my-lb/50dc6c495c0c9188",
            "listener/app/my-lb/50dc6c495c0c9188/f2f7dc8efc522ab2",
            "listener-rule/app/my-lb/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee",
            "targetgroup/my-targets/73e2d6bc24d8a067",
            "truststore/my-ca/73e2d6bc24d8a067",
        ] {
            let text = format!("arn:aws:elasticloadbalancing:us-east-1:123456789012:{rest}");
            assert_eq!(text.parse::<ElbArn>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "arn:aws:ecs:us-east-1:1:cluster/default",
            "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/my-classic-lb",
            "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/net/my-lb/50dc6c495c0c9188",
            "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/my-targets/73e2",
        ] {
            assert!(text.parse::<ElbArn>().is_err(), "{text:?}");
        }
    }
}
