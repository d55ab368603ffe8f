//! A listening port and what it decides by.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Action, Rule};

/// One listener: a real port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The listener's ARN.
    pub id: String,
    /// Whose listener it is.
    pub load_balancer: LoadBalancer,
    /// Where it listens. Port 0 picks a free one, told by [`ListenerState`](super::ListenerState).
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: ListenerProtocol,
    /// In any order; priorities decide. No two have the same.
    pub rules: Vec<Rule>,
    /// What becomes of requests no rule matches.
    pub default_action: Action,
}

/// The load balancer a listener belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// The load balancer's ARN.
    pub id: String,
    /// Its name, as metrics show it.
    pub name: String,
    /// `idle_timeout.timeout_seconds`: how long a target may take to begin its answer, after which the
    /// client gets 504. ELBv2 allows 1 to 4,000 s; 60 s by default.
    pub idle_timeout: Duration,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerProtocol {
    /// Clear text.
    Http,
}
