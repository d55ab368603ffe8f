//! Listeners.

use std::collections::BTreeMap;

use coracle_protocol::elb::attributes::Kind;
use coracle_protocol::elb::catalogue::{DEFAULT_POLICY, limits, ssl_policy};
use coracle_protocol::elb::listener::{
    self as wire, parse_listener, take_certificates, take_mutual, take_port, take_protocol,
};
use coracle_protocol::elb::load_balancer::{parse_load_balancer, take_load_balancer};
use coracle_protocol::elb::{ElbCode, action, nothing, page, take_tags};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{Attributes, ElbArn, Listener, ListenerId, ListenerProtocol, MutualMode};
use coracle_types::{Changes, Key, State};
use serde_json::Value;

use super::ports::Reserved;
use super::{find, number};
use crate::api::{Api, Caller};

/// Members that are kept and returned as they were sent.
const KEPT: [&str; 1] = ["AlpnPolicy"];

/// CreateListener. The router opens the port when the listener is there; whether it can is found out before.
pub(super) async fn create(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let balancer = take_load_balancer(&mut members)?;
    let protocol = take_protocol(&mut members)?
        .ok_or_else(|| ApiError::Client("A listener protocol must be specified".to_owned()))?;
    let port = take_port(&mut members)?
        .ok_or_else(|| ApiError::Client("A listener port must be specified".to_owned()))?;
    let default_action = action::take(&mut members, "DefaultActions")?
        .ok_or_else(|| ApiError::Client("A listener must have a default action".to_owned()))?;
    let new = Listener {
        id: ListenerId { load_balancer: balancer.clone(), number: number() },
        created_at: api.now(),
        port,
        protocol,
        ssl_policy: members.text("SslPolicy")?,
        certificates: take_certificates(&mut members)?,
        default_rule: number(),
        default_action,
        mutual_authentication: take_mutual(&mut members)?,
        attributes: Attributes::new(),
        tags: take_tags(&mut members)?,
        rest: members.keep(&KEPT),
    };
    let reserved = Reserved::take(api, port).await?;
    let (state, id) = api
        .transact(|state| {
            find::load_balancer(state, caller, &balancer)?;
            let mut changes = Changes::new();
            let mut listener = new.clone();
            settle_tls(&mut listener)?;
            if let Some(existing) = state.listeners_of(&balancer).find(|one| one.port == port) {
                let same = Listener {
                    id: existing.id.clone(),
                    created_at: existing.created_at,
                    default_rule: existing.default_rule,
                    ..listener.clone()
                };
                if same == **existing {
                    return Ok((changes, existing.id.clone()));
                }
                let arn = ElbArn::new(api.account(), balancer.clone());
                return Err(ElbCode::DuplicateListener
                    .because(format_args!(
                        "A listener already exists on this port for this load balancer '{arn}'"
                    ))
                    .into());
            }
            if state.listeners_of(&balancer).count() >= limits::LISTENERS {
                return Err(ElbCode::TooManyListeners
                    .because(format_args!("A load balancer can have at most {} listeners", limits::LISTENERS))
                    .into());
            }
            check(state, api, caller, &listener)?;
            let id = listener.id.clone();
            changes.put(listener);
            Ok((changes, id))
        })
        .await?;
    reserved.keep();
    shown(api, caller, &state, &id)
}

/// Gives an HTTPS listener its default policy, and refuses what a protocol does not have.
fn settle_tls(listener: &mut Listener) -> Result<(), ApiError> {
    match listener.protocol {
        ListenerProtocol::Https => {
            if listener.certificates.is_empty() {
                return Err(ApiError::Client(
                    "A certificate must be specified for HTTPS listeners".to_owned(),
                ));
            }
            if listener.certificates.len() > 1 {
                return Err(ElbCode::TooManyCertificates
                    .because(
                        "Exactly one certificate, the default one, can be specified; others are added by \
                         AddListenerCertificates",
                    )
                    .into());
            }
            let policy = listener.ssl_policy.get_or_insert_with(|| DEFAULT_POLICY.to_owned());
            if ssl_policy(policy).is_none() {
                return Err(ElbCode::SSLPolicyNotFound
                    .because(format_args!("SSL policy '{policy}' not found"))
                    .into());
            }
            Ok(())
        }
        ListenerProtocol::Http => {
            let refused =
                |what: &str| Err(ApiError::Client(format!("{what} cannot be specified for HTTP listeners")));
            if !listener.certificates.is_empty() {
                return refused("A certificate");
            }
            if listener.ssl_policy.is_some() {
                return refused("An SSL policy");
            }
            let mutual = listener.mutual_authentication.as_ref();
            if mutual.is_some_and(|mutual| mutual.mode != MutualMode::Off) {
                return refused("Mutual authentication");
            }
            Ok(())
        }
    }
}

/// Whether everything a listener refers to is there, and others let it have its port.
fn check(state: &State, api: &Api, caller: &Caller, listener: &Listener) -> Result<(), ApiError> {
    find::possible(state, api, caller, &listener.id.load_balancer, &listener.default_action)?;
    find::certificates(state, api, caller, &listener.certificates)?;
    let mutual = listener.mutual_authentication.as_ref();
    if let Some(store) = mutual.and_then(|mutual| mutual.trust_store.as_ref()) {
        find::trust_store(state, caller, store)?;
    }
    let mut others = state
        .listeners
        .values()
        .map(|found| &found.value)
        .filter(|one| one.port == listener.port && one.id != listener.id);
    match others.next() {
        // Load balancers share the router's address, and so its ports: the host tells them apart.
        Some(other) if other.protocol == listener.protocol => Ok(()),
        Some(other) => Err(ElbCode::InvalidConfigurationRequest
            .because(format_args!(
                "Port {} is used by load balancer '{}' with another protocol. Load balancers share one address here: use \
                 another port, or the same protocol",
                listener.port, other.id.load_balancer.name
            ))
            .into()),
        None => Ok(()),
    }
}

