//! What every store in one process has: the published state, and the rule a commit must pass.

use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_types::{Changes, Key, State};
use tokio::sync::watch;

/// The state everybody reads, and the number everybody waits on.
#[derive(Debug)]
pub(crate) struct Published {
    state: ArcSwap<State>,
    revision: watch::Sender<u64>,
}

impl Published {
    pub(crate) fn new(state: State) -> Self {
        Self { revision: watch::Sender::new(state.revision), state: ArcSwap::from_pointee(state) }
    }

    pub(crate) fn snapshot(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Makes `state` the one that is read, then wakes those who wait. Only the one writer calls this.
    pub(crate) fn publish(&self, state: Arc<State>) {
        let revision = state.revision;
        self.state.store(state);
        self.revision.send_replace(revision);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

/// Adds one commit to `current`, as its next revision, unless something it touches has changed since
/// `base`. Empty changes are checked and add nothing.
pub(crate) fn admit(current: &mut State, base: &State, changes: &Changes) -> Result<(), Key> {
    if let Some(key) = changes.conflict(base, current) {
        return Err(key);
    }
    if changes.is_empty() {
        return Ok(());
    }
    current.revision += 1;
    for change in &changes.changes {
        current.apply(change, current.revision);
    }
    Ok(())
}
