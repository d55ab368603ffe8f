//! Trust stores: whose client certificates a listener accepts.

use serde::{Deserialize, Serialize};

use super::ids::TrustStoreId;
use crate::tags::Tags;
use crate::time::Timestamp;

/// A trust store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustStore {
    /// Its name, region and number.
    pub id: TrustStoreId,
    /// When it was made.
    pub created_at: Timestamp,
    /// The certificates of its authorities, PEM, 1 or more.
    pub ca_bundle: String,
    /// How many there are.
    pub ca_count: u32,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}
