//! Listeners and rules on the wire.

use coracle_types::AccountId;
use coracle_types::elb::{
    CertificateId, ElbArn, ElbResource, Listener, ListenerId, ListenerProtocol, MutualAuthentication,
    MutualMode, Rule, RuleId, TrustStoreId,
};
use serde_json::Value;

use super::action::not_an_arn;
use super::error::ElbCode;
use super::{action, condition};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

impl Named for ListenerProtocol {
    const ALL: &'static [(&'static str, Self)] = &[("HTTP", Self::Http), ("HTTPS", Self::Https)];
}

impl Named for MutualMode {
    const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("passthrough", Self::Passthrough), ("verify", Self::Verify)];
}

/// Takes `Protocol` of a listener.
///
/// # Errors
/// When it is one that listeners do not speak here.
pub fn take_protocol(members: &mut Members) -> Result<Option<ListenerProtocol>, ApiError> {
    let Some(given) = members.text("Protocol")? else { return Ok(None) };
    ListenerProtocol::of_name(&given).map(Some).ok_or_else(|| {
        ElbCode::UnsupportedProtocol
            .because(format_args!("The protocol '{given}' is not supported here; HTTP and HTTPS are"))
            .into()
    })
}

/// Takes `Port`.
///
/// # Errors
/// When it is not between 1 and 65,535.
pub fn take_port(members: &mut Members) -> Result<Option<u16>, ApiError> {
    let port = members.integer_in("Port", 1..=65_535)?;
    Ok(port.and_then(|port| u16::try_from(port).ok()))
}

/// Takes `Certificates`.
///
/// # Errors
/// When one names no certificate.
pub fn take_certificates(members: &mut Members) -> Result<Vec<CertificateId>, ApiError> {
    let items = members.objects("Certificates")?.unwrap_or_default();
    items
        .into_iter()
        .map(|mut item| {
            let arn = item.required_text("CertificateArn")?;
            arn.parse().map_err(|_| {
                let shown: String = arn.chars().take(200).collect();
                ElbCode::CertificateNotFound.because(format_args!("Certificate '{shown}' not found")).into()
            })
        })
        .collect()
}

/// Takes `MutualAuthentication`.
///
/// # Errors
/// When it is not possible.
pub fn take_mutual(members: &mut Members) -> Result<Option<MutualAuthentication>, ApiError> {
    let Some(mut mutual) = members.object("MutualAuthentication")? else { return Ok(None) };
    let mode = mutual.named("Mode")?.unwrap_or_default();
    let trust_store = match mutual.text("TrustStoreArn")? {
        Some(arn) => Some(parse_trust_store(&arn)?),
        None => None,
    };
    if (mode == MutualMode::Verify) != trust_store.is_some() {
        return Err(mutual.invalid("TrustStoreArn", "the mode verify needs one, and no other mode takes one"));
    }
    Ok(Some(MutualAuthentication {
        mode,
        trust_store,
        ignore_expiry: mutual.flag("IgnoreClientCertificateExpiry")?.unwrap_or(false),
        advertise_names: mutual.text("AdvertiseTrustStoreCaNames")?.map(|text| text == "on"),
    }))
}

/// The listener an ARN names.
///
/// # Errors
/// When it names none.
pub fn parse_listener(arn: &str) -> Result<ListenerId, ApiError> {
    match arn.parse::<ElbArn>().map(|arn| arn.resource) {
        Ok(ElbResource::Listener(id)) => Ok(id),
        _ => Err(not_an_arn(arn, "listener")),
    }
}

/// The rule an ARN names.
///
/// # Errors
/// When it names none.
pub fn parse_rule(arn: &str) -> Result<RuleId, ApiError> {
    RuleId::of_arn(arn).ok_or_else(|| not_an_arn(arn, "listener rule"))
}

/// The trust store an ARN names.
///
/// # Errors
/// When it names none.
pub fn parse_trust_store(arn: &str) -> Result<TrustStoreId, ApiError> {
    match arn.parse::<ElbArn>().map(|arn| arn.resource) {
        Ok(ElbResource::TrustStore(id)) => Ok(id),
        _ => Err(not_an_arn(arn, "trust store")),
    }
}

/// A certificate as it is answered.
#[must_use]
pub fn certificate(id: &CertificateId, account: AccountId, is_default: Option<bool>) -> Value {
    Object::new().with("CertificateArn", id.arn(account)).maybe("IsDefault", is_default).into()
}

/// A listener as it is answered.
#[must_use]
pub fn encode(listener: &Listener, account: AccountId) -> Value {
    let is_https = listener.protocol == ListenerProtocol::Https;
    // Only the default certificate is shown with the listener; the others have an action of their own.
    let default = listener.certificates.first().map(|id| certificate(id, account, None));
    let mutual = listener.mutual_authentication.clone().unwrap_or_default();
    let store = mutual.trust_store.map(|id| ElbArn::new(account, id).to_string());
    let verify = mutual.mode == MutualMode::Verify;
    let mutual = Object::new()
        .with("Mode", mutual.mode.name())
        .maybe("TrustStoreAssociationStatus", store.as_ref().map(|_| "active"))
        .maybe("TrustStoreArn", store)
        .maybe("IgnoreClientCertificateExpiry", verify.then_some(mutual.ignore_expiry))
        .maybe("AdvertiseTrustStoreCaNames", mutual.advertise_names.map(|on| if on { "on" } else { "off" }));
    let object = Object::new()
        .with("ListenerArn", ElbArn::new(account, listener.id.clone()).to_string())
        .with("LoadBalancerArn", ElbArn::new(account, listener.id.load_balancer.clone()).to_string())
        .with("Port", listener.port)
        .with("Protocol", listener.protocol.name())
        .with("DefaultActions", action::encode(&listener.default_action, account));
    let object = if is_https {
        object
            .with("Certificates", list(default))
            .maybe("SslPolicy", listener.ssl_policy.as_deref())
            .with("MutualAuthentication", mutual)
    } else {
        object
    };
    object.rest(&listener.rest).into()
}

/// A rule as it is answered.
#[must_use]
pub fn encode_rule(rule: &Rule, account: AccountId) -> Value {
    Object::new()
        .with("RuleArn", ElbArn::new(account, rule.id.clone()).to_string())
        .with("Priority", rule.priority.to_string())
        .with("Conditions", condition::encode(&rule.conditions))
        .with("Actions", action::encode(&rule.action, account))
        .with("IsDefault", false)
        .with("Transforms", condition::encode_transforms(&rule.transforms))
        .into()
}

/// A listener's default rule as it is answered.
#[must_use]
pub fn encode_default_rule(listener: &Listener, account: AccountId) -> Value {
    Object::new()
        .with("RuleArn", ElbArn::new(account, listener.default_rule_id()).to_string())
        .with("Priority", "default")
        .with("Conditions", list::<Value>([]))
        .with("Actions", action::encode(&listener.default_action, account))
        .with("IsDefault", true)
        .with("Transforms", list::<Value>([]))
        .into()
}
