//! One client connection: what it is doing, and since when.
//!
//! The time of a head could be bounded with a timer per request. Here, connections note what they wait for and the
//! listener looks over all of them twice a second, which costs a request two plain stores instead of a timer, and
//! bounds idle time and stalled bodies by the same means.
//!
//! ```text
//!            first byte            head complete            101 Switching Protocols
//!   Idle ───────────────▶ Head ───────────────▶ Busy ───────────────────────────────▶ Tunnel
//!     ▲                                          │
//!     └──────────────────────────────────────────┘
//!          all responses have ended or were dropped
//! ```
//!
//! Over HTTP/2 there is no way from Idle to Head: what arrives between requests may be a ping. A head is
//! one bounded frame sequence there, and as long as it is not complete the connection counts as idle.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{HeaderMap, Request};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::access_log::Entry;
use crate::forwarded::{ClientTls, Forwarded};
use crate::headers::Scan;
use crate::load_balancer::LoadBalancerAttributes;
use crate::router::Shared;
use crate::serve::{self, Limits, Listener};
use crate::tunnel::Tunnel;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const TUNNEL: u8 = 3;

/// A time in ticks of the listener's clock, which starts at 1.
type Tick = u32;

/// The shortest time of an answer that is measured in ticks. Below it, half a second more would be noticed.
const MEASURED_IN_TICKS: Duration = Duration::from_secs(10);

/// Stands for "not waiting" where a tick says since when.
const NOT: Tick = 0;

/// What the connection's task, its requests and the listener share.
///
/// Only the connection's task decides to close it, so a tick that is read a moment too early or late by
/// the listener costs a needless wake-up at most: everything here is relaxed.
pub(crate) struct Connection {
    pub(crate) router: Arc<Shared>,
    /// Where the client has connected from.
    pub(crate) peer: SocketAddr,
    /// The client's address, IPv4 as such.
    pub(crate) client: IpAddr,
    forwarded: Forwarded,
    /// Known once the client has agreed on TLS.
    tls: OnceLock<ClientTls>,
    listener: Arc<Listener>,
    /// When the connection was accepted.
    born: Tick,
    phase: AtomicU8,
    phase_since: AtomicU32,
    is_http2: AtomicBool,
    /// Requests whose responses have not ended.
    in_flight: AtomicU32,
    /// Whether a target holds the body of a request, which it may do beyond the end of its response.
    body_is_open: AtomicBool,
    /// Since when a target waits for more of a request's body.
    body_since: AtomicU32,
    /// Since when the client takes no bytes.
    write_since: AtomicU32,
    /// Responses of HTTP/2 whose next bytes wait for the client to take the last ones.
    held: AtomicU32,
    /// When a body last moved on, in either direction.
    progress: AtomicU32,
    /// The target's side of what the connection becomes after HTTP.
    tunnel: Mutex<Option<Tunnel>>,
    /// Until when a target may begin to answer, where that is measured in ticks. For HTTP/1, whose requests come one
    /// at a time.
    answer_due: AtomicU32,
    /// Set with a wake-up: the connection should look at the clock.
    nudged: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Connection {
    pub(crate) fn new(
        router: Arc<Shared>,
        listener: Arc<Listener>,
        client: SocketAddr,
        is_secure: bool,
    ) -> Arc<Self> {
        let scheme = if is_secure { "https" } else { "http" };
        let forwarded = Forwarded::new(client, listener.port, scheme);
        let now = listener.now();
        Arc::new(Self {
            router,
            peer: SocketAddr::new(client.ip().to_canonical(), client.port()),
            client: client.ip().to_canonical(),
            forwarded,
            tls: OnceLock::new(),
            born: now,
            // A client that has yet to agree on TLS is as far as one that has yet to complete a head.
            phase: AtomicU8::new(if is_secure { HEAD } else { IDLE }),
            phase_since: AtomicU32::new(now),
            is_http2: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            body_is_open: AtomicBool::new(false),
            body_since: AtomicU32::new(NOT),
            write_since: AtomicU32::new(NOT),
            held: AtomicU32::new(0),
            progress: AtomicU32::new(now),
            tunnel: Mutex::new(None),
            answer_due: AtomicU32::new(NOT),
            nudged: AtomicBool::new(false),
            waker: OnceLock::new(),
            listener,
        })
    }

    /// The ARN of the listener with rules that the connection came to; none for the default port.
    pub(crate) fn listener_id(&self) -> Option<&str> {
        self.listener.id.as_deref()
    }

    /// The port the client has reached.
    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.phase_since.store(self.listener.now(), Ordering::Relaxed);
    }

