//! Parameters: what Systems Manager's Parameter Store keeps. Values are sealed, of whatever type they are.

use serde::{Deserialize, Serialize};

use crate::ids::Region;
use crate::tags::Tags;
use crate::time::Timestamp;

/// Versions of one parameter that are kept; the oldest go first.
pub const PARAMETER_VERSIONS_MAX: usize = 100;

/// A parameter's name in its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ParameterId {
    /// The region.
    pub region: Region,
    /// A plain name, or a path that begins with a slash.
    pub name: String,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ParameterKind {
    /// Text.
    Text,
    /// Texts with commas between them.
    List,
    /// Text that is shown only to those who ask for it in the clear.
    Secure,
}

/// A parameter and its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub id: ParameterId,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Oldest first; never empty.
    pub versions: Vec<ParameterVersion>,
}

/// One value of a parameter, and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterVersion {
    /// Counted from 1.
    pub number: u64,
    /// What it is.
    pub kind: ParameterKind,
    /// The value, sealed.
    pub sealed: String,
    /// When it was written.
    pub modified_at: Timestamp,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Kept and returned: there is one key, the data directory's.
    #[serde(default)]
    pub key_id: Option<String>,
    /// What values have to match.
    #[serde(default)]
    pub allowed_pattern: Option<String>,
    /// `Standard` or `Advanced`.
    pub tier: String,
    /// `text`, or what was sent.
    pub data_type: String,
}

impl Parameter {
    /// The newest version.
    ///
    /// # Panics
    /// If there is none, which no code of ours makes.
    #[must_use]
    pub fn latest(&self) -> &ParameterVersion {
        self.versions.last().expect("a parameter is made with a version, and the newest is never removed")
    }

    /// What the value of a version is sealed for.
    #[must_use]
    pub fn seal_context(id: &ParameterId, number: u64) -> String {
        format!("parameter/{}/{}/{number}", id.region, id.name)
    }
}
