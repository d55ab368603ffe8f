//! What a rule does with a request.

use std::time::Duration;

/// The last action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To a target of one of the groups.
    Forward(Forward),
    /// 301 or 302 to somewhere else.
    Redirect(Redirect),
    /// An answer that is written in the rule.
    FixedResponse(FixedResponse),
}

/// A share of the traffic for each of several target groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The groups, one to five of them.
    pub groups: Vec<WeightedGroup>,
    /// How long a client keeps the group it got first, by the cookie `AWSALBTG`. ELBv2 allows 1 s to
    /// 7 days.
    pub stickiness: Option<Duration>,
}

/// A target group and its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedGroup {
    /// The target group's ARN.
    pub group: String,
    /// 0 to 999. A group of weight 0 gets nothing.
    pub weight: u32,
}

/// Where to send a client. Every part may contain `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and
/// `#{query}`, which stand for the request's own; the path's without its leading slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    pub protocol: String,
    /// The host's name.
    pub host: String,
    /// A number or `#{port}`.
    pub port: String,
    /// The path with its leading slash.
    pub path: String,
    /// The query without its `?`.
    pub query: String,
    /// For ever or for now.
    pub status: RedirectStatus,
}

impl Redirect {
    /// A redirect that changes nothing yet: ELBv2's defaults for parts that are left out.
    #[must_use]
    pub fn unchanged(status: RedirectStatus) -> Self {
        Self {
            protocol: "#{protocol}".to_owned(),
            host: "#{host}".to_owned(),
            port: "#{port}".to_owned(),
            path: "/#{path}".to_owned(),
            query: "#{query}".to_owned(),
            status,
        }
    }
}

/// The two redirects ELBv2 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301
    Permanent,
    /// 302
    Temporary,
}

/// An answer of the listener's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// 200 to 599.
    pub status: u16,
    /// Such as `text/plain`.
    pub content_type: Option<String>,
    /// Up to 1,024 characters in ELBv2.
    pub body: String,
}
