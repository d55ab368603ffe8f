//! Secrets: what Secrets Manager keeps. Values are sealed; whoever has a record alone can read none.

use serde::{Deserialize, Serialize};

use crate::ids::Region;
use crate::tags::Tags;
use crate::time::Timestamp;

/// The stage of the version that is meant when none is named.
pub const CURRENT: &str = "AWSCURRENT";

/// The stage of the version that was current before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// Versions no stage names that are kept all the same; the oldest go first.
const DEPRECATED_VERSIONS_MAX: usize = 10;

/// A secret's name in its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretId {
    /// The region.
    pub region: Region,
    /// 1 to 512 letters, digits and `/_+=.@-`.
    pub name: String,
}

/// A secret and its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub id: SecretId,
    /// The six characters its ARN ends with, so that the ARN of a deleted secret does not name its successor.
    pub suffix: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Kept and returned: there is one key, the data directory's.
    #[serde(default)]
    pub kms_key_id: Option<String>,
    /// Kept and returned.
    #[serde(default)]
    pub kind: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub changed_at: Timestamp,
    /// When DeleteSecret was called, and when the secret will be gone; it can be restored until then.
    #[serde(default)]
    pub deleted: Option<Deletion>,
    /// Oldest first.
    #[serde(default)]
    pub versions: Vec<SecretVersion>,
}

/// A secret on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When that was asked for.
    pub asked_at: Timestamp,
    /// When it will be gone.
    pub gone_at: Timestamp,
}

/// One value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// Its id: the request's token, 32 to 64 characters.
    pub id: String,
    /// The stages that name it.
    #[serde(default)]
    pub stages: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The value, sealed.
    pub sealed: String,
    /// Whether the value was sent as `SecretBinary`.
    #[serde(default)]
    pub binary: bool,
}

impl Secret {
    /// The last part of its ARN: name and suffix.
    #[must_use]
    pub fn arn_name(&self) -> String {
        format!("{}-{}", self.id.name, self.suffix)
    }

    /// Whether it is gone at `now`, though its record may still be there.
    #[must_use]
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.deleted.is_some_and(|deletion| deletion.gone_at <= now)
    }

    /// The version that carries a stage.
    #[must_use]
    pub fn at_stage(&self, stage: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.stages.iter().any(|known| known == stage))
    }

    /// What a value of version `version` is sealed for.
    #[must_use]
    pub fn seal_context(id: &SecretId, version: &str) -> String {
        format!("secret/{}/{}/{version}", id.region, id.name)
    }

    /// Adds a version and gives it its stages, which others lose; who was current becomes previous.
    pub fn add(&mut self, version: SecretVersion) {
        if version.stages.iter().any(|stage| stage == CURRENT)
            && let Some(current) =
                self.versions.iter().position(|known| known.stages.iter().any(|stage| stage == CURRENT))
        {
            for known in &mut self.versions {
                known.stages.retain(|stage| stage != PREVIOUS);
            }
            self.versions[current].stages.push(PREVIOUS.to_owned());
        }
        for known in &mut self.versions {
            known.stages.retain(|stage| !version.stages.contains(stage));
        }
        self.versions.push(version);
        let deprecated = self.versions.iter().filter(|version| version.stages.is_empty()).count();
        let mut surplus = deprecated.saturating_sub(DEPRECATED_VERSIONS_MAX);
        self.versions.retain(|version| {
            let goes = surplus > 0 && version.stages.is_empty();
            surplus -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret {
            id: SecretId { region: "us-east-1".parse().unwrap(), name: "db".into() },
            suffix: "AbCdEf".into(),
            description: None,
            kms_key_id: None,
            kind: None,
            tags: Tags::default(),
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            deleted: None,
            versions: Vec::new(),
        }
    }

    fn version(number: usize, stages: &[&str]) -> SecretVersion {
        SecretVersion {
            id: number.to_string(),
            stages: stages.iter().map(|&stage| stage.to_owned()).collect(),
            created_at: Timestamp(0),
            sealed: String::new(),
            binary: false,
        }
    }

    #[test]
    fn stages_move_and_versions_without_any_are_few() {
        let mut secret = secret();
        for number in 0..20 {
            secret.add(version(number, &[CURRENT]));
        }
        assert_eq!(secret.at_stage(CURRENT).unwrap().id, "19");
        assert_eq!(secret.at_stage(PREVIOUS).unwrap().id, "18");
        assert_eq!(secret.versions.len(), 2 + DEPRECATED_VERSIONS_MAX);
        secret.add(version(20, &["PENDING"]));
        assert_eq!(secret.at_stage(CURRENT).unwrap().id, "19");
        secret.add(version(21, &["PENDING", CURRENT]));
        assert_eq!(secret.at_stage(PREVIOUS).unwrap().id, "19");
        assert_eq!(secret.at_stage("PENDING").unwrap().id, "21");
    }
}
