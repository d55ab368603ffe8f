//! What a request is routed to: the [`Target`] trait, its errors, and the [`Slot`] a target is registered by.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Notify;

use crate::balance::Load;

/// Any error, as bodies carry it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A request's body, streamed from the client.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response's body, streamed from the target. An error ends the client's connection, so that the
/// client sees a truncated response as truncated.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Something that answers requests.
pub trait Target: Send + Sync + 'static {
    /// Answers one request. The URI is in origin form (path and query), the host is in `Host`.
    ///
    /// Dropping the future, or the response's body, means that the client is gone.
    ///
    /// Polled by a thread that serves many connections and that no other helps: what computes for more than a
    /// fraction of a millisecond has to do so elsewhere.
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>>;

    /// Whether the target can leave HTTP for another protocol, such as WebSocket. It then gets requests
    /// with `Connection: upgrade` and `Upgrade`, and agrees by a response of status 101 with an
    /// [`Upgrade`](crate::Upgrade) in its extensions. Requests that ask for it of other targets are refused.
    fn accepts_upgrades(&self) -> bool {
        false
    }
}

/// Why a target did not answer. The variants say whose fault it was and whether another target may be
/// tried; the reasons are shown to the client.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The target takes no new requests and has seen nothing of this one: another is tried.
    #[error("the target is draining")]
    NotStarted(Request<RequestBody>),
    /// There was no way to the target, and it has seen nothing of the request: another is tried. With none
    /// left, answered 502, or 504 where it was a matter of time.
    #[error("{reason}")]
    Unreachable {
        /// The request.
        request: Request<RequestBody>,
        /// What stood in the way.
        reason: String,
        /// Whether the target did not react in time; otherwise it refused.
        timed_out: bool,
    },
    /// The target has more to do than it can hold. Answered 503 with `Retry-After`.
    #[error("{reason}")]
    Unavailable {
        /// What was full.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The target broke while it answered. Answered 502.
    #[error("{reason}")]
    Failed {
        /// What broke.
        reason: String,
    },
    /// The target took too long. Answered 504.
    #[error("{reason}")]
    TimedOut {
        /// What took too long.
        reason: String,
    },
    /// The request asks to leave HTTP for another protocol, which the target doesn't. Answered 501.
    #[error("it does not accept protocol upgrades such as WebSocket")]
    NoUpgrade,
    /// The request, or its body, was at fault. Answered 400.
    #[error("{reason}")]
    BadRequest {
        /// What was wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The request, if the target has seen nothing of it.
    #[must_use]
    pub fn into_unsent(self) -> Option<Request<RequestBody>> {
        match self {
            CallError::NotStarted(request) | CallError::Unreachable { request, .. } => Some(request),
            _ => None,
        }
    }
}

/// A registered target. It survives table swaps, and with it the count of its requests in flight: put
/// the same slot in every table for as long as the target serves.
pub struct Slot {
    id: String,
    /// The id as a header value, made once.
    label: HeaderValue,
    target: Arc<dyn Target>,
    in_flight: AtomicU32,
    /// Whether anybody waits in [`Slot::idle`]; keeps the notification off the path of every request.
    watched: AtomicBool,
    became_idle: Notify,
}

impl Slot {
    /// Registers `target` under `id`, which responses carry as `x-coracle-task`.
    #[must_use]
    pub fn new(id: String, target: Arc<dyn Target>) -> Arc<Slot> {
        let label = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unprintable"));
        Arc::new(Slot {
            id,
            label,
            target,
            in_flight: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            became_idle: Notify::new(),
        })
    }

    /// The id the slot was registered by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Requests given to the target whose responses have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until no request is in flight. To drain a target, publish a table without it, then wait
    /// here. A request that had already picked the target may still reach it after that: answer it
    /// [`CallError::NotStarted`].
    pub async fn idle(&self) {
        self.watched.store(true, Ordering::SeqCst);
        loop {
            let mut became_idle = pin!(self.became_idle.notified());
            became_idle.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            became_idle.await;
        }
    }

    pub(crate) fn label(&self) -> HeaderValue {
        self.label.clone()
    }

    pub(crate) fn call(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>> {
        if request.headers().contains_key(header::UPGRADE) && !self.target.accepts_upgrades() {
            return Box::pin(std::future::ready(Err(CallError::NoUpgrade)));
        }
        self.target.call(request)
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        // Sequentially consistent with the store and load in `idle`: either this sees that somebody
        // watches, or the watcher sees the count at zero.
        if self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.watched.load(Ordering::SeqCst) {
            self.became_idle.notify_waiters();
        }
    }
}

impl Load for Slot {
    fn in_flight(&self) -> u32 {
        Slot::in_flight(self)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("id", &self.id)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
