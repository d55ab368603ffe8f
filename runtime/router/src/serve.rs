//! The listener: accepts connections, looks after them, and sees them out.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;

use crate::config::RouterConfig;
use crate::connection::Connection;
use crate::load_balancer::LoadBalancerAttributes;
use crate::protocols::{self, Protocols, Spoken};
use crate::router::{Router, Shared};
use crate::tls::Security;
use crate::traffic::Connections;
use crate::workers::{Seat, Threads, Workers};
use crate::{ports, prober};

/// How often connections are looked over: fine enough for limits of seconds, and next to nothing for
/// thousands of connections.
const TICK: Duration = Duration::from_millis(500);

/// Time the tasks of aborted connections get to be gone. They only have to be polled once.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections that were closed with a request still in flight, as the drain time-out was over.
    pub aborted: usize,
}

impl Router {
    /// Serves `listener`, the default port of services, and the ports of listeners as they are
    /// published, until `shutdown` is done. Then no connection is accepted any more, idle ones
    /// are closed, and requests in flight get [`RouterConfig::drain_timeout`] to finish.
    ///
    /// # Errors
    ///
    /// If the listener has no local address. Errors of single connections end those only.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let port = listener.local_addr()?.port();
        let threads = Threads::start(&self.shared);
        let (stop, stopped) = watch::channel(());
        let stopped = || {
            let mut stopped = stopped.clone();
            async move {
                // Nothing is ever sent: the other end is dropped.
                let _ = stopped.changed().await;
            }
        };
        let ports = ports::run(self.clone(), stopped());
        let prober = prober::run(Arc::clone(&self.shared), stopped());
        let default = self.serve_from(listener, port, None, stopped());
        let shutdown = async {
            shutdown.await;
            drop(stop);
        };
        let (ports, default, (), ()) = tokio::join!(ports, default, prober, shutdown);
        drop(threads);
        Ok(Drained { aborted: ports.aborted + default.aborted })
    }

    pub(crate) async fn serve_from<A: Accept>(
        self,
        mut accept: A,
        port: u16,
        id: Option<Arc<str>>,
        shutdown: impl Future<Output = ()>,
    ) -> Drained {
        let shared = self.shared;
        let listener = Arc::new(Listener::new(&shared.config, port, id));
        listener.adopt(&shared);
        let protocols = Arc::new(Protocols::new(&shared.config));
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = pin!(shutdown);
        let mut may_accept = true;
        loop {
            let is_full = listener.open_count() >= shared.config.max_connections;
            listener.is_full.store(is_full, Ordering::Relaxed);
            tokio::select! {
                () = &mut shutdown => break,
                _ = ticks.tick() => {
                    may_accept = true;
                    listener.adopt(&shared);
                    listener.tick();
                }
                () = listener.closed.notified(), if is_full => {}
                accepted = accept.accept(), if !is_full && may_accept => match accepted {
                    Ok((io, client)) => spawn::<A>(io, client, &shared, &listener, &protocols),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        // Most likely out of file descriptors: trying again at once would only spin.
                        tracing::warn!(%error, "could not accept a connection");
                        may_accept = false;
                    }
                },
            }
        }
        drop(accept);
        drain(&listener, shared.config.drain_timeout).await
    }
}

fn spawn<A: Accept>(
    io: A::Io,
    client: SocketAddr,
    shared: &Arc<Shared>,
    listener: &Arc<Listener>,
    protocols: &Arc<Protocols>,
) {
    let (security, counted) = listener.door(shared);
    let is_secure = !matches!(security, Security::Clear);
    let connection = Connection::new(Arc::clone(shared), Arc::clone(listener), client, is_secure);
    let registered =
        Registered::new(Arc::clone(listener), Arc::clone(shared), Arc::clone(&connection), counted.clone());
    let protocols = Arc::clone(protocols);
    let seat = shared.workers.load_full().and_then(Workers::seat);
    let worker = seat.as_ref().map(Seat::runtime);
    let serve = move |io| async move {
        let _registered = (registered, seat);
        match security {
            Security::Clear => {
                let spoken = if connection.may_speak_http2() { Spoken::Unknown } else { Spoken::Http1 };
                let served = pin!(protocols::serve(io, spoken, &connection, &protocols));
                connection.look_after(served).await;
            }
            Security::Tls(tls) => {
                let served = async {
                    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
                    let io = match acceptor.accept(io).await {
                        Ok(io) => io,
                        Err(error) => {
                            if let Some(counted) = counted {
                                counted.did_not_agree_on_tls();
                            }
                            return tracing::debug!(%error, "a client did not agree on TLS");
                        }
                    };
                    let client = io.get_ref().1;
                    connection.secured(tls.describe(client));
                    let is_http2 = client.alpn_protocol() == Some(b"h2");
                    let spoken = if is_http2 { Spoken::Http2 } else { Spoken::Http1 };
                    protocols::serve(io, spoken, &connection, &protocols).await;
                };
                // Boxed: the state of a handshake is much, and only held by those who have one.
                connection.look_after(Box::pin(served).as_mut()).await;
            }
            // What is wrong was said when the table was published.
            Security::Broken => {}
        }
    };
    A::start(io, worker, serve);
}

