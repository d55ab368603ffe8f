//! The ports of listeners: opened and closed as listeners come and go.
//!
//! One task owns them all. It compares what should listen with what does, each time a table is published,
//! and tells how each port is doing. A port that can't be opened is tried again.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use crate::model::ListenerState;
use crate::router::Router;
use crate::serve::Drained;

/// First and longest pause before a port is tried again. The first is short, as the port may only be
/// waiting for the listener that had it before.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// How long a reservation waits for a port that is taken.
const RESERVE_PATIENCE: Duration = Duration::from_millis(500);

/// Opens and closes ports until `shutdown` is done, then sees all connections out.
pub(crate) async fn run(router: Router, shutdown: impl Future<Output = ()>) -> Drained {
    let mut versions = router.shared.versions();
    let mut ports = Ports { router, open: BTreeMap::new(), failed: BTreeMap::new(), serving: JoinSet::new() };
    let mut shutdown = pin!(shutdown);
    loop {
        ports.follow().await;
        let retry_at = ports.failed.values().map(|failed| failed.retry_at).min();
        let retry = async {
            match retry_at {
                Some(at) => time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut shutdown => break,
            changed = versions.changed() => if changed.is_err() { break },
            () = retry => {}
            Some(_) = ports.serving.join_next() => {}
        }
    }
    ports.close().await
}

/// Opens a port. Needs a runtime.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    /// Connections that may wait to be accepted; the kernel may allow fewer.
    const BACKLOG: u32 = 1024;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port can be had again at once although connections of the last listener linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Router {
    /// Opens a port for a listener that is published later with just this address, so that it is known
    /// beforehand that it can be had. Connections wait until then. Port 0 picks a free one. If the port
    /// is taken it is tried again for half a second, as a listener that was deleted just now may have it
    /// still.
    ///
    /// # Errors
    ///
    /// The port is taken, or not allowed.
    pub async fn reserve(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + RESERVE_PATIENCE;
        let listener = loop {
            match listen(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    time::sleep(RETRY.0).await;
                }
                listened => break listened?,
            }
        };
        let address = listener.local_addr()?;
        self.shared.reserved.lock().insert(address, listener);
        Ok(address)
    }

    /// Gives up a port that was [reserved](Self::reserve) and that no listener has taken.
    pub fn release(&self, address: SocketAddr) {
        self.shared.reserved.lock().remove(&address);
    }
}

struct Ports {
    router: Router,
    open: BTreeMap<Arc<str>, Open>,
    failed: BTreeMap<Arc<str>, Failed>,
    /// The accept loops, and those that see out the connections of closed ports.
    serving: JoinSet<Drained>,
}

struct Open {
    /// The address that was asked for, and the one it became.
    asked: SocketAddr,
    address: SocketAddr,
    /// Dropped to close the port.
    _stop: oneshot::Sender<()>,
}

struct Failed {
    asked: SocketAddr,
    why: String,
    pause: Duration,
    retry_at: Instant,
}

impl Ports {
    /// Closes what should no longer listen, and opens what should.
    async fn follow(&mut self) {
        let wanted = self.router.shared.routes.load().listeners.addresses();
        self.open.retain(|id, open| wanted.get(id) == Some(&open.asked));
        self.failed.retain(|id, failed| wanted.get(id) == Some(&failed.asked));
        for (id, asked) in wanted {
            let is_due = self.failed.get(&id).is_none_or(|failed| failed.retry_at <= Instant::now());
            if self.open.contains_key(&id) || !is_due {
                continue;
            }
            match self.open(&id, asked).await {
                Ok(open) => {
                    self.failed.remove(&id);
                    self.open.insert(id, open);
                }
                Err(error) => self.fail(id, asked, &error),
            }
        }
        self.tell();
    }

    async fn open(&mut self, id: &Arc<str>, asked: SocketAddr) -> io::Result<Open> {
        let reserved = self.router.shared.reserved.lock().remove(&asked);
        let listener = match reserved {
            Some(listener) => listener,
            None => listen(asked)?,
        };
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = self.router.clone();
        let id = Some(Arc::clone(id));
        self.serving.spawn(async move {
            let stopped = async {
                // Nothing is ever sent: the other end is dropped.
                let _ = stopped.await;
            };
            router.serve_from(listener, address.port(), id, stopped).await
        });
        Ok(Open { asked, address, _stop: stop })
    }

    fn fail(&mut self, id: Arc<str>, asked: SocketAddr, error: &io::Error) {
        let why = format!("could not listen on {asked}: {error}");
        let before = self.failed.get(&id);
        if before.is_none() {
            tracing::warn!(listener = &*id, "{why}; it is tried again");
        }
        let pause = before.map_or(RETRY.0, |failed| (failed.pause * 2).min(RETRY.1));
        self.failed.insert(id, Failed { asked, why, pause, retry_at: Instant::now() + pause });
    }

    fn tell(&self) {
        let listening = self.open.iter().map(|(id, open)| (id, ListenerState::Listening(open.address)));
        let failed = self.failed.iter().map(|(id, failed)| (id, ListenerState::Failed(failed.why.clone())));
        let states: BTreeMap<String, ListenerState> =
            listening.chain(failed).map(|(id, state)| (id.to_string(), state)).collect();
        self.router.shared.listener_states.send_if_modified(|told| {
            let is_new = **told != states;
            if is_new {
                *told = Arc::new(states);
            }
            is_new
        });
    }

    /// Closes all ports and waits for their connections, which have the router's drain time-out.
    async fn close(mut self) -> Drained {
        self.open.clear();
        let mut drained = Drained { aborted: 0 };
        while let Some(ended) = self.serving.join_next().await {
            match ended {
                Ok(ended) => drained.aborted += ended.aborted,
                Err(error) => tracing::error!(%error, "a listener's task failed"),
            }
        }
        drained
    }
}
