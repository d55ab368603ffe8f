//! Load balancers.

use std::collections::BTreeSet;

use coracle_protocol::elb::attributes::Kind;
use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::load_balancer::{
    self as wire, CreateLoadBalancer, parse_load_balancer, take_load_balancer, take_zones, zones,
};
use coracle_protocol::elb::{ElbCode, nothing, page};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{Attributes, ElbArn, LoadBalancer, LoadBalancerId};
use coracle_types::{Changes, JsonMap, Key, State};
use serde_json::{Value, json};

use super::{find, number};
use crate::api::{Api, Caller};

/// The domain of load balancers: names below `localhost` mean this machine, everywhere.
const DOMAIN: &str = "elb.localhost";

/// CreateLoadBalancer: one that is there already as asked for is answered as if it were new.
pub(super) async fn create(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = CreateLoadBalancer::decode(members, &caller.region)?;
    let (state, id) = api
        .transact(|state| {
            let mut changes = Changes::new();
            let here = || {
                state
                    .load_balancers
                    .values()
                    .map(|found| &found.value)
                    .filter(|one| one.id.region == caller.region)
            };
            if let Some(existing) = here().find(|one| one.id.name == request.name) {
                if request.is(existing) {
                    return Ok((changes, existing.id.clone()));
                }
                return Err(ElbCode::DuplicateLoadBalancerName
                    .because(format_args!(
                        "A load balancer with the same name '{}' exists, but with different settings",
                        request.name
                    ))
                    .into());
            }
            if here().count() >= limits::LOAD_BALANCERS {
                return Err(ElbCode::TooManyLoadBalancers
                    .because(format_args!("There can be at most {} load balancers", limits::LOAD_BALANCERS))
                    .into());
            }
            let id = LoadBalancerId {
                region: caller.region.clone(),
                name: request.name.clone(),
                number: number(),
            };
            changes.put(LoadBalancer {
                id: id.clone(),
                scheme: request.scheme,
                created_at: api.now(),
                dns_name: format!(
                    "{}.{}.{DOMAIN}",
                    request.name.as_str().to_ascii_lowercase(),
                    caller.region
                ),
                zones: request.zones.clone(),
                security_groups: request.security_groups.clone(),
                ip_address_type: request.ip_address_type.clone(),
                attributes: Attributes::new(),
                tags: request.tags.clone(),
                rest: JsonMap::new(),
            });
            Ok((changes, id))
        })
        .await?;
    let balancer = find::load_balancer(&state, caller, &id)?;
    Ok(Object::new().with("LoadBalancers", list([wire::encode(&balancer, api.account(), None)])).into())
}

/// DescribeLoadBalancers.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let names = members.texts("Names")?;
    let arns = members.texts("LoadBalancerArns")?;
    let state = api.store.snapshot();
    let here = || {
        state.load_balancers.values().map(|found| &found.value).filter(|one| one.id.region == caller.region)
    };
    let mut wanted: Option<BTreeSet<LoadBalancerId>> = None;
    if let Some(arns) = arns.filter(|arns| !arns.is_empty()) {
        let ids = wanted.get_or_insert_default();
        for arn in arns {
            ids.insert(find::load_balancer(&state, caller, &parse_load_balancer(&arn)?)?.id.clone());
        }
    }
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        let ids = wanted.get_or_insert_default();
        for name in names {
            let found = here().find(|one| one.id.name.as_str() == name);
            let found = found.ok_or_else(|| {
                ElbCode::LoadBalancerNotFound.because(format_args!("Load balancers '[{name}]' not found"))
            })?;
            ids.insert(found.id.clone());
        }
    }
    let trouble = trouble(api, &state);
    let items = here().filter(|one| wanted.as_ref().is_none_or(|ids| ids.contains(&one.id))).map(|one| {
        let why = trouble.iter().find(|(id, _)| *id == one.id).map(|(_, why)| why.as_str());
        (one.id.name.to_string(), wire::encode(one, api.account(), why))
    });
    page::of(&page, "LoadBalancers", items)
}

