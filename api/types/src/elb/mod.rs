//! Elastic Load Balancing v2: load balancers, their listeners and rules, target groups and targets.
//!
//! A target is registered in one of two ways. What `RegisterTargets` names by address is a [`Target`] of
//! its own. A task of a service behind a target group carries its registrations in `Task::targets`
//! ([`TaskTarget`]), so that whoever decides over a task sees its health without looking elsewhere.

mod action;
mod arn;
mod certificate;
mod condition;
mod health;
mod ids;
mod listener;
mod load_balancer;
mod lookup;
mod target;
mod target_group;
mod trust_store;

pub use action::{Action, FixedResponse, Forward, GroupStickiness, Redirect, WeightedGroup};
pub use arn::{ElbArn, ElbArnError, ElbResource};
pub use certificate::{Certificate, CertificateId, SealedKey};
pub use condition::{Condition, Patterns, QueryPattern, Rewrite, Transform};
pub use health::{TargetHealth, TargetHealthReason, TargetHealthState};
pub use ids::{ElbName, ElbNumber, ListenerId, LoadBalancerId, RuleId, TargetGroupId, TrustStoreId};
pub use listener::{Listener, ListenerProtocol, MutualAuthentication, MutualMode, Rule};
pub use load_balancer::{Attributes, LoadBalancer, Scheme, Zone};
pub use lookup::Association;
pub use target::{DrainedTarget, Target, TargetId, TargetObservation, TargetRef, TargetReport, TaskTarget};
pub use target_group::{
    HealthCheckPort, Matcher, ProtocolVersion, TargetGroup, TargetGroupCheck, TargetProtocol, TargetType,
};
pub use trust_store::TrustStore;
