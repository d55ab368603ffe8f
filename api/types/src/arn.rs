//! Amazon Resource Names of the resources Coracle has. Formats: the ECS developer guide, "Amazon
//! Resource Names (ARNs) and IDs".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::daemon::DAEMON_PREFIX;
use crate::ids::{
    CapacityProviderId, ClusterId, ClusterName, ContainerId, DeploymentId, Family, IdError, NodeId, Region,
    ServiceDeploymentId, ServiceId, ServiceRevisionId, TaskDefinitionId, TaskId, serde_as_text,
};

/// An AWS account: 12 digits. One process serves one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

impl Default for AccountId {
    /// `123456789012`, the account AWS's documentation uses.
    fn default() -> Self {
        Self(123_456_789_012)
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map(Self).map_err(|_| IdError::new("account id", text, "12 digits are expected"))
        } else {
            Err(IdError::new("account id", text, "12 digits are expected"))
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}
serde_as_text!(AccountId);

/// What an ECS ARN names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// `cluster/NAME`
    Cluster(ClusterId),
    /// `service/CLUSTER/NAME`, and the old `service/NAME` read as one in the default cluster.
    Service(ServiceId),
    /// `task-definition/FAMILY:REVISION`
    TaskDefinition(TaskDefinitionId),
    /// `task/CLUSTER/ID`, and the old `task/ID` read as one in the default cluster.
    Task(ClusterId, TaskId),
    /// `container/CLUSTER/TASK/ID`
    Container(ClusterId, TaskId, ContainerId),
    /// `container-instance/CLUSTER/ID`
    ContainerInstance(ClusterId, NodeId),
    /// `task-set/CLUSTER/SERVICE/ecs-svc/NUMBER`
    TaskSet(ServiceId, DeploymentId),
    /// `service-deployment/CLUSTER/SERVICE/KEY`
    ServiceDeployment(ServiceDeploymentId),
    /// `service-revision/CLUSTER/SERVICE/NUMBER`
    ServiceRevision(ServiceRevisionId),
    /// `capacity-provider/NAME`
    CapacityProvider(CapacityProviderId),
}

impl Resource {
    /// The region it belongs to.
    #[must_use]
    pub fn region(&self) -> &Region {
        match self {
            Self::Cluster(cluster)
            | Self::Task(cluster, _)
            | Self::Container(cluster, ..)
            | Self::ContainerInstance(cluster, _) => &cluster.region,
            Self::Service(service)
            | Self::TaskSet(service, _)
            | Self::ServiceDeployment(ServiceDeploymentId { service, .. })
            | Self::ServiceRevision(ServiceRevisionId { service, .. }) => &service.cluster.region,
            Self::CapacityProvider(provider) => &provider.region,
            Self::TaskDefinition(definition) => &definition.region,
        }
    }
}

/// An ECS ARN: `arn:aws:ecs:REGION:ACCOUNT:RESOURCE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arn {
    /// The account as it was written; people shorten and invent them, so it is kept as text.
    pub account: String,
    /// What is named.
    pub resource: Resource,
}

impl Arn {
    /// The ARN of `resource` in `account`.
    #[must_use]
    pub fn new(account: AccountId, resource: Resource) -> Self {
        Self { account: account.to_string(), resource }
    }
}

/// Why a text is not an ECS ARN Coracle knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// It does not begin like one, or names another service or an unknown kind of resource.
    #[error("{0:?} is not an ECS ARN (arn:aws:ecs:REGION:ACCOUNT:RESOURCE)")]
    Malformed(String),
    /// A part of it is not a valid name or id.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl FromStr for Arn {
    type Err = ArnError;
    fn from_str(text: &str) -> Result<Self, ArnError> {
        let malformed = || ArnError::Malformed(text.chars().take(300).collect());
        if text.len() > 2048 {
            return Err(malformed());
        }
        let mut parts = text.splitn(6, ':');
        let (Some("arn"), Some(partition), Some("ecs"), Some(region), Some(account), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        if !partition.starts_with("aws") {
            return Err(malformed());
        }
        let region: Region = region.parse()?;
        let cluster = |name: &str| -> Result<ClusterId, IdError> {
            Ok(ClusterId { region: region.clone(), name: name.parse()? })
        };
        let default = || ClusterId { region: region.clone(), name: ClusterName::default_cluster() };
        let service = |in_cluster: &str, name: &str| -> Result<ServiceId, IdError> {
            Ok(ServiceId { cluster: cluster(in_cluster)?, name: name.parse()? })
        };
        let daemon = |in_cluster: &str, name: &str| service(in_cluster, &format!("{DAEMON_PREFIX}{name}"));
        let segments: Vec<&str> = rest.split('/').collect();
        let resource = match segments.as_slice() {
            ["cluster", name] => Resource::Cluster(cluster(name)?),
            ["service", name] => Resource::Service(ServiceId { cluster: default(), name: name.parse()? }),
            ["service", in_cluster, name] => Resource::Service(service(in_cluster, name)?),
            ["task-set", in_cluster, name, prefix, number] => {
                Resource::TaskSet(service(in_cluster, name)?, format!("{prefix}/{number}").parse()?)
            }
            ["service-deployment", in_cluster, name, key] => {
                Resource::ServiceDeployment(ServiceDeploymentId {
                    service: service(in_cluster, name)?,
                    key: key.parse()?,
                })
            }
            ["service-revision", in_cluster, name, number] => Resource::ServiceRevision(ServiceRevisionId {
                service: service(in_cluster, name)?,
                number: number.parse()?,
            }),
            ["daemon", in_cluster, name] => Resource::Service(daemon(in_cluster, name)?),
            ["daemon-deployment", in_cluster, name, key] => {
                Resource::ServiceDeployment(ServiceDeploymentId {
                    service: daemon(in_cluster, name)?,
                    key: key.parse()?,
                })
            }
            ["daemon-revision", in_cluster, name, number] => Resource::ServiceRevision(ServiceRevisionId {
                service: daemon(in_cluster, name)?,
                number: number.parse()?,
            }),
            ["capacity-provider", name] => {
                Resource::CapacityProvider(CapacityProviderId { region, name: name.parse()? })
            }
            ["task", id] => Resource::Task(default(), id.parse()?),
            ["task", in_cluster, id] => Resource::Task(cluster(in_cluster)?, id.parse()?),
            ["container", in_cluster, task, id] => {
                Resource::Container(cluster(in_cluster)?, task.parse()?, id.parse()?)
            }
            ["container-instance", id] => Resource::ContainerInstance(default(), id.parse()?),
            ["container-instance", in_cluster, id] => {
                Resource::ContainerInstance(cluster(in_cluster)?, id.parse()?)
            }
            [kind @ ("task-definition" | "daemon-task-definition"), definition] => {
                let (family, revision) = definition.split_once(':').ok_or_else(malformed)?;
                let revision =
                    revision.parse().ok().filter(|&revision| revision > 0).ok_or_else(malformed)?;
                let family =
                    if *kind == "task-definition" { family.parse()? } else { Family::of_daemons(family)? };
                Resource::TaskDefinition(TaskDefinitionId { region, family, revision })
            }
            _ => return Err(malformed()),
        };
        Ok(Self { account: account.to_owned(), resource })
    }
}