/// The load balancers that have a listener which could not be opened.
fn trouble(api: &Api, state: &State) -> Vec<(LoadBalancerId, String)> {
    let failed = api.ports.failed();
    let ports = failed.into_iter().filter_map(|(id, why)| Some((state.listeners.get(&id)?.value.port, why)));
    // All that share the port are without it.
    let at =
        |port: u16| state.listeners.values().map(|found| &found.value).filter(move |one| one.port == port);
    ports
        .flat_map(|(port, why)| at(port).map(move |one| (one.id.load_balancer.clone(), why.clone())))
        .collect()
}

/// Changes one load balancer.
async fn edit<T>(
    api: &Api,
    caller: &Caller,
    members: &mut Members,
    edit: impl Fn(&mut LoadBalancer, &mut Members) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let id = take_load_balancer(members)?;
    let (_, answer) = api
        .transact(|state| {
            let mut balancer = LoadBalancer::clone(&*find::load_balancer(state, caller, &id)?);
            let answer = edit(&mut balancer, &mut members.clone())?;
            let mut changes = Changes::new();
            changes.put(balancer);
            Ok((changes, answer))
        })
        .await?;
    Ok(answer)
}

/// DeleteLoadBalancer: with its listeners and their rules. One that is not there counts as deleted.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_load_balancer(&mut members)?;
    api.transact(|state| {
        let mut changes = Changes::new();
        let Ok(balancer) = find::load_balancer(state, caller, &id) else { return Ok((changes, ())) };
        if Kind::LoadBalancer.value(&balancer.attributes, "deletion_protection.enabled") == "true" {
            let arn = ElbArn::new(api.account(), id.clone());
            return Err(ElbCode::OperationNotPermitted
                .because(format_args!(
                    "Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
                ))
                .into());
        }
        for listener in state.listeners_of(&id) {
            for rule in state.rules_of(&listener.id) {
                changes.delete(Key::Rule(rule.id.clone()));
            }
            changes.delete(Key::Listener(listener.id.clone()));
        }
        changes.delete(Key::LoadBalancer(id.clone()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// DescribeLoadBalancerAttributes.
pub(super) fn attributes(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_load_balancer(&mut members)?;
    let balancer = find::load_balancer(&api.store.snapshot(), caller, &id)?;
    Ok(Kind::LoadBalancer.encode(&balancer.attributes))
}

/// ModifyLoadBalancerAttributes.
pub(super) async fn modify_attributes(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    edit(api, caller, &mut members, |balancer, members| {
        balancer.attributes = Kind::LoadBalancer.modify(&balancer.attributes, members)?;
        Ok(Kind::LoadBalancer.encode(&balancer.attributes))
    })
    .await
}

/// SetSubnets: kept.
pub(super) async fn set_subnets(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    edit(api, caller, &mut members, |balancer, members| {
        balancer.zones = take_zones(members, &caller.region)?;
        if let Some(kind) = members.text("IpAddressType")? {
            balancer.ip_address_type = kind;
        }
        Ok(Object::new()
            .with("AvailabilityZones", zones(&balancer.zones))
            .with("IpAddressType", balancer.ip_address_type.as_str())
            .into())
    })
    .await
}

/// SetSecurityGroups: kept.
pub(super) async fn set_security_groups(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    edit(api, caller, &mut members, |balancer, members| {
        balancer.security_groups = members.texts("SecurityGroups")?.unwrap_or_default();
        Ok(json!({"SecurityGroupIds": balancer.security_groups}))
    })
    .await
}

/// SetIpAddressType: kept.
pub(super) async fn set_ip_address_type(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    edit(api, caller, &mut members, |balancer, members| {
        balancer.ip_address_type = members.required_text("IpAddressType")?;
        Ok(json!({"IpAddressType": balancer.ip_address_type}))
    })
    .await
}

/// DescribeCapacityReservation: none is ever made.
pub(super) fn capacity(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_load_balancer(&mut members)?;
    find::load_balancer(&api.store.snapshot(), caller, &id)?;
    Ok(json!({"DecreaseRequestsRemaining": 0, "CapacityReservationState": []}))
}
