//! Rules: which requests they mean, how those are changed, and how many are let through.

use std::time::Duration;

use super::Action;

/// One rule of a listener. It matches a request that fulfils every condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule's ARN.
    pub id: String,
    /// 1 to 50,000; the lowest that matches is taken.
    pub priority: u32,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// How the request is changed before a target sees it.
    pub transforms: Vec<Transform>,
    /// What becomes of the request.
    pub action: Action,
    /// How many requests are let through.
    pub rate_limit: Option<RateLimit>,
}

/// What a request must have. Where there are several values, one is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The host, whatever its case and without its port.
    HostHeader(TextMatch),
    /// The path, in its case and without the query.
    PathPattern(TextMatch),
    /// A header. Values match whatever their case, regular expressions in theirs.
    HttpHeader {
        /// The header's name, in any case.
        name: String,
        /// What one of its values must be.
        matches: TextMatch,
    },
    /// The method, in its case.
    HttpRequestMethod(Vec<String>),
    /// A pair of the query, whatever its case, as it was sent or percent-decoded. In the patterns, `\*`
    /// and `\?` mean the characters themselves.
    QueryString(Vec<QueryPair>),
    /// The client's address as its connection has it: networks such as `192.0.2.0/24`.
    SourceIp(Vec<String>),
}

/// Texts to compare with: patterns, in which `*` stands for any characters and `?` for one, and regular
/// expressions (no look-around, no back-references), which may match anywhere unless they are anchored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextMatch {
    /// Patterns.
    pub values: Vec<String>,
    /// Regular expressions.
    pub regex_values: Vec<String>,
}

/// A pair of a query string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPair {
    /// The pattern of the key. Without it, any value counts.
    pub key: Option<String>,
    /// The pattern of the value.
    pub value: String,
}

/// A change to a request. Of several rewrites the first that matches is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Of the `Host` header.
    HostHeader(Vec<Rewrite>),
    /// Of path and query.
    Url(Vec<Rewrite>),
}

/// Replaces what a regular expression matches first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The regular expression.
    pub regex: String,
    /// What to put in its place; `$1`, `$2`, … are the groups it captured.
    pub replace: String,
}

/// A bound on a rule's requests: a token bucket for each client. Over it, 429 with `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that may come in `per`.
    pub requests: u32,
    /// What `requests` is counted over.
    pub per: Duration,
    /// Requests that may come at once; at least 1.
    pub burst: u32,
    /// Who is a client.
    pub key: RateLimitKey,
}

/// Whose requests share a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimitKey {
    /// Those of one address; of one /64 network for IPv6.
    ClientAddress,
    /// Those with one value of this header; those without it share one.
    Header(String),
    /// All requests of the rule.
    Rule,
}

/// Why a rule can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not a regular expression, or one too big.
    #[error("{regex:?} is not a regular expression that is supported: {why}")]
    Regex {
        /// What was given.
        regex: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a header's name.
    #[error("{0:?} is not the name of a header")]
    HeaderName(String),
    /// Not a method.
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    /// Not a network.
    #[error("{0:?} is not a network such as 192.0.2.0/24 or 2001:db8::/32")]
    Network(String),
    /// A condition without any value.
    #[error("a condition has no values")]
    NoValues,
    /// A status no listener can send.
    #[error("{0} is not a status from 200 to 599")]
    Status(u16),
    /// Not a header's value.
    #[error("{0:?} is not a content type")]
    ContentType(String),
    /// A rate that lets nothing through.
    #[error("a rate limit needs at least one request, a burst of at least one, and a time")]
    RateLimit,
}
