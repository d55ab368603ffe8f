//! One client connection: what it is doing, and since when.
//!
//! hyper can bound the time of a head with a timer per request. Here, connections note what they wait for
//! and the listener looks over all of them twice a second, which costs a request two plain stores instead
//! of a timer, and bounds idle time and stalled bodies by the same means.
//!
//! ```text
//!            first byte            head complete
//!   Idle ───────────────▶ Head ───────────────▶ Busy
//!     ▲                                          │
//!     └──────────────────────────────────────────┘
//!                response ended or dropped
//! ```

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::handler;
use crate::headers::Forwarded;
use crate::router::Shared;
use crate::serve::{Limits, Listener};

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// A time in ticks of the listener's clock, which starts at 1.
type Tick = u32;

/// Stands for "not waiting" where a tick says since when.
const NOT: Tick = 0;

/// What the connection's task, its requests and the listener share.
///
/// Only the connection's task decides to close it, so a tick that is read a moment too early or late by
/// the listener costs a needless wake-up at most: everything here is relaxed.
pub(crate) struct Connection {
    pub(crate) router: Arc<Shared>,
    /// The client's address, IPv4 as such.
    pub(crate) client: IpAddr,
    pub(crate) forwarded: Forwarded,
    listener: Arc<Listener>,
    phase: AtomicU8,
    phase_since: AtomicU32,
    /// Whether a target holds the body of a request, which it may do beyond the end of its response.
    body_is_open: AtomicBool,
    /// Since when a target waits for more of the request's body.
    body_since: AtomicU32,
    /// Since when the client takes no bytes.
    write_since: AtomicU32,
    /// Set with a wake-up: the connection should look at the clock.
    nudged: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Connection {
    pub(crate) fn new(router: Arc<Shared>, listener: Arc<Listener>, client: IpAddr) -> Arc<Self> {
        let forwarded = Forwarded::new(client, listener.port);
        let now = listener.now();
        Arc::new(Self {
            router,
            client: client.to_canonical(),
            forwarded,
            listener,
            phase: AtomicU8::new(IDLE),
            phase_since: AtomicU32::new(now),
            body_is_open: AtomicBool::new(false),
            body_since: AtomicU32::new(NOT),
            write_since: AtomicU32::new(NOT),
            nudged: AtomicBool::new(false),
            waker: OnceLock::new(),
        })
    }

    /// The ARN of the listener with rules that the connection came to; none for the default port.
    pub(crate) fn listener_id(&self) -> Option<Arc<str>> {
        self.listener.id.clone()
    }

    /// The port the client has reached.
    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.phase_since.store(self.listener.now(), Ordering::Relaxed);
    }

    pub(crate) fn request_started(&self) {
        self.enter(BUSY);
    }

    pub(crate) fn request_ended(&self) {
        self.enter(IDLE);
    }

    fn bytes_arrived(&self) {
        if self.phase.load(Ordering::Relaxed) == IDLE {
            // The rest of an upload whose response has ended is not the start of a head, but progress.
            self.enter(if self.body_is_open.load(Ordering::Relaxed) { IDLE } else { HEAD });
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
        let waits_too_long = |since: &AtomicU32| {
            let since = since.load(Ordering::Relaxed);
            since != NOT && over(since, limits.stall)
        };
        let since = self.phase_since.load(Ordering::Relaxed);
        let phase_over = match self.phase.load(Ordering::Relaxed) {
            IDLE => over(since, limits.idle),
            HEAD => over(since, limits.head),
            _ => false,
        };
        phase_over || waits_too_long(&self.body_since) || waits_too_long(&self.write_since)
    }

    /// Makes the connection's task look at the clock and at the listener's state.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// Serves one connection to its end. Must be a task of its own: its waker is kept from the first poll.
pub(crate) async fn serve<T>(io: T, connection: Arc<Connection>, http: &http1::Builder)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let listener = Arc::clone(&connection.listener);
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| handler::handle(Arc::clone(&connection), request))
    };
    let io = TokioIo::new(Observed { io, connection: Arc::clone(&connection) });
    let mut http = pin!(http.serve_connection(io, service));
    let mut is_closing = false;
    let ended = poll_fn(|cx| {
        connection.waker.get_or_init(|| cx.waker().clone());
        if !is_closing && listener.is_closing() {
            is_closing = true;
            http.as_mut().graceful_shutdown();
        }
        if connection.nudged.swap(false, Ordering::Relaxed)
            && (listener.is_aborting() || connection.is_overdue(listener.now(), &listener.limits()))
        {
            return Poll::Ready(None);
        }
        http.as_mut().poll(cx).map(Some)
    })
    .await;
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "connection ended early"),
        None => tracing::debug!("connection closed: its client made no progress, or the router stops"),
    }
}

/// The socket, with its progress noted.
struct Observed<T> {
    io: T,
    connection: Arc<Connection>,
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
        self.connection.waits_for_client(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.connection.waits_for_client(polled.is_pending());
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
