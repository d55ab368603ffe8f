//! Control-plane state: snapshot, compare-and-swap, watch.
//!
//! A [`Store`] holds one [`State`] and lets many writers change it, each against the snapshot it read:
//! a commit is refused when a record it changes or relies on was changed in between, and the writer
//! computes again ([`transact()`] does that). Two implementations: [`MemoryStore`] for tests, and
//! [`RedbStore`], where a commit is on the disk before it is answered.
//!
//! What new records can't show by their revisions, such as two tasks for the last room of a node, is checked at the
//! commit, too ([`coracle_types::changes`]).
//!
//! The room does not know what the records mean, and it holds no leases yet: one process owns a store.

mod core;
mod memory;
mod redb;
mod transact;

use std::sync::Arc;

use coracle_types::{Changes, Key, State};

pub use crate::memory::MemoryStore;
pub use crate::redb::{OpenError, RedbStore};
pub use crate::transact::{TransactError, transact};

/// A future that can be sent between threads and boxed.
pub type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

/// Where the control plane's state lives.
pub trait Store: Send + Sync + 'static {
    /// The state as of the last commit. Cheap; never waits for a writer.
    fn snapshot(&self) -> Arc<State>;

    /// Makes `changes`, all or none, if everything they change or guard is still as it was in `base`,
    /// and answers with a state that includes them. They are durable when the future resolves.
    ///
    /// No changes make no revision. Nothing happens before the future is polled; if it is dropped
    /// after that, the changes may be made or not.
    ///
    /// # Errors
    /// [`CommitError`]; after any of them the changes are not in the state. After [`CommitError::Io`]
    /// nobody knows what is on the disk: the next commit that works shows it.
    fn commit(
        &self,
        base: Arc<State>,
        changes: Changes,
    ) -> BoxFuture<'static, Result<Arc<State>, CommitError>>;

    /// The last committed revision. It grows after the state that has it can be read by
    /// [`Store::snapshot`].
    fn watch(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Why changes were not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The record under this key was changed since the state they were computed from.
    #[error("{0:?} was changed by somebody else in between")]
    Conflict(Key),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The disk refused. It is tried again with the next commit.
    #[error("could not write the state: {0}")]
    Io(String),
}
