//! Capacity providers: requests, and a provider as ECS answers it.

use coracle_types::{
    AccountId, Arn, CapacityProvider, CapacityProviderStatus, JsonMap, Region, Resource, Tags,
};
use serde_json::{Value, json};

use super::{Failure, include, names, tag};
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// `autoScalingGroupProvider`.
const GROUP: &str = "autoScalingGroupProvider";
/// `managedInstancesProvider`.
const MANAGED: &str = "managedInstancesProvider";
/// The member that keeps what was last done to a provider.
pub const UPDATE_STATUS: &str = "updateStatus";

/// The providers every account has.
pub const BUILT_IN: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// CreateCapacityProvider.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateCapacityProvider {
    /// Its name.
    pub name: String,
    /// The one cluster it is for; only with managed instances.
    pub cluster: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// One of the two kinds, with ECS's defaults.
    pub rest: JsonMap,
}

impl CreateCapacityProvider {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the name is not one a provider can have, or it is not of exactly one kind, or that is impossible.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let name = members.required_text("name")?;
        let lower = name.to_ascii_lowercase();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !plain
            || name.len() > 255
            || ["aws", "ecs", "fargate"].iter().any(|taken| lower.starts_with(taken))
        {
            return Err(members.refuse(
                "The specified capacity provider name is invalid. Up to 255 characters are allowed, including letters \
                 (upper and lowercase), numbers, underscores, and hyphens. The name cannot be prefixed with \"aws\", \
                 \"ecs\", or \"fargate\". Specify a valid name and try again.",
            ));
        }
        let cluster = members.text("cluster")?.filter(|cluster| !cluster.is_empty());
        let tags = tag::take_tags(&mut members)?;
        match (members.peek(GROUP), members.peek(MANAGED)) {
            (Some(_), None) if cluster.is_some() => {
                return Err(members.refuse(
                    "A cluster can only be specified for a capacity provider with a managedInstancesProvider.",
                ));
            }
            (None, Some(_)) if cluster.is_none() => return Err(members.missing("cluster")),
            (Some(_), None) | (None, Some(_)) => {}
            _ => {
                return Err(members.refuse(
                    "Specify either an autoScalingGroupProvider or a managedInstancesProvider, and not both.",
                ));
            }
        }
        check_managed_instances(&members)?;
        let mut rest = members.keep(&[MANAGED]);
        if let Some(mut group) = members.object(GROUP)? {
            let arn = group.required_text("autoScalingGroupArn")?;
            let defaults = json!({
                "autoScalingGroupArn": arn, "managedScaling": {"status": "DISABLED"},
                "managedTerminationProtection": "DISABLED", "managedDraining": "ENABLED",
            });
            rest.insert(GROUP.to_owned(), group_provider(&defaults, group)?);
        }
        Ok(Self { name, cluster, tags, rest })
    }
}

/// `before` with what a request says of an Auto Scaling group.
fn group_provider(before: &Value, mut group: Members) -> Result<Value, ApiError> {
    let mut after = before.clone();
    if let Some(mut scaling) = group.object("managedScaling")? {
        let mut now = after["managedScaling"].clone();
        if let Some(status) = scaling.text("status")? {
            now["status"] = status.into();
        }
        for (name, default, range) in [
            ("targetCapacity", 100, 1..=100),
            ("minimumScalingStepSize", 1, 1..=10_000),
            ("maximumScalingStepSize", 10_000, 1..=10_000),
            ("instanceWarmupPeriod", 300, 0..=10_000),
        ] {
            match scaling.integer_in(name, range)? {
                Some(given) => now[name] = given.into(),
                None if now.get(name).is_none() && now["status"] == "ENABLED" => now[name] = default.into(),
                None => {}
            }
        }
        if now["minimumScalingStepSize"].as_u64() > now["maximumScalingStepSize"].as_u64() {
            return Err(scaling
                .refuse("The minimumScalingStepSize must not be greater than the maximumScalingStepSize."));
        }
        after["managedScaling"] = now;
    }
    for name in ["managedTerminationProtection", "managedDraining"] {
        if let Some(given) = group.text(name)? {
            after[name] = given.into();
        }
    }
    if after["managedTerminationProtection"] == "ENABLED" && after["managedScaling"]["status"] != "ENABLED" {
        return Err(group.refuse(
            "The managed termination protection setting for the capacity provider is invalid. To enable managed \
             termination protection for a capacity provider, managed scaling must be enabled as well.",
        ));
    }
    Ok(after)
}

/// Looks at `managedInstancesProvider`, which stays where it is.
fn check_managed_instances(members: &Members) -> Result<(), ApiError> {
    let Some(mut managed) = members.clone().object(MANAGED)? else { return Ok(()) };
    managed.required_text("infrastructureRoleArn")?;
    managed
        .object("instanceLaunchTemplate")?
        .map(|_| ())
        .ok_or_else(|| managed.missing("instanceLaunchTemplate"))
}

