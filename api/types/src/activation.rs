//! Services that go down to no task and are brought back by a request.

use std::time::Duration;

use crate::service::{Service, ServiceStatus};

/// The tag that makes a service so. Its value is `true`, or after how many seconds without a request the
/// service goes down to no task by itself: `300` or `300s`.
pub const TAG: &str = "coracle.activate";

/// The shortest and the longest idle time, in seconds.
const IDLE_S: std::ops::RangeInclusive<u64> = 1..=604_800;

/// What a service's tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// How long without a request until it goes down to no task; None: not by itself.
    pub idle: Option<Duration>,
}

impl Activation {
    /// Reads the tag's value; None for one that means nothing.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let text = value.trim();
        if text.eq_ignore_ascii_case("true") {
            return Some(Self { idle: None });
        }
        let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
        let seconds = seconds.filter(|seconds| IDLE_S.contains(seconds))?;
        Some(Self { idle: Some(Duration::from_secs(seconds)) })
    }
}

impl Service {
    /// Whether requests may start its first task, as its tag says.
    #[must_use]
    pub fn activation(&self) -> Option<Activation> {
        let tag = self.tags.iter().find(|(key, _)| *key == TAG)?;
        Activation::parse(tag.1).filter(|_| self.status == ServiceStatus::Active)
    }

    /// Makes it keep `desired_count` tasks, without a new deployment.
    pub fn scale(&mut self, desired_count: u32, now: crate::time::Timestamp) {
        self.desired_count = desired_count;
        self.steady = false;
        let primary =
            self.deployments.iter_mut().find(|one| one.status == crate::service::DeploymentStatus::Primary);
        if let Some(primary) = primary {
            primary.desired_count = desired_count;
            primary.updated_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_true_or_a_time() {
        let idle = |value: &str| Activation::parse(value).map(|activation| activation.idle);
        assert_eq!(idle("true"), Some(None));
        assert_eq!(idle("300"), Some(Some(Duration::from_secs(300))));
        assert_eq!(idle("300s"), Some(Some(Duration::from_secs(300))));
        for bad in ["", "false", "0", "-1", "5m", "604801"] {
            assert_eq!(idle(bad), None, "{bad}");
        }
    }
}
