//! Which requests a rule is for, and how it rewrites them.

use serde::{Deserialize, Serialize};

/// Texts one of which has to match: with the wildcards `*` and `?`, or as regular expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patterns {
    /// Each with wildcards.
    #[serde(default)]
    pub values: Vec<String>,
    /// Each a regular expression.
    #[serde(default)]
    pub regexes: Vec<String>,
}

/// One `key=value` of a query. Both with wildcards; without a key, any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryPattern {
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: String,
}

/// What a request must be like. All conditions of a rule have to hold, one value of each suffices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Its host, whatever the case.
    Host(Patterns),
    /// Its path.
    Path(Patterns),
    /// One of its headers.
    Header {
        /// The header's name.
        name: String,
        /// What one of its values has to be like.
        patterns: Patterns,
    },
    /// Its method, exactly.
    Method(Vec<String>),
    /// One of its query parameters.
    Query(Vec<QueryPattern>),
    /// The address it comes from, as blocks in CIDR notation.
    SourceIp(Vec<String>),
}

/// Replaces what a regular expression matches; `$1` and the like are its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// What is looked for.
    pub regex: String,
    /// What is put in its place.
    pub replace: String,
}

/// A change to a request on its way to the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transform {
    /// Of its host.
    Host(Vec<Rewrite>),
    /// Of its path and query.
    Url(Vec<Rewrite>),
}