/// UpdateCapacityProvider.
#[derive(Clone, Debug)]
pub struct UpdateCapacityProvider {
    /// Which one, by name or ARN.
    pub name: String,
    members: Members,
}

impl UpdateCapacityProvider {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the name is missing, or it is not of exactly one kind.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let name = members.required_text("name")?;
        if members.peek(GROUP).is_some() == members.peek(MANAGED).is_some() {
            return Err(members.refuse(
                "Specify either an autoScalingGroupProvider or a managedInstancesProvider, and not both.",
            ));
        }
        check_managed_instances(&members)?;
        Ok(Self { name, members })
    }

    /// What a provider keeps from now on.
    ///
    /// # Errors
    /// When it is of the other kind, or what would come out is impossible.
    pub fn over(&self, before: &JsonMap) -> Result<JsonMap, ApiError> {
        let mut members = self.members.clone();
        let mut after = before.clone();
        let of_the_other_kind =
            || self.members.refuse("A capacity provider cannot become one of another kind.");
        if let Some(group) = members.object(GROUP)? {
            let was = before.get(GROUP).ok_or_else(of_the_other_kind)?;
            after.insert(GROUP.to_owned(), group_provider(was, group)?);
        } else if let Some(managed) = members.value(MANAGED) {
            let was = before.get(MANAGED).ok_or_else(of_the_other_kind)?;
            after.insert(MANAGED.to_owned(), merged(was, managed));
        }
        Ok(after)
    }
}

/// `before` with the members of `given` in place of its own, all the way down.
fn merged(before: &Value, given: Value) -> Value {
    match (before, given) {
        (Value::Object(before), Value::Object(given)) => {
            let mut after = before.clone();
            for (name, value) in given {
                let value = before.get(&name).map_or_else(|| value.clone(), |was| merged(was, value.clone()));
                after.insert(name, value);
            }
            Value::Object(after)
        }
        (_, given) => given,
    }
}

/// DescribeCapacityProviders.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeCapacityProviders {
    /// Names or ARNs; all when there are none.
    pub providers: Vec<String>,
    /// Only those of this cluster.
    pub cluster: Option<String>,
    /// What else to answer.
    pub include: Vec<String>,
    /// Which part of them.
    pub page: PageRequest,
}

impl DescribeCapacityProviders {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, or there are more than 100 providers.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            providers: names(&mut members, "capacityProviders", 100)?,
            cluster: members.text("cluster")?.filter(|cluster| !cluster.is_empty()),
            include: include(&mut members)?,
            page: PageRequest::take_up_to(&mut members, 10, 10)?,
        })
    }
}

fn arn(account: AccountId, region: &Region, name: &str) -> String {
    format!("arn:aws:ecs:{region}:{account}:capacity-provider/{name}")
}

/// A built-in provider.
#[must_use]
pub fn built_in(account: AccountId, region: &Region, name: &str) -> Value {
    Object::new()
        .with("capacityProviderArn", arn(account, region, name))
        .with("name", name)
        .with("status", "ACTIVE")
        .with("type", name)
        .with("tags", json!([]))
        .into()
}

/// A provider that somebody made.
#[must_use]
pub fn capacity_provider(account: AccountId, provider: &CapacityProvider, with_tags: bool) -> Value {
    let managed = provider.rest.contains_key(MANAGED);
    Object::new()
        .with(
            "capacityProviderArn",
            Arn::new(account, Resource::CapacityProvider(provider.id.clone())).to_string(),
        )
        .with("name", provider.id.name.as_str())
        .with(
            "status",
            match provider.status {
                CapacityProviderStatus::Active => "ACTIVE",
                CapacityProviderStatus::Inactive => "INACTIVE",
            },
        )
        .with("type", if managed { "MANAGED_INSTANCES" } else { "EC2_AUTOSCALING" })
        .with("tags", if with_tags { tag::tags(&provider.tags) } else { json!([]) })
        .rest(&provider.rest)
        .into()
}

/// The answer with one provider.
#[must_use]
pub fn one(provider: Value) -> Value {
    Object::new().with("capacityProvider", provider).into()
}

/// The answer to DescribeCapacityProviders.
#[must_use]
pub fn describe(providers: Vec<Value>, failures: Vec<Failure>, next: Option<String>) -> Value {
    Object::new()
        .with("capacityProviders", providers)
        .with("failures", list(failures))
        .maybe("nextToken", next)
        .into()
}

/// The failure of a provider nobody knows, by name or ARN.
#[must_use]
pub fn missing(account: AccountId, region: &Region, given: &str) -> Failure {
    let known = if given.starts_with("arn:") { given.to_owned() } else { arn(account, region, given) };
    Failure::missing(known)
}
