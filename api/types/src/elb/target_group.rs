//! Target groups: where requests are forwarded to, and how that is checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::TargetGroupId;
use super::load_balancer::Attributes;
use crate::tags::Tags;
use crate::time::Timestamp;

/// What targets speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetProtocol {
    /// HTTP.
    Http,
    /// HTTP in TLS.
    Https,
}

/// Which version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProtocolVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC, in HTTP/2.
    Grpc,
}

/// What targets are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetType {
    /// The id of the machine they run on.
    Instance,
    /// An IP address.
    Ip,
}

/// Where a target is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthCheckPort {
    /// Where it gets its requests.
    TrafficPort,
    /// At this port.
    Port(u16),
}

/// Which answers are good: numbers and ranges such as `200,301-302`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matcher {
    /// HTTP statuses.
    Http(String),
    /// gRPC statuses.
    Grpc(String),
}

impl Matcher {
    /// Whether `code` is one of those.
    #[must_use]
    pub fn accepts(&self, code: u32) -> bool {
        let (Self::Http(codes) | Self::Grpc(codes)) = self;
        codes.split(',').any(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let bounds = (from.trim().parse::<u32>(), to.trim().parse::<u32>());
            matches!(bounds, (Ok(from), Ok(to)) if (from..=to).contains(&code))
        })
    }
}

/// How targets are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroupCheck {
    /// Whether they are.
    pub enabled: bool,
    /// What is spoken.
    pub protocol: TargetProtocol,
    /// Where.
    pub port: HealthCheckPort,
    /// Which path is fetched; of gRPC, which method is called.
    pub path: String,
    /// Seconds between two checks, 5 to 300.
    pub interval_s: u32,
    /// Seconds until a check has failed, 2 to 120.
    pub timeout_s: u32,
    /// Checks in a row that must pass until an unhealthy target is healthy, 2 to 10.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail until a healthy target is unhealthy, 2 to 10.
    pub unhealthy_threshold: u32,
    /// Which answers are good.
    pub matcher: Matcher,
}

/// A target group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetGroup {
    /// Its name, region and number.
    pub id: TargetGroupId,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its targets speak.
    pub protocol: TargetProtocol,
    /// Which version of it.
    pub protocol_version: ProtocolVersion,
    /// Where they listen, unless they are registered with another port.
    pub port: u16,
    /// What they are named by.
    pub target_type: TargetType,
    /// The network they are in, as sent.
    #[serde(default)]
    pub vpc_id: Option<String>,
    /// `ipv4` or `ipv6`, as sent.
    pub ip_address_type: String,
    /// How they are checked.
    pub check: TargetGroupCheck,
    /// Attributes that were set.
    #[serde(default)]
    pub attributes: Attributes,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

impl TargetGroup {
    /// `deregistration_delay.timeout_seconds`, 300 unless set: how long requests in flight may go on
    /// once a target is deregistered.
    #[must_use]
    pub fn deregistration_delay(&self) -> Duration {
        let set = self.attributes.get("deregistration_delay.timeout_seconds");
        Duration::from_secs(set.and_then(|seconds| seconds.parse().ok()).unwrap_or(300))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_take_numbers_and_ranges() {
        let matcher = Matcher::Http("200,301-302".to_owned());
        let good: Vec<u32> = (100..600).filter(|code| matcher.accepts(*code)).collect();
        assert_eq!(good, [200, 301, 302]);
        assert!(Matcher::Grpc("0-99".to_owned()).accepts(12));
        assert!(!Matcher::Http("nonsense".to_owned()).accepts(200));
    }
}
