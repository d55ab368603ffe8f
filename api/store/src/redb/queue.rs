//! The commits that wait for the writer.

use std::sync::Arc;

use coracle_types::{Changes, State};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::format::Write;
use crate::CommitError;

/// At most this many commits wait or are being written; further callers wait their turn. It bounds the
/// memory of a transaction, and one fsync shared by this many is as good as free.
const MAX_COMMITS: usize = 1024;

/// One commit, with what it writes already encoded.
pub(crate) struct Request {
    pub(crate) base: Arc<State>,
    pub(crate) changes: Changes,
    pub(crate) writes: Vec<Write>,
    pub(crate) answer: oneshot::Sender<Result<Arc<State>, CommitError>>,
    /// Its place among [`MAX_COMMITS`], given back when it has been answered.
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Request {
    /// Answers that the disk refused.
    pub(crate) fn refuse(self, error: &str) {
        // Nobody waiting any more is fine.
        let _ = self.answer.send(Err(CommitError::Io(error.to_owned())));
    }
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    closed: bool,
}

pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_COMMITS)),
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits for a place.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, CommitError> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| CommitError::Closed)
    }

    pub(crate) fn push(&self, request: Request) -> Result<(), CommitError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(CommitError::Closed);
        }
        waiting.requests.push(request);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something is there and takes all of it; None once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<Request>> {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.requests.is_empty() {
                return Some(std::mem::take(&mut waiting.requests));
            }
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Refuses everything from now on; what is in it is still taken.
    pub(crate) fn close(&self) {
        self.places.close();
        self.waiting.lock().closed = true;
        self.changed.notify_one();
    }
}
