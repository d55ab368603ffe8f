//! A store that forgets: for tests, and for trying things out.

use std::sync::Arc;

use coracle_types::{Changes, State};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::{Published, admit};
use crate::{BoxFuture, CommitError, Store};

/// A store in memory only. A commit is "durable" at once.
#[derive(Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    published: Published,
    writer: Mutex<()>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_state(State::default())
    }

    /// A store that begins with `state`.
    #[must_use]
    pub fn with_state(state: State) -> Self {
        Self { inner: Arc::new(Inner { published: Published::new(state), writer: Mutex::new(()) }) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Arc<State> {
        self.inner.published.snapshot()
    }

    fn commit(
        &self,
        base: Arc<State>,
        changes: Changes,
    ) -> BoxFuture<'static, Result<Arc<State>, CommitError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let _writer = inner.writer.lock();
            let current = inner.published.snapshot();
            let mut next = State::clone(&current);
            admit(&mut next, &base, &changes).map_err(CommitError::Conflict)?;
            if next.revision == current.revision {
                return Ok(current);
            }
            let next = Arc::new(next);
            inner.published.publish(Arc::clone(&next));
            Ok(next)
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.published.watch()
    }
}
