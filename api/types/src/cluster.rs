//! Clusters.

use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;
use crate::tags::Tags;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// Whether a cluster takes work. ECS's other states (PROVISIONING, DEPROVISIONING, FAILED) belong to
/// capacity providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterStatus {
    /// Takes services and tasks.
    Active,
    /// Deleted; may be described for a while, and made again under its name.
    Inactive,
}

/// A group of services and tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name and region.
    pub id: ClusterId,
    /// Whether it takes work.
    pub status: ClusterStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members that are kept and returned as they were sent: settings, configuration, capacity
    /// providers, service connect defaults.
    #[serde(default)]
    pub rest: JsonMap,
}
