//! How requests get into an HTTP container: a gate that counts them, and closes without losing one.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_sandbox::{BodyError, Container, HandleError, ResponseBody};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use crate::requests::{Watch, Watched};

/// Why a call of an HTTP container got no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError<B> {
    /// The task is stopping. The request is given back untouched; another task may take it.
    #[error("the task is draining")]
    Draining(Request<B>),
    /// The container was called and gave no response.
    #[error(transparent)]
    Handle(HandleError),
}

/// Calls one HTTP container of a running task. Cheap to clone.
#[derive(Clone)]
pub struct HttpHandle(Arc<Inner>);

/// How often a draining container is asked whether guests are still busy after their last response. Few ever
/// are, so this is rarely waited for even once.
const LINGER_POLL: Duration = Duration::from_millis(2);

struct Inner {
    container: Container,
    gate: Gate,
    watch: Option<Watch>,
}

impl HttpHandle {
    pub(crate) fn new(container: Container, watch: Option<Watch>) -> Self {
        Self(Arc::new(Inner { container, gate: Gate::default(), watch }))
    }

    /// Passes the request to the container and resolves with its response's head. The request counts as in
    /// flight until the response's body has ended or is dropped.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<B>(&self, mut request: Request<B>) -> Result<Response<ResponseBody>, CallError<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(entry) = Entry::new(&self.0) else { return Err(CallError::Draining(request)) };
        let watched = self.0.watch.as_ref().map(|watch| watch.begin(&mut request));
        let answer = self.0.container.handle(request).await;
        if let Some(watched) = &watched {
            watched.answered(&answer);
        }
        let response = answer.map_err(CallError::Handle)?;
        Ok(response.map(|body| Counted { body, _entry: entry, _watched: watched }.boxed_unsync()))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.gate.in_flight()
    }

    /// Refuses new requests from now on.
    pub(crate) fn close(&self) {
        self.0.gate.close();
    }

    /// Refuses new requests from now on, and tells guests that ask to end what has no end of its own; resolves when the
    /// last request in flight has ended, and guests that went on after their response have too.
    pub(crate) async fn drain(&self) {
        self.close();
        self.0.container.request_stop();
        self.0.gate.empty().await;
        while self.0.container.in_flight() > 0 {
            tokio::time::sleep(LINGER_POLL).await;
        }
    }
}

impl fmt::Debug for HttpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHandle").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// The address of a container that listens with `wasi:sockets`, and a count of those who are connected to it. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct SocketHandle {
    /// Where it listens, on this machine.
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// One request on its way to such a container; it counts until this is dropped.
#[derive(Debug)]
pub struct SocketEntry(Arc<Gate>);

impl Drop for SocketEntry {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl SocketHandle {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, gate: Arc::default() }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.gate, &other.gate)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts a request that is about to be sent; None when the task is draining.
    #[must_use]
    pub fn enter(&self) -> Option<SocketEntry> {
        self.gate.enter().then(|| SocketEntry(Arc::clone(&self.gate)))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.gate.in_flight()
    }

    pub(crate) fn close(&self) {
        self.gate.close();
    }

    pub(crate) async fn drain(&self) {
        self.close();
        self.gate.empty().await;
    }
}

/// A count of those inside, and whether others may come in, in one word: entering is one atomic addition.
#[derive(Debug, Default)]
struct Gate {
    state: AtomicU64,
    left: Notify,
}

/// The bit of [`Gate::state`] that says "closed"; the others are the count.
const CLOSED: u64 = 1 << 63;

impl Gate {
    fn enter(&self) -> bool {
        if self.state.fetch_add(1, Ordering::AcqRel) & CLOSED == 0 {
            return true;
        }
        self.leave();
        false
    }

    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.left.notify_waiters();
        }
    }

    fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    fn in_flight(&self) -> u64 {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    async fn empty(&self) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Listens from before the count is read, so that the last one's leaving can't fall in between.
            left.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// One request inside.
struct Entry(Arc<Inner>);

impl Entry {
    fn new(inner: &Arc<Inner>) -> Option<Self> {
        inner.gate.enter().then(|| Self(Arc::clone(inner)))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

/// A response's body whose request is in flight for as long as it exists.
struct Counted {
    body: ResponseBody,
    _entry: Entry,
    _watched: Option<Arc<Watched>>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_in_and_opens_its_end_when_the_last_has_left() {
        let gate = Gate::default();
        assert!(gate.enter() && gate.enter());
        gate.close();
        assert!(!gate.enter());
        assert_eq!(gate.in_flight(), 2);
        let mut empty = Box::pin(gate.empty());
        assert!((&mut empty).now_or_never().is_none());
        gate.leave();
        assert!((&mut empty).now_or_never().is_none());
        gate.leave();
        assert!((&mut empty).now_or_never().is_some());
        gate.empty().await;
    }

    #[test]
    fn nobody_is_lost_between_threads() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if gate.enter() {
                            gate.leave();
                        }
                    }
                });
            }
            scope.spawn(|| gate.close());
        });
        assert_eq!(gate.in_flight(), 0);
    }
}
