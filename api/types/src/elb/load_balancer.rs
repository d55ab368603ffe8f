//! Load balancers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::LoadBalancerId;
use crate::tags::Tags;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// Attributes that were set, by key. What is not in here has its default.
pub type Attributes = BTreeMap<String, String>;

/// Who a load balancer is for. Kept and returned: here every listener is on the router's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Everybody.
    InternetFacing,
    /// Those in its network.
    Internal,
}

/// A subnet a load balancer was given, and the availability zone it stands for here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The zone's name.
    pub name: String,
    /// The subnet as it was sent. There are no subnets here to look up.
    pub subnet: String,
}

/// A load balancer. It has listeners; by itself it does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Its name, region and number.
    pub id: LoadBalancerId,
    /// Who it is for.
    pub scheme: Scheme,
    /// When it was made.
    pub created_at: Timestamp,
    /// The host its clients use.
    pub dns_name: String,
    /// Its subnets.
    #[serde(default)]
    pub zones: Vec<Zone>,
    /// Its security groups, as sent.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// `ipv4` or `dualstack`, as sent.
    pub ip_address_type: String,
    /// Attributes that were set.
    #[serde(default)]
    pub attributes: Attributes,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members that are kept and returned as they were sent.
    #[serde(default)]
    pub rest: JsonMap,
}