/// Lets requests in flight finish, within `timeout`.
async fn drain(listener: &Listener, timeout: Duration) -> Drained {
    listener.stop(CLOSING);
    let deadline = Instant::now() + timeout;
    if time::timeout_at(deadline, listener.all_closed()).await.is_ok() {
        return Drained { aborted: 0 };
    }
    let aborted = listener.open_count();
    tracing::warn!(aborted, ?timeout, "requests were still in flight when the drain time-out was over");
    listener.stop(ABORTING);
    let _ = time::timeout(ABORT_GRACE, listener.all_closed()).await;
    Drained { aborted }
}

/// Errors of a connection that was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Where connections come from; tests bring their own.
pub(crate) trait Accept {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and its client's address. Safe to cancel.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>>;

    /// Has a connection served, on the runtime of this worker if there is one and the connection can move.
    fn start<F>(io: Self::Io, worker: Option<Handle>, serve: impl FnOnce(Self::Io) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _ = worker;
        tokio::spawn(serve(io));
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, client) = TcpListener::accept(self).await?;
        // Small responses must not wait for the acknowledgement of earlier ones. Failing means that the
        // client is gone, which is found out soon enough.
        let _ = stream.set_nodelay(true);
        Ok((stream, client))
    }

    fn start<F>(io: TcpStream, worker: Option<Handle>, serve: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = worker else {
            tokio::spawn(serve(io));
            return;
        };
        // Taken off this runtime here, put on the other there.
        let io = io.into_std();
        worker.spawn(async move {
            match io.and_then(TcpStream::from_std) {
                Ok(io) => serve(io).await,
                Err(error) => tracing::warn!(%error, "could not hand a connection to a worker"),
            }
        });
    }
}

const SERVING: u8 = 0;
const CLOSING: u8 = 1;
const ABORTING: u8 = 2;

/// Time limits in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) idle: u32,
    pub(crate) head: u32,
    pub(crate) stall: u32,
    /// How old a connection may get.
    pub(crate) lifetime: u32,
}

impl Limits {
    /// Those of the default port.
    fn of_router(config: &RouterConfig) -> Self {
        Self {
            idle: ticks(config.keep_alive_timeout),
            head: ticks(config.header_read_timeout),
            stall: ticks(config.client_stall_timeout),
            lifetime: u32::MAX / 2,
        }
    }

    /// Those of a load balancer's listener.
    fn of_load_balancer(config: &RouterConfig, attributes: &LoadBalancerAttributes) -> Self {
        let idle = ticks(attributes.idle_timeout);
        let head = ticks(config.header_read_timeout.min(attributes.idle_timeout));
        Self { idle, head, stall: idle, lifetime: ticks(attributes.client_keep_alive) }
    }
}

impl Limits {
    pub(crate) fn longest_silence(&self) -> Duration {
        TICK * self.stall
    }
}

pub(crate) fn ticks(limit: Duration) -> u32 {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    u32::try_from(millis.div_ceil(TICK.as_millis() as u64)).unwrap_or(u32::MAX).clamp(1, u32::MAX / 2)
}

