//! Targets and their health on the wire.

use coracle_types::elb::{TargetHealth, TargetHealthReason, TargetHealthState};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::Object;

/// A target as requests name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDescription {
    /// Its address, or whatever the group's type names it by.
    pub id: String,
    /// Its port; the group's when None.
    pub port: Option<u16>,
    /// `AvailabilityZone`.
    pub zone: Option<String>,
}

/// Takes `Targets`.
///
/// # Errors
/// When one is not possible.
pub fn take(members: &mut Members) -> Result<Vec<TargetDescription>, ApiError> {
    let items = members.objects("Targets")?.unwrap_or_default();
    items
        .into_iter()
        .map(|mut item| {
            let id = item.required_text("Id")?;
            if id.len() > 255 {
                return Err(item.invalid("Id", "it is longer than 255 characters"));
            }
            let port = item.integer_in("Port", 1..=65_535)?;
            let port = port.and_then(|port| u16::try_from(port).ok());
            Ok(TargetDescription { id, port, zone: item.text("AvailabilityZone")? })
        })
        .collect()
}

impl Named for TargetHealthState {
    const ALL: &'static [(&'static str, Self)] = &[
        ("initial", Self::Initial),
        ("healthy", Self::Healthy),
        ("unhealthy", Self::Unhealthy),
        ("unused", Self::Unused),
        ("draining", Self::Draining),
        ("unavailable", Self::Unavailable),
    ];
}

impl Named for TargetHealthReason {
    const ALL: &'static [(&'static str, Self)] = &[
        ("Elb.RegistrationInProgress", Self::RegistrationInProgress),
        ("Elb.InitialHealthChecking", Self::InitialHealthChecking),
        ("Target.ResponseCodeMismatch", Self::ResponseCodeMismatch),
        ("Target.Timeout", Self::Timeout),
        ("Target.FailedHealthChecks", Self::FailedHealthChecks),
        ("Target.NotRegistered", Self::NotRegistered),
        ("Target.NotInUse", Self::NotInUse),
        ("Target.DeregistrationInProgress", Self::DeregistrationInProgress),
        ("Target.InvalidState", Self::InvalidState),
        ("Target.IpUnusable", Self::IpUnusable),
        ("Target.HealthCheckDisabled", Self::HealthCheckDisabled),
        ("Elb.InternalError", Self::InternalError),
    ];
}

/// A target's health, as DescribeTargetHealth answers it.
#[must_use]
pub fn encode(id: &str, port: u16, zone: Option<&str>, check_port: u16, health: &TargetHealth) -> Value {
    let target = Object::new().with("Id", id).with("Port", port).maybe("AvailabilityZone", zone);
    let state = Object::new()
        .with("State", health.state.name())
        .maybe("Reason", health.reason.map(Named::name))
        .maybe("Description", health.description.as_deref());
    let anomaly = Object::new().with("Result", "normal").with("MitigationInEffect", "no");
    let no_override = Object::new()
        .with("State", "no_override")
        .with("Reason", "AdministrativeOverride.NoOverride")
        .with("Description", "No override is currently active on target");
    Object::new()
        .with("Target", target)
        .with("HealthCheckPort", check_port.to_string())
        .with("TargetHealth", state)
        .with("AnomalyDetection", anomaly)
        .with("AdministrativeOverride", no_override)
        .into()
}