    /// The client has agreed on TLS.
    pub(crate) fn secured(&self, client: ClientTls) {
        // It agrees once only.
        let _ = self.tls.set(client);
        self.enter(IDLE);
    }

    /// `http`, or `https` where the client speaks TLS.
    pub(crate) fn scheme(&self) -> &'static str {
        self.forwarded.scheme()
    }

    /// Turns the headers a client sent into those a target sees.
    pub(crate) fn introduce(&self, headers: &mut HeaderMap, scan: Scan, attributes: &LoadBalancerAttributes) {
        self.forwarded.apply(headers, scan, attributes, self.tls.get());
    }

    /// What the access log is to know of a request; nothing if there is none.
    pub(crate) fn log_entry<B>(&self, request: &Request<B>) -> Option<Box<Entry>> {
        self.router.access_log.as_ref()?;
        let mut entry = Entry::of(request, self.peer, self.scheme() == "https");
        entry.tls = self.tls.get().map(|tls| (tls.version.clone(), tls.cipher.clone()));
        Some(Box::new(entry))
    }

    pub(crate) fn may_speak_http2(&self) -> bool {
        self.listener.may_speak_http2()
    }

    pub(crate) fn speaks_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
        self.enter(IDLE);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == IDLE
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    pub(crate) fn request_started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.enter(BUSY);
    }

    pub(crate) fn request_ended(&self) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(IDLE);
        }
    }

    fn bytes_arrived(&self) {
        match self.phase.load(Ordering::Relaxed) {
            IDLE if !self.is_http2() => {
                // The rest of an upload whose response has ended is not the start of a head, but progress.
                self.enter(if self.body_is_open.load(Ordering::Relaxed) { IDLE } else { HEAD });
            }
            TUNNEL => self.enter(TUNNEL),
            _ => {}
        }
    }

    fn bytes_left(&self) {
        if self.phase.load(Ordering::Relaxed) == TUNNEL {
            self.enter(TUNNEL);
        }
    }

    pub(crate) fn body_opened(&self) {
        self.body_is_open.store(true, Ordering::Relaxed);
    }

    pub(crate) fn body_closed(&self) {
        self.waits_for_body(false);
        self.body_is_open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn waits_for_body(&self, waits: bool) {
        self.note(&self.body_since, waits);
    }

    fn waits_for_client(&self, waits: bool) {
        self.note(&self.write_since, waits);
    }

    /// A body has moved on.
    pub(crate) fn progressed(&self) {
        self.progress.store(self.listener.now(), Ordering::Relaxed);
    }

    /// Bytes of a response are on their way to the client, or were taken by it.
    pub(crate) fn response_is_held(&self, is_held: bool) {
        if is_held {
            self.held.fetch_add(1, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn note(&self, since: &AtomicU32, waits: bool) {
        match (waits, since.load(Ordering::Relaxed)) {
            (true, NOT) => since.store(self.listener.now(), Ordering::Relaxed),
            (false, tick) if tick != NOT => since.store(NOT, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether the connection has waited too long for its client.
    pub(crate) fn is_overdue(&self, now: Tick, limits: &Limits) -> bool {
        let over = |since: Tick, limit: Tick| now.wrapping_sub(since) > limit;
        let since = self.phase_since.load(Ordering::Relaxed);
        let phase_over = match self.phase.load(Ordering::Relaxed) {
            IDLE => over(since, limits.idle),
            HEAD => over(since, limits.head),
            TUNNEL => over(since, limits.stall),
            _ => false,
        };
        let waits_too_long = |since: &AtomicU32| {
            let since = since.load(Ordering::Relaxed);
            since != NOT && over(since, limits.stall)
        };
        // One stream may be slow while another moves on: the connection is then not given up.
        let stands_still = || over(self.progress.load(Ordering::Relaxed), limits.stall);
        phase_over
            || waits_too_long(&self.write_since)
            || (waits_too_long(&self.body_since) || self.held.load(Ordering::Relaxed) > 0) && stands_still()
    }

    /// Whether the connection should end with the requests it has: the listener closes, or the connection is older
    /// than connections may get.
    pub(crate) fn should_close(&self) -> bool {
        self.listener.is_closing() || self.is_too_old(self.listener.now(), &self.listener.limits())
    }

    pub(crate) fn is_too_old(&self, now: Tick, limits: &Limits) -> bool {
        now.wrapping_sub(self.born) > limits.lifetime
    }

    /// How long a stream that has left HTTP may be silent.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.listener.limits().longest_silence()
    }

    /// What `future`, which has begun at `begun`, comes to, if it takes no longer than `limit`; half a second more, if
    /// that is long.
    ///
    /// A long limit takes no timer: with one for each request, a worker that waits has to look at all of them, and has the
    /// kernel set an alarm each time.
    pub(crate) async fn within<F: Future>(
        &self,
        begun: Instant,
        limit: Duration,
        future: F,
    ) -> Option<F::Output> {
        if limit < MEASURED_IN_TICKS || self.is_http2() {
            // Boxed, as it is rarer: a timer would otherwise be part of every request's state.
            return Box::pin(timeout_at(begun + limit, future)).await.ok();
        }
        // The tick it is now has begun before.
        let due = self.listener.now().wrapping_add(serve::ticks(limit)).wrapping_add(1).max(1);
        self.answer_due.store(due, Ordering::Relaxed);
        let mut future = pin!(future);
        let output = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if is_reached(due, self.listener.now()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.answer_due.store(NOT, Ordering::Relaxed);
        output
    }

    /// Whether a target has had its time to begin to answer.
    pub(crate) fn is_answer_due(&self, now: Tick) -> bool {
        let due = self.answer_due.load(Ordering::Relaxed);
        due != NOT && is_reached(due, now)
    }

    /// What the connection becomes when its last response is written.
    pub(crate) fn set_tunnel(&self, tunnel: Option<Tunnel>) {
        *self.tunnel.lock() = tunnel;
    }

    pub(crate) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().take()
    }

    pub(crate) fn tunnel_started(&self) {
        self.enter(TUNNEL);
    }

    /// Makes the connection's task look at the clock and at the listener's state.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Lets `served`, which serves the connection, go on to its end, but not longer than the client or the
    /// listener allow. Must be a task of its own: its waker is kept from the first poll. It is pinned where it is, as
    /// every connection would have room for it twice if it were moved here.
    pub(crate) async fn look_after(&self, mut served: Pin<&mut impl Future<Output = ()>>) {
        poll_fn(|cx| {
            self.waker.get_or_init(|| cx.waker().clone());
            // Read first, as to write costs more, and nearly always there is nothing.
            if self.nudged.load(Ordering::Relaxed)
                && self.nudged.swap(false, Ordering::Relaxed)
                && (self.listener.is_aborting()
                    || self.is_overdue(self.listener.now(), &self.listener.limits()))
            {
                tracing::debug!("connection closed: its client made no progress, or the router stops");
                return Poll::Ready(());
            }
            served.as_mut().poll(cx)
        })
        .await;
        // It refers to the connection, and would keep it for ever.
        drop(self.take_tunnel());
    }
}

/// Whether a time has come. The clock may have gone round.
fn is_reached(tick: Tick, now: Tick) -> bool {
    now.wrapping_sub(tick) < Tick::MAX / 2
}

/// The client's side of a connection, with its progress noted.
pub(crate) struct Observed<T> {
    io: T,
    connection: Arc<Connection>,
}

impl<T> Observed<T> {
    pub(crate) fn new(io: T, connection: Arc<Connection>) -> Self {
        Self { io, connection }
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        self.connection.waits_for_client(polled.is_pending());
        if polled.is_ready() {
            self.connection.bytes_left();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.connection.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
