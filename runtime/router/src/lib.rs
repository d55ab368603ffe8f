//! The HTTP front door: request in, target out.
//!
//! A [`Router`] accepts connections of HTTP/1.1 and HTTP/2, finds the service a request is for, picks the target of
//! that service with the fewest requests in flight, and calls it. A target is anything that implements
//! [`Target`]: in the binary it is a task's container, called in process without a socket, or an
//! [`HttpTarget`], called over pooled connections. Which targets a service has is told by whoever owns that
//! knowledge, with [`Router::publish`].
//!
//! Beside the default port, where the host names a service, there are listeners as Elastic Load Balancing
//! has them: ports with rules, which forward to target groups. They are published with the same table.
//!
//! # The life of a request
//!
//! 1. `serve`: the connection is accepted, or waits in the kernel's backlog while the router is full.
//! 2. `tls`, `protocols`: the client agrees on TLS where the listener has it, and shows whether it speaks
//!    HTTP/1.1 or HTTP/2. `connection`, `http1`: the head is read, within a time limit and a size limit; HTTP/2 is
//!    hyper's.
//! 3. `headers`: one pass over the headers finds what matters. `framing`: shapes that are refused end here.
//! 4. `address`, `table`: the routing header, else the host, is looked up in the current [`RoutingTable`].
//! 5. `balance`: the target with the fewest requests in flight is chosen.
//! 6. `forwarded`, `handler`: hop-by-hop headers are taken off, `X-Forwarded-*` put on, and the target is called. A
//!    target that says it is draining hands the request back, and another is tried; when none is left,
//!    the request waits a bounded time for a newer table.
//! 7. `body`: the response streams to the client. The target's in-flight count is held until the body
//!    has ended or was dropped, whichever way that happens. A response that leaves HTTP is a `tunnel`
//!    from then on.
//!
//! A request to a listener takes another way from `address` to `handler`:
//!
//! 1. `forward`, `rules`: the first rule that matches is found by an index of hosts and paths, its rate
//!    limit (`limit`) is asked, its action decided on.
//! 2. `relay`, `group`: the target group admits the request, or has it wait, within bounds (`breaker`). A
//!    target is chosen (`choose`) or known by a cookie (`sticky`), and called; another one is, where that is
//!    safe.
//!
//! Connections are served by threads of their own (`workers`), each by one for all its life.
//!
//! Beside the path of requests, `ports` opens and closes the ports of listeners, and `prober` looks after
//! target groups: what it finds out goes to the group's `keeper`, and from there into the next snapshot.
//!
//! # What is deliberately absent
//!
//! The router knows no tasks, components or control plane. On the default port it has no health checks
//! (only ready targets are published) and never retries a request of which a target has seen anything.
//! Nothing here takes a lock to decide about a request: listeners, rules, groups and services are one
//! immutable snapshot, swapped whole.

mod access_log;
mod address;
mod answer;
mod balance;
mod body;
mod bounded;
mod config;
mod connection;
mod forward;
mod forwarded;
mod framing;
mod group;
mod handler;
mod headers;
mod http1;
mod http_target;
mod in_process;
#[doc(hidden)]
pub mod internals;
mod limit;
mod listeners;
mod load_balancer;
mod metrics;
mod model;
mod ports;
mod prefixed;
mod prober;
mod protocols;
mod relay;
mod router;
mod rules;
mod serve;
mod sticky;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod trace;
mod traffic;
mod tunnel;
mod websocket;
mod workers;

pub use access_log::{AccessLogConfig, AccessLogFormat};
pub use config::RouterConfig;
pub use http_target::{HttpTarget, HttpTargetConfig, TargetProtocol};
pub use in_process::NamedService;
pub use listeners::HealthSnapshot;
pub use load_balancer::{Desync, ForwardedFor, LoadBalancerAttributes};
pub use model::*;
pub use router::{Router, RouterError};
pub use serve::Drained;
pub use sticky::CookieKey;
pub use table::{RoutingTable, ServiceName};
pub use target::{BoxError, CallError, RequestBody, ResponseBody, Slot, Target};
pub use tls::{ClientCertificates, HttpsConfig, TlsCertificate, TlsError, check_certificate};
pub use tunnel::{Duplex, Upgrade};
