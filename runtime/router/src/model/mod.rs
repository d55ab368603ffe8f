//! What a router can be told: listeners, rules and target groups, under ELBv2's names.
//!
//! Plain data, compared by value. It is built whole by whoever owns the records, put into a
//! [`RoutingTable`](crate::RoutingTable) and published; what of it has not changed is not worked out anew.
//! Nothing here is checked for what only an API knows, such as whether a name is taken. A rule that can't
//! be understood (see [`Rule::check`]) matches nothing.

mod action;
mod attributes;
mod group;
mod health;
mod listener;
mod listener_attributes;
mod matcher;
mod rule;

pub use action::{Action, FixedResponse, Forward, Redirect, RedirectStatus, WeightedGroup};
pub use attributes::{
    Algorithm, AttributeError, Breaker, Minimum, OutlierEjection, RetryPolicy, Stickiness, StickinessKind,
    TargetGroupAttributes,
};
pub use group::{Backend, RegisteredTarget, TargetGroup, TargetId};
pub use health::{HealthReason, HealthState, ListenerState, TargetHealth};
pub use listener::{ListenerConfig, ListenerProtocol, LoadBalancer};
pub use listener_attributes::ListenerAttributes;
pub use matcher::{HealthCheck, Matcher, MatcherError};
pub use rule::{
    Condition, QueryPair, RateLimit, RateLimitKey, Rewrite, Rule, RuleError, TextMatch, Transform,
};
