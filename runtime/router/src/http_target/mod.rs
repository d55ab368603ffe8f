//! [`HttpTarget`]: anything that speaks HTTP at an address, called over pooled connections.
//!
//! `connect` opens a connection, `pool` keeps those between requests, `http1` and `http2` send a request
//! over one. A connection of HTTP/1.1 is driven by the very task whose request it carries, so that a
//! request costs no hand-over between tasks; an idle one is driven by nobody, and looked at before it is
//! used again.
//!
//! What is deliberately absent: which target gets a request, whether it is healthy, and trying another.
//! A target is one address; names are resolved by whoever makes it.

mod connect;
mod http1;
mod http2;
mod pool;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};

use crate::target::{CallError, RequestBody, ResponseBody, Target};
use connect::{ConnectError, Connector};

/// What a target speaks. ELBv2's protocol versions `HTTP2` and `GRPC` are both [`Http2`](Self::Http2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetProtocol {
    /// HTTP/1.1, with upgrades such as WebSocket.
    #[default]
    Http1,
    /// HTTP/2 without negotiation ("prior knowledge"), or by ALPN where the target has TLS.
    Http2,
}

/// How an [`HttpTarget`] is reached, and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTargetConfig {
    /// Where the target listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: TargetProtocol,
    /// Whether it is reached by TLS. As behind an Application Load Balancer its certificate is not
    /// verified: TLS hides the traffic, the network says who the target is. Default no.
    pub tls: bool,
    /// Time for a connection to be made, TLS included. Default 5 s.
    pub connect_timeout: Duration,
    /// Time a connection is kept without a request. A target that announces a shorter one in
    /// `Keep-Alive` is believed. Default 50 s, just below the 60 s many servers keep theirs.
    pub idle_timeout: Duration,
    /// Connections kept without a request, by each of the router's worker threads and by all other threads
    /// together. Default 256.
    pub max_idle: usize,
    /// Connections open at once; past it, requests are [`CallError::Unavailable`]. Over one of HTTP/2 go
    /// up to 100 requests at once. Default 4,096.
    pub max_connections: usize,
    /// Bytes of a response's head. Default 64 KiB.
    pub max_head_bytes: usize,
}

/// Places at which idle connections are kept: that of each worker a router may have, and that of all other threads.
static PLACES: LazyLock<usize> =
    LazyLock::new(|| 1 + std::thread::available_parallelism().map_or(1, NonZeroUsize::get));

impl HttpTargetConfig {
    /// The defaults, for a target of HTTP/1.1 at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            protocol: TargetProtocol::default(),
            tls: false,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(50),
            max_idle: 256,
            max_connections: 4096,
            max_head_bytes: 64 * 1024,
        }
    }
}

/// A target that is reached over HTTP at an address.
///
/// Requests are sent once. Only one that met a connection the target had just given up is sent again,
/// over a new connection, and only if the target can't have seen it or seeing it twice changes nothing.
pub struct HttpTarget {
    client: Client,
}

enum Client {
    Http1(Arc<http1::Http1>),
    Http2(Arc<http2::Http2>),
}

impl HttpTarget {
    /// A target without a connection; the first request makes one.
    #[must_use]
    pub fn new(config: HttpTargetConfig) -> Self {
        let connector = Connector::new(&config);
        let client = match config.protocol {
            TargetProtocol::Http1 => Client::Http1(http1::Http1::new(connector, &config)),
            TargetProtocol::Http2 => Client::Http2(http2::Http2::new(connector, &config)),
        };
        Self { client }
    }
}

impl Target for HttpTarget {
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>> {
        match &self.client {
            Client::Http1(client) => Box::pin(http1::call(Arc::clone(client), request)),
            Client::Http2(client) => Box::pin(http2::call(Arc::clone(client), request)),
        }
    }

    fn accepts_upgrades(&self) -> bool {
        matches!(self.client, Client::Http1(_))
    }
}

/// A copy of a request that may be sent twice: it has no body, and its method is idempotent
/// (RFC 9110, 9.2.2).
pub(crate) struct Spare {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Spare {
    pub(crate) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let is_repeatable = request.method().is_idempotent() && request.body().is_end_stream();
        is_repeatable.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    pub(crate) fn into_request(self, version: Version) -> Request<RequestBody> {
        let mut request = Request::new(no_body());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.version_mut() = version;
        request
    }
}

/// The body of a message without one. A box of a type without size allocates nothing.
fn no_body() -> RequestBody {
    RequestBody::new(Empty::new().map_err(|never| match never {}))
}

/// What makes a client's request one of ours. `Expect` is answered by the router's own listener, when the
/// target asks for the body: passed on, it would be waited for twice.
fn prepare(request: &mut Request<RequestBody>, version: Version) {
    *request.version_mut() = version;
    request.headers_mut().remove(header::EXPECT);
}

/// When to come back to a target that has as many connections as it may.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// No connection could be made: nothing of the request was sent.
fn not_connected(request: Request<RequestBody>, error: &ConnectError) -> CallError {
    let reason = error.to_string();
    match error {
        ConnectError::Full(_) => CallError::Unavailable { reason, retry_after: RETRY_AFTER },
        ConnectError::TimedOut(_) => CallError::Unreachable { request, reason, timed_out: true },
        ConnectError::Refused(_) | ConnectError::Tls(_) | ConnectError::Closed(_) => {
            CallError::Unreachable { request, reason, timed_out: false }
        }
    }
}
