//! What is known of a target's health.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A target's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetHealthState {
    /// It is being registered, or has yet to pass its first check.
    Initial,
    /// It passes its checks.
    Healthy,
    /// It fails them.
    Unhealthy,
    /// Nobody would send it anything.
    Unused,
    /// It is deregistered, and finishes what it has begun.
    Draining,
    /// It is not checked.
    Unavailable,
}

/// Why a target is in a state other than healthy. The names are those of `TargetHealthReasonEnum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetHealthReason {
    /// `Elb.RegistrationInProgress`
    RegistrationInProgress,
    /// `Elb.InitialHealthChecking`
    InitialHealthChecking,
    /// `Target.ResponseCodeMismatch`
    ResponseCodeMismatch,
    /// `Target.Timeout`
    Timeout,
    /// `Target.FailedHealthChecks`
    FailedHealthChecks,
    /// `Target.NotRegistered`
    NotRegistered,
    /// `Target.NotInUse`
    NotInUse,
    /// `Target.DeregistrationInProgress`
    DeregistrationInProgress,
    /// `Target.InvalidState`
    InvalidState,
    /// `Target.IpUnusable`
    IpUnusable,
    /// `Target.HealthCheckDisabled`
    HealthCheckDisabled,
    /// `Elb.InternalError`
    InternalError,
}

/// A target's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    /// Its state.
    pub state: TargetHealthState,
    /// Why; None when it is healthy.
    pub reason: Option<TargetHealthReason>,
    /// The same in words.
    pub description: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

impl TargetHealth {
    /// Of a target that was registered just now.
    #[must_use]
    pub fn registering(now: Timestamp) -> Self {
        Self {
            state: TargetHealthState::Initial,
            reason: Some(TargetHealthReason::RegistrationInProgress),
            description: Some("Target registration is in progress".to_owned()),
            since: now,
        }
    }

    /// Of a target that was deregistered just now.
    #[must_use]
    pub fn draining(now: Timestamp) -> Self {
        Self {
            state: TargetHealthState::Draining,
            reason: Some(TargetHealthReason::DeregistrationInProgress),
            description: Some("Target deregistration is in progress".to_owned()),
            since: now,
        }
    }

    /// Of a target that passes its checks.
    #[must_use]
    pub fn healthy(now: Timestamp) -> Self {
        Self { state: TargetHealthState::Healthy, reason: None, description: None, since: now }
    }
}
