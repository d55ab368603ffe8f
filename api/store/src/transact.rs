//! Read, compute, commit, and again if somebody was faster.

use std::sync::Arc;

use coracle_types::{Changes, State};
use tokio::sync::Mutex;

use crate::{CommitError, Store};

/// How often a transaction is computed before its last conflict is reported. Each conflict means that
/// another writer got through, and after a few of them writers take turns, so nobody comes near.
const MAX_TRIES: u32 = 100;

/// After this many conflicts a writer waits for its turn.
const TRIES_OUT_OF_TURN: u32 = 3;

/// Whose turn it is. Of many writers that want the same record, a commit lets one through, and chance
/// would let some wait for ever; this lock is fair. One for all stores of the process, of which there is
/// one outside tests.
static TURN: Mutex<()> = Mutex::const_new(());

/// Why a transaction was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactError<E> {
    /// The computation itself said no.
    #[error(transparent)]
    Refused(E),
    /// The store said no; a conflict only after many tries.
    #[error(transparent)]
    Store(CommitError),
}

/// Computes changes from the newest state with `f` and commits them; when they conflict with somebody
/// else's, computes again from the state that has those. Empty changes commit nothing, and answer with
/// the state they were computed from.
///
/// # Errors
/// What `f` refuses, at once; what the store refuses, with conflicts tried 100 times.
pub async fn transact<T, E>(
    store: &dyn Store,
    mut f: impl FnMut(&State) -> Result<(Changes, T), E>,
) -> Result<(Arc<State>, T), TransactError<E>> {
    let mut turn = None;
    let mut tries = 0;
    loop {
        let base = store.snapshot();
        let (changes, answer) = f(&base).map_err(TransactError::Refused)?;
        if changes.is_empty() {
            return Ok((base, answer));
        }
        tries += 1;
        match store.commit(base, changes).await {
            Ok(state) => return Ok((state, answer)),
            Err(CommitError::Conflict(_)) if tries < MAX_TRIES => {}
            Err(error) => return Err(TransactError::Store(error)),
        }
        if tries >= TRIES_OUT_OF_TURN && turn.is_none() {
            turn = Some(TURN.lock().await);
        }
    }
}
