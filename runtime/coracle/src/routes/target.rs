//! Containers of this node as the router calls them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_agent::{
    CallError as AgentError, Endpoint, EndpointTarget, HttpHandle, SocketEntry, SocketHandle,
};
use coracle_router::{CallError, HttpTarget, HttpTargetConfig, RequestBody, ResponseBody, Target};
use coracle_sandbox::HandleError;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// When to come again to a service whose task was just stopping: another one is on its way.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A container of this node, as the router calls it: a function call, no socket.
struct ContainerTarget {
    handle: HttpHandle,
}

impl Target for ContainerTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        let handle = self.handle.clone();
        async move {
            match handle.call(request).await {
                Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(AgentError::Draining(request)) => Err(CallError::NotStarted(request)),
                Err(AgentError::Handle(error)) => Err(explain(&error)),
            }
        }
        .boxed()
    }
}

/// A container that listens on a port of its task's own network.
struct SocketTarget {
    socket: SocketHandle,
    http: HttpTarget,
}

impl SocketTarget {
    fn new(socket: SocketHandle) -> Self {
        let http = HttpTarget::new(HttpTargetConfig::new(socket.address()));
        Self { socket, http }
    }
}

impl Target for SocketTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        let Some(entry) = self.socket.enter() else {
            return std::future::ready(Err(CallError::NotStarted(request))).boxed();
        };
        let response = self.http.call(request);
        async move { Ok(response.await?.map(|body| Counted { body, _entry: entry }.boxed_unsync())) }.boxed()
    }
}

/// A response's body whose request is in flight for as long as it exists.
struct Counted {
    body: ResponseBody,
    _entry: SocketEntry,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = coracle_router::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A container of a service, whose requests are counted.
pub(super) struct ServiceTarget {
    pub(super) target: Arc<dyn Target>,
    pub(super) calls: Arc<AtomicU64>,
}

impl Target for ServiceTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        if !is_health_check(request.headers()) {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        self.target.call(request)
    }

    fn accepts_upgrades(&self) -> bool {
        self.target.accepts_upgrades()
    }
}

/// Whether the router itself asks.
fn is_health_check(headers: &http::HeaderMap) -> bool {
    let agent = headers.get(http::header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"ELB-HealthChecker/"))
}

/// How the router reaches a container.
pub(super) fn target(endpoint: &Endpoint) -> Arc<dyn Target> {
    match &endpoint.target {
        EndpointTarget::Http(handle) => Arc::new(ContainerTarget { handle: handle.clone() }),
        EndpointTarget::Socket(socket) => Arc::new(SocketTarget::new(socket.clone())),
    }
}

/// A guest's fault in the router's words: whose fault, and whether it may pass.
fn explain(error: &HandleError) -> CallError {
    let reason = error.to_string();
    match error {
        HandleError::Overloaded { retry_after } => {
            CallError::Unavailable { reason, retry_after: *retry_after }
        }
        HandleError::Stopping => CallError::Unavailable { reason, retry_after: RETRY_AFTER },
        HandleError::TimedOut { .. } => CallError::TimedOut { reason },
        HandleError::RequestBody(_) => CallError::BadRequest { reason },
        _ => CallError::Failed { reason },
    }
}
