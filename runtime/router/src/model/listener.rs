//! A listening port and what it decides by.

use std::net::SocketAddr;

use super::{Action, ListenerAttributes, Rule};
use crate::load_balancer::LoadBalancerAttributes;
use crate::tls::HttpsConfig;

/// One listener: a real port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The listener's ARN.
    pub id: String,
    /// Whose listener it is.
    pub load_balancer: LoadBalancer,
    /// Where it listens. Port 0 picks a free one, told by [`ListenerState`](super::ListenerState).
    pub address: SocketAddr,
    /// What it changes about requests and answers.
    pub attributes: ListenerAttributes,
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
    /// Its attributes.
    pub attributes: LoadBalancerAttributes,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerProtocol {
    /// Clear text.
    Http,
    /// TLS.
    Https(HttpsConfig),
}
