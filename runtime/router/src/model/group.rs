//! Target groups and the targets registered with them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{HealthCheck, TargetGroupAttributes};
use crate::http_target::TargetProtocol;
use crate::target::Slot;

/// A target group with its targets as they are registered now. A target that is no longer listed is
/// drained; the router remembers it for as long as that takes.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// The target group's ARN.
    pub id: String,
    /// Its name, as metrics show it.
    pub name: String,
    /// What is spoken with targets that are reached over the network.
    pub protocol: TargetProtocol,
    /// Whether they are reached by TLS.
    pub tls: bool,
    /// How its targets are checked.
    pub health_check: HealthCheck,
    /// How requests are spread over its targets.
    pub attributes: TargetGroupAttributes,
    /// Whether requests that find no target at all are held while one is started, as
    /// [`Router::activations`](crate::Router::activations) asks for.
    pub activates: bool,
    /// The registered targets.
    pub targets: Vec<RegisteredTarget>,
}

/// A target as it is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisteredTarget {
    /// What it is registered by.
    pub id: TargetId,
    /// How it is reached.
    pub backend: Backend,
}

/// What tells targets of one group apart. It must not change while the target lives, not even over a
/// restart: stickiness cookies name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    /// An address, or whatever else the target was registered by.
    pub id: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.port)
    }
}

/// How a target is reached.
#[derive(Clone)]
pub enum Backend {
    /// In this process. The slot may be in several groups, and in a service's routes too: its requests
    /// in flight count in all of them.
    InProcess(Arc<Slot>),
    /// Over the network, as a static target.
    Address(SocketAddr),
    /// Registered, but there is nothing to reach: the task is not running. ELBv2 calls it unused, for
    /// the reason `Target.InvalidState`.
    Stopped,
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::InProcess(one), Self::InProcess(other)) => Arc::ptr_eq(one, other),
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Stopped, Self::Stopped) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess(slot) => f.debug_tuple("InProcess").field(&slot.id()).finish(),
            Self::Address(address) => f.debug_tuple("Address").field(address).finish(),
            Self::Stopped => f.write_str("Stopped"),
        }
    }
}