/// The ARN's resource for a service, or something of it: `service/CLUSTER/NAME`, `daemon/CLUSTER/NAME`.
fn of_service(f: &mut fmt::Formatter<'_>, what: &str, service: &ServiceId) -> fmt::Result {
    let cluster = &service.cluster.name;
    match service.name.daemon() {
        Some(daemon) => write!(f, "daemon{what}/{cluster}/{daemon}"),
        None => write!(f, "service{what}/{cluster}/{}", service.name),
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:ecs:{}:{}:", self.resource.region(), self.account)?;
        match &self.resource {
            Resource::Cluster(cluster) => write!(f, "cluster/{}", cluster.name),
            Resource::Service(service) => of_service(f, "", service),
            Resource::TaskDefinition(definition) => match definition.family.daemons() {
                Some(family) => write!(f, "daemon-task-definition/{family}:{}", definition.revision),
                None => write!(f, "task-definition/{definition}"),
            },
            Resource::Task(cluster, id) => write!(f, "task/{}/{id}", cluster.name),
            Resource::Container(cluster, task, id) => write!(f, "container/{}/{task}/{id}", cluster.name),
            Resource::ContainerInstance(cluster, id) => write!(f, "container-instance/{}/{id}", cluster.name),
            Resource::TaskSet(service, id) => {
                write!(f, "task-set/{}/{}/{id}", service.cluster.name, service.name)
            }
            Resource::ServiceDeployment(ServiceDeploymentId { service, key }) => {
                of_service(f, "-deployment", service)?;
                write!(f, "/{key}")
            }
            Resource::ServiceRevision(ServiceRevisionId { service, number }) => {
                of_service(f, "-revision", service)?;
                write!(f, "/{number}")
            }
            Resource::CapacityProvider(provider) => write!(f, "capacity-provider/{}", provider.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_round_trip() {
        for text in [
            "arn:aws:ecs:us-east-1:123456789012:cluster/default",
            "arn:aws:ecs:eu-west-1:123456789012:service/prod/web",
            "arn:aws:ecs:us-east-1:1:task-definition/web-app:7",
            "arn:aws:ecs:us-east-1:123456789012:task/prod/0123456789abcdef0123456789abcdef",
            "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef",
            "arn:aws:ecs:us-east-1:123456789012:task-set/prod/web/ecs-svc/1234567890123456789",
            "arn:aws:ecs:us-east-1:123456789012:service-deployment/prod/web/0Bcdefghijklmnopqrst9",
            "arn:aws:ecs:us-east-1:123456789012:service-revision/prod/web/1234567890123456789",
            "arn:aws:ecs:us-east-1:123456789012:capacity-provider/spare",
            "arn:aws:ecs:us-east-1:123456789012:daemon/prod/logs",
            "arn:aws:ecs:us-east-1:123456789012:daemon-deployment/prod/logs/0Bcdefghijklmnopqrst9",
            "arn:aws:ecs:us-east-1:123456789012:daemon-revision/prod/logs/1234567890123456789",
            "arn:aws:ecs:us-east-1:123456789012:daemon-task-definition/agent:7",
        ] {
            assert_eq!(text.parse::<Arn>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn old_service_arn_means_the_default_cluster() {
        let arn: Arn = "arn:aws:ecs:us-east-1:123456789012:service/web".parse().unwrap();
        assert_eq!(arn.to_string(), "arn:aws:ecs:us-east-1:123456789012:service/default/web");
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "arn:aws:s3:::bucket",
            "arn:aws:ecs:us-east-1:1:task-definition/web",
            "arn:aws:ecs:us-east-1:1:task-definition/web:0",
            "arn:aws:ecs:us-east-1:1:gadget/web",
            "arn:aws:ecs:us-east-1:1:cluster/a b",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text:?}");
        }
    }
}
