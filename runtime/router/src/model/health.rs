//! What the router reports: the state of listeners and the health of targets.

use std::net::SocketAddr;

/// How a listener's port is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerState {
    /// It listens here.
    Listening(SocketAddr),
    /// The port could not be opened; it is tried again. The text says why.
    Failed(String),
}

/// The health of one target in one group, as `DescribeTargetHealth` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// Whether it gets requests.
    pub state: HealthState,
    /// Why it is not simply healthy.
    pub reason: Option<HealthReason>,
    /// The reason in words; empty if healthy.
    pub description: String,
    /// Whether it is ejected at the moment, for failing several requests in a row.
    pub is_anomalous: bool,
}

/// ELBv2's health states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Registered, and not found healthy yet.
    Initial,
    /// It gets requests.
    Healthy,
    /// It gets none, unless all are unhealthy.
    Unhealthy,
    /// No listener uses its group, or it is stopped.
    Unused,
    /// Deregistered: it finishes what it has.
    Draining,
    /// It gets requests, and is not checked.
    Unavailable,
}

impl HealthState {
    /// ELBv2's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }
}

/// ELBv2's reason codes, those the router has use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthReason {
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
    /// `Target.NotInUse`
    NotInUse,
    /// `Target.InvalidState`
    InvalidState,
    /// `Target.DeregistrationInProgress`
    DeregistrationInProgress,
    /// `Target.HealthCheckDisabled`
    HealthCheckDisabled,
}

impl HealthReason {
    /// ELBv2's code.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Elb.RegistrationInProgress",
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::ResponseCodeMismatch => "Target.ResponseCodeMismatch",
            Self::Timeout => "Target.Timeout",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::NotInUse => "Target.NotInUse",
            Self::InvalidState => "Target.InvalidState",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
            Self::HealthCheckDisabled => "Target.HealthCheckDisabled",
        }
    }
}