fn shown(api: &Api, caller: &Caller, state: &State, id: &ListenerId) -> Result<Value, ApiError> {
    let listener = find::listener(state, caller, id)?;
    Ok(Object::new().with("Listeners", list([wire::encode(&listener, api.account())])).into())
}

/// DescribeListeners.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let balancer = members.text("LoadBalancerArn")?;
    let arns = members.texts("ListenerArns")?.unwrap_or_default();
    let state = api.store.snapshot();
    let mut wanted = BTreeMap::new();
    match (balancer, arns.is_empty()) {
        (Some(arn), true) => {
            let balancer = find::load_balancer(&state, caller, &parse_load_balancer(&arn)?)?;
            wanted.extend(state.listeners_of(&balancer.id).map(|one| (one.id.clone(), one.clone())));
        }
        (None, false) => {
            for arn in arns {
                let listener = find::listener(&state, caller, &parse_listener(&arn)?)?;
                wanted.insert(listener.id.clone(), listener);
            }
        }
        _ => {
            return Err(ApiError::Client(
                "You must specify either listener ARNs or a load balancer ARN".to_owned(),
            ));
        }
    }
    let items = wanted.values().map(|one| {
        (ElbArn::new(api.account(), one.id.clone()).to_string(), wire::encode(one, api.account()))
    });
    page::of(&page, "Listeners", items)
}

/// Takes the ARN of a listener.
pub(super) fn take(members: &mut Members) -> Result<ListenerId, ApiError> {
    parse_listener(&members.required_text("ListenerArn")?)
}

/// ModifyListener. What is not given stays; going from HTTPS to HTTP takes away what only HTTPS has.
pub(super) async fn modify(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take(&mut members)?;
    let protocol = take_protocol(&mut members)?;
    let port = take_port(&mut members)?;
    let policy = members.text("SslPolicy")?;
    let certificates = take_certificates(&mut members)?;
    let default_action = action::take(&mut members, "DefaultActions")?;
    let mutual = take_mutual(&mut members)?;
    let kept = members.keep(&KEPT);
    let reserved = match port {
        Some(port) => Some(Reserved::take(api, port).await?),
        None => None,
    };
    let (state, ()) = api
        .transact(|state| {
            let before = find::listener(state, caller, &id)?;
            let mut listener = Listener::clone(&before);
            listener.protocol = protocol.unwrap_or(listener.protocol);
            listener.port = port.unwrap_or(listener.port);
            if let Some(action) = &default_action {
                listener.default_action = action.clone();
            }
            if listener.protocol == ListenerProtocol::Http && before.protocol == ListenerProtocol::Https {
                listener.ssl_policy = None;
                listener.certificates.clear();
                listener.mutual_authentication = None;
            }
            if policy.is_some() {
                listener.ssl_policy.clone_from(&policy);
            }
            if mutual.is_some() {
                listener.mutual_authentication.clone_from(&mutual);
            }
            // Beside the default certificate, which is replaced, there may be others.
            let others = if listener.certificates.is_empty() {
                Vec::new()
            } else {
                listener.certificates.split_off(1)
            };
            if !certificates.is_empty() {
                listener.certificates.clone_from(&certificates);
            }
            settle_tls(&mut listener)?;
            let default = listener.certificates.first().cloned();
            listener.certificates.extend(others.into_iter().filter(|other| Some(other) != default.as_ref()));
            listener.rest.extend(kept.clone());
            let arn = || ElbArn::new(api.account(), id.load_balancer.clone());
            if state.listeners_of(&id.load_balancer).any(|one| one.id != id && one.port == listener.port) {
                return Err(ElbCode::DuplicateListener
                    .because(format_args!(
                        "A listener already exists on this port for this load balancer '{}'",
                        arn()
                    ))
                    .into());
            }
            check(state, api, caller, &listener)?;
            let mut changes = Changes::new();
            changes.put(listener);
            Ok((changes, ()))
        })
        .await?;
    if let Some(reserved) = reserved {
        reserved.keep();
    }
    shown(api, caller, &state, &id)
}

/// DeleteListener: with its rules.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take(&mut members)?;
    api.transact(|state| {
        find::listener(state, caller, &id)?;
        let mut changes = Changes::new();
        for rule in state.rules_of(&id) {
            changes.delete(Key::Rule(rule.id.clone()));
        }
        changes.delete(Key::Listener(id.clone()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// DescribeListenerAttributes.
pub(super) fn attributes(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take(&mut members)?;
    Ok(Kind::Listener.encode(&find::listener(&api.store.snapshot(), caller, &id)?.attributes))
}

/// ModifyListenerAttributes.
pub(super) async fn modify_attributes(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    let id = take(&mut members)?;
    let (_, answer) = api
        .transact(|state| {
            let mut listener = Listener::clone(&*find::listener(state, caller, &id)?);
            listener.attributes = Kind::Listener.modify(&listener.attributes, &mut members.clone())?;
            let answer = Kind::Listener.encode(&listener.attributes);
            let mut changes = Changes::new();
            changes.put(listener);
            Ok((changes, answer))
        })
        .await?;
    Ok(answer)
}