/// What the connections of one listener share.
pub(crate) struct Listener {
    /// The listener's ARN; none for the default port.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) port: u16,
    /// They follow the attributes of the listener's load balancer.
    limits: ArcSwap<Limits>,
    may_speak_http2: AtomicBool,
    /// The clock connections read: a counter, moved on by the accept loop.
    now: AtomicU32,
    state: AtomicU8,
    is_full: AtomicBool,
    open: Mutex<Open>,
    /// Notified when a connection has closed.
    closed: Notify,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

impl Listener {
    pub(crate) fn new(config: &RouterConfig, port: u16, id: Option<Arc<str>>) -> Self {
        Self {
            id,
            port,
            limits: ArcSwap::from_pointee(Limits::of_router(config)),
            may_speak_http2: AtomicBool::new(true),
            now: AtomicU32::new(1),
            state: AtomicU8::new(SERVING),
            is_full: AtomicBool::new(false),
            open: Mutex::default(),
            closed: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// The time limits as they are now: idle connections are closed at once when others wait for a place.
    pub(crate) fn limits(&self) -> Limits {
        let limits = **self.limits.load();
        if self.is_full.load(Ordering::Relaxed) { Limits { idle: 1, ..limits } } else { limits }
    }

    /// Takes over what the current table has for this listener.
    fn adopt(&self, shared: &Shared) {
        let Some(id) = &self.id else { return };
        let routes = shared.routes.load();
        let Some(route) = routes.listeners.find(id) else { return };
        let attributes = &route.config.load_balancer.attributes;
        let limits = Limits::of_load_balancer(&shared.config, attributes);
        if **self.limits.load() != limits {
            self.limits.store(Arc::new(limits));
        }
        self.may_speak_http2.store(attributes.http2, Ordering::Relaxed);
    }

    /// How to speak with a client that is accepted now, and what counts it.
    fn door(&self, shared: &Shared) -> (Security, Option<Arc<Connections>>) {
        let Some(id) = &self.id else { return (Security::Clear, None) };
        let routes = shared.routes.load();
        match routes.listeners.find(id) {
            Some(route) => (route.security.clone(), Some(Arc::clone(&route.connections))),
            // A listener that has just gone still answers those who wait, in the clear: that it is gone.
            None => (Security::Clear, None),
        }
    }

    pub(crate) fn may_speak_http2(&self) -> bool {
        self.may_speak_http2.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.load(Ordering::SeqCst) >= CLOSING
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.state.load(Ordering::SeqCst) >= ABORTING
    }

    fn open_count(&self) -> usize {
        self.open.lock().connections.len()
    }

    /// Moves the clock on and nudges the connections that are overdue.
    fn tick(&self) {
        // Zero is not a time; the counter wraps round after 68 years.
        let now = self.now().wrapping_add(1).max(1);
        self.now.store(now, Ordering::Relaxed);
        let limits = self.limits();
        let open = self.open.lock();
        let is_due = |one: &Arc<Connection>| {
            one.is_overdue(now, &limits) || one.is_too_old(now, &limits) || one.is_answer_due(now)
        };
        open.connections.values().filter(|one| is_due(one)).for_each(|one| one.nudge());
    }

    fn stop(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        self.open.lock().connections.values().for_each(|connection| connection.nudge());
    }

    /// Waits until no connection is open. Looks after them meanwhile: a client that makes no progress
    /// must not hold up a shutdown longer than it could hold a connection.
    async fn all_closed(&self) {
        let mut ticks = time::interval(TICK);
        while self.open_count() > 0 {
            tokio::select! {
                () = self.closed.notified() => {}
                _ = ticks.tick() => {
                    self.tick();
                    // Again, for a connection that was first polled while the state changed.
                    self.open.lock().connections.values().for_each(|connection| connection.nudge());
                }
            }
        }
    }
}

/// A connection's place on the listener's list, given up however its task ends.
struct Registered {
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    id: u64,
    counted: Option<Arc<Connections>>,
}

impl Registered {
    fn new(
        listener: Arc<Listener>,
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        counted: Option<Arc<Connections>>,
    ) -> Self {
        let id = {
            let mut open = listener.open.lock();
            open.next_id += 1;
            let id = open.next_id;
            open.connections.insert(id, connection);
            id
        };
        shared.metrics.connections.inc();
        if let Some(counted) = &counted {
            counted.opened();
        }
        Self { listener, shared, id, counted }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Bound first: dropping the last reference inside the statement would do so under the lock.
        let gone = self.listener.open.lock().connections.remove(&self.id);
        drop(gone);
        self.shared.metrics.connections.dec();
        if let Some(counted) = &self.counted {
            counted.closed();
        }
        self.listener.closed.notify_one();
    }
}
