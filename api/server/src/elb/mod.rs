//! Elastic Load Balancing v2: what people ask for. What a listener does with it is the router's.

mod certificates;
mod find;
mod listeners;
mod load_balancers;
mod ports;
mod rules;
mod tags;
mod target_groups;
mod targets;
mod trust_stores;

use coracle_protocol::elb::catalogue::{SSL_POLICIES, encode_limits, encode_policy, ssl_policy};
use coracle_protocol::elb::{ElbCode, page};
use coracle_protocol::members::Refusal;
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::ElbNumber;
use rand::Rng as _;
use serde_json::Value;

pub(crate) use self::ports::AnyPort;
pub use self::ports::ListenerPorts;
use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};

/// Answers one action. `body` is in the shape of its request.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let mut members = Members::of_body(body, Refusal::Client)?;
    match operation {
        "DescribeLoadBalancers" => return load_balancers::describe(api, caller, members),
        "DescribeLoadBalancerAttributes" => return load_balancers::attributes(api, caller, members),
        "DescribeCapacityReservation" => return load_balancers::capacity(api, caller, members),
        "DescribeTargetGroups" => return target_groups::describe(api, caller, members),
        "DescribeTargetGroupAttributes" => return target_groups::attributes(api, caller, members),
        "DescribeTargetHealth" => return targets::health(api, caller, members),
        "DescribeListeners" => return listeners::describe(api, caller, members),
        "DescribeListenerAttributes" => return listeners::attributes(api, caller, members),
        "DescribeListenerCertificates" => return certificates::describe(api, caller, members),
        "DescribeRules" => return rules::describe(api, caller, members),
        "DescribeTags" => return tags::describe(api, caller, members),
        "DescribeTrustStores" => return trust_stores::describe(api, caller, members),
        "DescribeTrustStoreAssociations" => return trust_stores::associations(api, caller, members),
        "DescribeSSLPolicies" => return ssl_policies(&mut members),
        "DescribeAccountLimits" => return page::of(&page::take(&mut members)?, "Limits", encode_limits()),
        _ => {}
    }
    // Names, ports and priorities are unique among records that have other keys, which a commit does not
    // compare: those who change load balancing take turns.
    let _turn = api.load_balancing.lock().await;
    match operation {
        "CreateLoadBalancer" => load_balancers::create(api, caller, members).await,
        "DeleteLoadBalancer" => load_balancers::delete(api, caller, members).await,
        "ModifyLoadBalancerAttributes" => load_balancers::modify_attributes(api, caller, members).await,
        "SetSubnets" => load_balancers::set_subnets(api, caller, members).await,
        "SetSecurityGroups" => load_balancers::set_security_groups(api, caller, members).await,
        "SetIpAddressType" => load_balancers::set_ip_address_type(api, caller, members).await,
        "CreateTargetGroup" => target_groups::create(api, caller, members).await,
        "ModifyTargetGroup" => target_groups::modify(api, caller, members).await,
        "DeleteTargetGroup" => target_groups::delete(api, caller, members).await,
        "ModifyTargetGroupAttributes" => target_groups::modify_attributes(api, caller, members).await,
        "RegisterTargets" => targets::register(api, caller, members).await,
        "DeregisterTargets" => targets::deregister(api, caller, members).await,
        "CreateListener" => listeners::create(api, caller, members).await,
        "ModifyListener" => listeners::modify(api, caller, members).await,
        "DeleteListener" => listeners::delete(api, caller, members).await,
        "ModifyListenerAttributes" => listeners::modify_attributes(api, caller, members).await,
        "AddListenerCertificates" => certificates::add(api, caller, members).await,
        "RemoveListenerCertificates" => certificates::remove(api, caller, members).await,
        "CreateRule" => rules::create(api, caller, members).await,
        "ModifyRule" => rules::modify(api, caller, members).await,
        "SetRulePriorities" => rules::set_priorities(api, caller, members).await,
        "DeleteRule" => rules::delete(api, caller, members).await,
        "AddTags" => tags::add(api, caller, members).await,
        "RemoveTags" => tags::remove(api, caller, members).await,
        "CreateTrustStore" => trust_stores::create(api, caller, members).await,
        "ModifyTrustStore" => trust_stores::modify(api, caller, members).await,
        "DeleteTrustStore" => trust_stores::delete(api, caller, members).await,
        unknown => Err(unknown_operation(Service::Elb, unknown)),
    }
}

/// A number for something new.
fn number() -> ElbNumber {
    ElbNumber(rand::rng().random())
}

fn ssl_policies(members: &mut Members) -> Result<Value, ApiError> {
    let page = page::take(members)?;
    let names = members.texts("Names")?.unwrap_or_default();
    if let Some(unknown) = names.iter().find(|name| ssl_policy(name).is_none()) {
        return Err(ElbCode::SSLPolicyNotFound
            .because(format_args!("SSL policy '{unknown}' not found"))
            .into());
    }
    let wanted =
        SSL_POLICIES.iter().filter(|policy| names.is_empty() || names.iter().any(|name| name == policy.name));
    page::of(&page, "SslPolicies", wanted.map(|policy| (policy.name.to_owned(), encode_policy(policy))))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_action_has_a_shape() {
        let source = include_str!("mod.rs");
        for operation in coracle_protocol::elb::inputs::operations() {
            assert!(source.contains(&format!("\"{operation}\" =>")), "{operation} is not answered");
        }
    }
}
