//! Threads with runtimes of their own, for connections whose requests all go to other processes.
//!
//! Such a connection only ever waits for sockets. Served by one thread for all its life, it finds what it touches
//! in one processor's caches and wakes no other, which is a fifth of the time a forwarded request costs. Programs in
//! this process are not called here, as no other thread would take over what waits behind them: connections to them
//! are served on the runtime that serves the router, and where a connection was here already, they are called there.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::router::Shared;
use crate::target::{CallError, RequestBody, ResponseBody, Slot};

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// Which worker this thread is, counted from 1; 0 for every other thread.
pub(crate) fn place() -> usize {
    PLACE.get()
}

/// The runtimes of the workers.
pub(crate) struct Workers {
    runtimes: Vec<Handle>,
    turn: AtomicUsize,
    /// The runtime of everything else.
    elsewhere: Handle,
}

/// Their threads, which stop when this is dropped, with the connections they still have.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    _stop: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts the workers of a router, unless it has some. Needs a runtime, on which everything else is called.
    pub(crate) fn start(shared: &Arc<Shared>) -> Option<Self> {
        if shared.workers.load().is_some() {
            return None;
        }
        let started = (1..=shared.config.worker_threads).map(start).collect::<io::Result<Vec<_>>>();
        let (runtimes, stop) = match started {
            Ok(started) => started.into_iter().unzip(),
            Err(error) => {
                tracing::warn!(%error, "could not start worker threads; connections are served without");
                return None;
            }
        };
        let workers = Workers { runtimes, turn: AtomicUsize::new(0), elsewhere: Handle::current() };
        shared.workers.store(Some(Arc::new(workers)));
        Some(Self { shared: Arc::clone(shared), _stop: stop })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.workers.store(None);
    }
}

fn start(place: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new().name(format!("router-{place}")).spawn(move || {
        PLACE.set(place);
        // Nothing is ever sent: the other end is dropped.
        let _ = runtime.block_on(stopped);
    })?;
    Ok((handle, stop))
}

impl Workers {
    /// The runtime for the next connection: each in turn.
    pub(crate) fn next(&self) -> Option<&Handle> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.runtimes.get(turn.checked_rem(self.runtimes.len())?)
    }

    /// Calls a target on the runtime of everything else. Only what is left of the answer is then read here.
    /// Dropped, it gives the call up.
    pub(crate) fn call_elsewhere(&self, slot: &Arc<Slot>, request: Request<RequestBody>) -> Call {
        let slot = Arc::clone(slot);
        let mut task = JoinSet::new();
        task.spawn_on(async move { slot.call(request).await }, &self.elsewhere);
        async move {
            match task.join_next().await {
                Some(Ok(called)) => called,
                _ => Err(CallError::Failed { reason: "it failed before it had answered".to_owned() }),
            }
        }
        .boxed()
    }
}

/// A call of a target.
pub(crate) type Call = BoxFuture<'static, Result<Response<ResponseBody>, CallError>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RouterConfig;
    use crate::router::Router;
    use crate::tests::harness::{empty, slot_with};

    fn router(worker_threads: usize) -> Arc<Shared> {
        let config = RouterConfig { worker_threads, ..RouterConfig::default() };
        Router::new(config, &prometheus::Registry::new()).unwrap().shared
    }

    #[tokio::test]
    async fn connections_are_spread_and_calls_go_elsewhere() {
        let shared = router(2);
        let _threads = Threads::start(&shared).unwrap();
        assert!(Threads::start(&shared).is_none(), "they are there");
        let workers = shared.workers.load_full().unwrap();
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(workers.next().unwrap().spawn(async { place() }).await.unwrap());
        }
        assert_eq!((places.as_slice(), place()), (&[1, 2, 1, 2][..], 0));

        let here = slot_with("here", |_| async {
            let mut response = Response::new(empty());
            response.headers_mut().insert("x-place", place().into());
            Ok(response)
        });
        let worker = workers.next().unwrap().clone();
        let called = worker.spawn(async move { workers.call_elsewhere(&here, Request::new(empty())).await });
        assert_eq!(called.await.unwrap().unwrap().headers()["x-place"], "0");
    }

    #[tokio::test]
    async fn they_stop_with_what_they_have() {
        let shared = router(1);
        let threads = Threads::start(&shared);
        let task =
            shared.workers.load().as_ref().unwrap().next().unwrap().spawn(std::future::pending::<()>());
        drop(threads);
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(shared.workers.load().is_none());
        assert!(Threads::start(&shared).is_some(), "they can be had again");
    }

    #[tokio::test]
    async fn there_may_be_none() {
        let shared = router(0);
        let _threads = Threads::start(&shared);
        assert!(shared.workers.load_full().unwrap().next().is_none());
    }
}
