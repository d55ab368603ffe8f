//! Load balancers on the wire.

use std::collections::HashSet;

use coracle_types::elb::{ElbArn, ElbName, ElbResource, LoadBalancer, LoadBalancerId, Scheme, Zone};
use coracle_types::{AccountId, Region, Tags};
use serde_json::Value;

use super::action::not_an_arn;
use super::error::ElbCode;
use super::take_tags;
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// The network load balancers say they are in: none exists here.
const VPC: &str = "vpc-00000000000000000";
/// The zone Route 53 has ALBs of us-east-1 in; scripts that make aliases read it.
const HOSTED_ZONE: &str = "Z35SXDOTRQ7X7K";

/// CreateLoadBalancer.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateLoadBalancer {
    /// Its name.
    pub name: ElbName,
    /// Who it is for.
    pub scheme: Scheme,
    /// Its subnets.
    pub zones: Vec<Zone>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// `ipv4` unless said otherwise.
    pub ip_address_type: String,
    /// Its tags.
    pub tags: Tags,
}

impl CreateLoadBalancer {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or not possible.
    pub fn decode(mut members: Members, region: &Region) -> Result<Self, ApiError> {
        let name = take_name(&mut members, "Load balancer name")?;
        if name.as_str().starts_with("internal-") {
            return Err(ApiError::Client(format!(
                "The load balancer name '{name}' cannot begin with 'internal-'"
            )));
        }
        if let Some(kind) = members.text("Type")?.filter(|kind| kind != "application") {
            return Err(ElbCode::InvalidConfigurationRequest
                .because(format_args!(
                    "Load balancers of the type '{kind}' are not supported here; 'application' is"
                ))
                .into());
        }
        let scheme = match members.text("Scheme")?.as_deref() {
            Some("internal") => Scheme::Internal,
            _ => Scheme::InternetFacing,
        };
        let zones = take_zones(&mut members, region)?;
        Ok(Self {
            name,
            scheme,
            zones,
            security_groups: members.texts("SecurityGroups")?.unwrap_or_default(),
            ip_address_type: members.text("IpAddressType")?.unwrap_or_else(|| "ipv4".to_owned()),
            tags: take_tags(&mut members)?,
        })
    }

    /// Whether `existing` is what this asks for: then it is made already.
    #[must_use]
    pub fn is(&self, existing: &LoadBalancer) -> bool {
        let Self { name, scheme, zones, security_groups, ip_address_type, tags } = self;
        *name == existing.id.name
            && *scheme == existing.scheme
            && *zones == existing.zones
            && *security_groups == existing.security_groups
            && *ip_address_type == existing.ip_address_type
            && *tags == existing.tags
    }
}

/// Takes `Name`; `what` names the thing in complaints, which are AWS's.
///
/// # Errors
/// When it is missing or not possible.
pub fn take_name(members: &mut Members, what: &str) -> Result<ElbName, ApiError> {
    let name = members.required_text("Name")?;
    let shown: String = name.chars().take(200).collect();
    let refused = |why: &str| Err(ApiError::Client(format!("{what} '{shown}' {why}")));
    if name.chars().count() > 32 {
        return refused("cannot be longer than '32' characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return refused("can only contain characters that are alphanumeric characters or hyphens(-)");
    }
    name.parse().or_else(|_| refused("cannot begin or end with a hyphen"))
}

/// Takes `Subnets` or `SubnetMappings`.
///
/// # Errors
/// When there are both or none, or one comes twice.
pub fn take_zones(members: &mut Members, region: &Region) -> Result<Vec<Zone>, ApiError> {
    let subnets = members.texts("Subnets")?.unwrap_or_default();
    let mut mapped = Vec::new();
    for mut mapping in members.objects("SubnetMappings")?.unwrap_or_default() {
        mapped.push(mapping.required_text("SubnetId")?);
    }
    let subnets = match (subnets.is_empty(), mapped.is_empty()) {
        (false, false) => {
            return Err(ApiError::Client("You cannot specify both subnets and subnet mappings".to_owned()));
        }
        (true, true) => {
            return Err(ApiError::Client(
                "At least two subnets in two different Availability Zones must be specified".to_owned(),
            ));
        }
        (false, true) => subnets,
        (true, false) => mapped,
    };
    let different: HashSet<&String> = subnets.iter().collect();
    if different.len() < subnets.len() {
        return Err(ElbCode::InvalidConfigurationRequest
            .because("A load balancer cannot be attached to multiple subnets in the same Availability Zone")
            .into());
    }
    if subnets.len() > 26 {
        return Err(members.invalid("Subnets", "there can be at most 26"));
    }
    let letters = 'a'..='z';
    Ok(subnets
        .into_iter()
        .zip(letters)
        .map(|(subnet, letter)| Zone { name: format!("{region}{letter}"), subnet })
        .collect())
}

/// Takes the ARN of a load balancer.
///
/// # Errors
/// When it is missing, or is none.
pub fn take_load_balancer(members: &mut Members) -> Result<LoadBalancerId, ApiError> {
    parse_load_balancer(&members.required_text("LoadBalancerArn")?)
}

/// The load balancer an ARN names.
///
/// # Errors
/// When it names none.
pub fn parse_load_balancer(arn: &str) -> Result<LoadBalancerId, ApiError> {
    match arn.parse::<ElbArn>().map(|arn| arn.resource) {
        Ok(ElbResource::LoadBalancer(id)) => Ok(id),
        _ => Err(not_an_arn(arn, "load balancer")),
    }
}

/// Zones as they are answered.
#[must_use]
pub fn zones(zones: &[Zone]) -> Value {
    list(zones.iter().map(|zone| {
        Object::new()
            .with("ZoneName", zone.name.as_str())
            .with("SubnetId", zone.subnet.as_str())
            .with("LoadBalancerAddresses", list::<Value>([]))
    }))
}

/// A load balancer as it is answered. `trouble` says why it does not work, if it does not.
#[must_use]
pub fn encode(balancer: &LoadBalancer, account: AccountId, trouble: Option<&str>) -> Value {
    let state = match trouble {
        None => Object::new().with("Code", "active"),
        Some(why) => Object::new().with("Code", "failed").with("Reason", why),
    };
    let scheme = match balancer.scheme {
        Scheme::InternetFacing => "internet-facing",
        Scheme::Internal => "internal",
    };
    Object::new()
        .with("LoadBalancerArn", ElbArn::new(account, balancer.id.clone()).to_string())
        .with("DNSName", balancer.dns_name.as_str())
        .with("CanonicalHostedZoneId", HOSTED_ZONE)
        .with("CreatedTime", balancer.created_at.iso8601())
        .with("LoadBalancerName", balancer.id.name.as_str())
        .with("Scheme", scheme)
        .with("VpcId", VPC)
        .with("State", state)
        .with("Type", "application")
        .with("AvailabilityZones", zones(&balancer.zones))
        .with("SecurityGroups", list(balancer.security_groups.iter().map(String::as_str)))
        .with("IpAddressType", balancer.ip_address_type.as_str())
        .into()
}
