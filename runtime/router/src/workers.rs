//! Threads with runtimes of their own, which serve the connections of clients.
//!
//! Served by one thread for all its life, a connection finds what it touches in one processor's caches, and wakes no
//! other: that is a fifth of what a forwarded request costs, and of one that a component answers. The price is that
//! nobody takes over what waits behind a target that computes. Targets in this process must not do so for long; see
//! [`Target::call`](crate::Target::call).

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::router::Shared;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
    /// The runtime that this worker was started from.
    static HOME: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Which worker this thread is, counted from 1; 0 for every other thread.
pub(crate) fn place() -> usize {
    PLACE.get()
}

/// Spawns what looks after things now and then. Not on a worker: one that has no timer waits for less.
pub(crate) fn spawn_aside(task: impl Future<Output = ()> + Send + 'static) {
    match HOME.with_borrow(Option::clone) {
        Some(home) => home.spawn(task),
        None => tokio::spawn(task),
    };
}

/// The workers.
pub(crate) struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Connections it serves.
    connections: AtomicUsize,
}

/// Their threads, which stop when this is dropped, with the connections they still have.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    _stop: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts the workers of a router, unless it has some.
    pub(crate) fn start(shared: &Arc<Shared>) -> Option<Self> {
        if shared.workers.load().is_some() {
            return None;
        }
        let started = (1..=shared.config.worker_threads).map(start).collect::<io::Result<Vec<_>>>();
        let (workers, stop) = match started {
            Ok(started) => started.into_iter().unzip(),
            Err(error) => {
                tracing::warn!(%error, "could not start worker threads; connections are served without");
                return None;
            }
        };
        shared.workers.store(Some(Arc::new(Workers(workers))));
        Some(Self { shared: Arc::clone(shared), _stop: stop })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.workers.store(None);
    }
}

fn start(place: usize) -> io::Result<(Worker, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let home = Handle::current();
    std::thread::Builder::new().name(format!("router-{place}")).spawn(move || {
        PLACE.set(place);
        HOME.set(Some(home));
        // Nothing is ever sent: the other end is dropped.
        let _ = runtime.block_on(stopped);
    })?;
    Ok((Worker { runtime: handle, connections: AtomicUsize::new(0) }, stop))
}

impl Workers {
    /// A seat for another connection, at the worker that has the fewest.
    pub(crate) fn seat(self: Arc<Self>) -> Option<Seat> {
        let connections = |worker: &Worker| worker.connections.load(Ordering::Relaxed);
        let (place, worker) = self.0.iter().enumerate().min_by_key(|(_, worker)| connections(worker))?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Some(Seat { workers: self, place })
    }
}

/// A connection's seat at its worker.
pub(crate) struct Seat {
    workers: Arc<Workers>,
    place: usize,
}

impl Seat {
    fn worker(&self) -> &Worker {
        &self.workers.0[self.place]
    }

    /// Where the connection is to be served.
    pub(crate) fn runtime(&self) -> Handle {
        self.worker().runtime.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RouterConfig;
    use crate::router::Router;

    fn router(worker_threads: usize) -> Arc<Shared> {
        let config = RouterConfig { worker_threads, ..RouterConfig::default() };
        Router::new(config, &prometheus::Registry::new()).unwrap().shared
    }

    fn seat(shared: &Shared) -> Option<Seat> {
        shared.workers.load_full()?.seat()
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_worker_that_has_the_fewest() {
        let shared = router(2);
        let _threads = Threads::start(&shared).unwrap();
        assert!(Threads::start(&shared).is_none(), "they are there");
        let mut seats: Vec<_> = (0..4).map(|_| seat(&shared).unwrap()).collect();
        let mut places = Vec::new();
        for seat in &seats {
            places.push(seat.runtime().spawn(async { place() }).await.unwrap());
        }
        assert_eq!((places.as_slice(), place()), (&[1, 2, 1, 2][..], 0));
        // Both that are left are the first one's.
        seats.remove(3);
        seats.remove(1);
        let next = [seat(&shared).unwrap(), seat(&shared).unwrap()];
        assert_eq!(next.map(|seat| seat.place), [1, 1]);
    }

    #[tokio::test]
    async fn they_stop_with_what_they_have() {
        let shared = router(1);
        let threads = Threads::start(&shared);
        let task = seat(&shared).unwrap().runtime().spawn(std::future::pending::<()>());
        drop(threads);
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(seat(&shared).is_none());
        assert!(Threads::start(&shared).is_some(), "they can be had again");
    }

    #[tokio::test]
    async fn there_may_be_none() {
        let shared = router(0);
        let _threads = Threads::start(&shared);
        assert!(seat(&shared).is_none());
    }
}
