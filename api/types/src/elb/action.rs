//! What is done with a request that a rule matches.

use serde::{Deserialize, Serialize};

use super::ids::TargetGroupId;

/// A target group and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedGroup {
    /// The group.
    pub group: TargetGroupId,
    /// Its share, 0 to 999, of the sum of all weights. 0 gets nothing.
    pub weight: u32,
}

/// Whether a client stays with the target group it was sent to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStickiness {
    /// Whether it does.
    pub enabled: bool,
    /// For how long, in seconds, 1 to 604,800.
    pub duration_s: Option<u32>,
}

/// Sends requests to target groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The groups, 1 to 5, each once.
    pub groups: Vec<WeightedGroup>,
    /// Whether clients stay with a group; None when it was not said.
    #[serde(default)]
    pub stickiness: Option<GroupStickiness>,
}

/// Sends the client elsewhere. A part may hold `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and
/// `#{query}`, which stand for the request's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    pub protocol: String,
    /// 1 to 65,535, or `#{port}`.
    pub port: String,
    /// The host.
    pub host: String,
    /// The path, from its first `/`.
    pub path: String,
    /// The query, without `?`.
    pub query: String,
    /// Whether for good (301) or for now (302).
    pub permanent: bool,
}

/// Answers at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedResponse {
    /// The status: 2XX, 4XX or 5XX.
    pub status: u16,
    /// The body's type.
    pub content_type: Option<String>,
    /// The body, at most 1,024 characters.
    pub body: Option<String>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// It goes to a target.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered as told.
    FixedResponse(FixedResponse),
}

impl Action {
    /// Sends everything to one group.
    #[must_use]
    pub fn to_group(group: TargetGroupId) -> Self {
        Self::Forward(Forward { groups: vec![WeightedGroup { group, weight: 1 }], stickiness: None })
    }

    /// The groups it may send requests to, whatever their weights.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroupId> {
        let groups = match self {
            Self::Forward(forward) => forward.groups.as_slice(),
            _ => &[],
        };
        groups.iter().map(|weighted| &weighted.group)
    }
}
