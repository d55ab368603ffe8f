//! The loop that plans.

use std::sync::Arc;
use std::time::Duration;

use coracle_scheduler::{PlanRng, Planner, contain};
use coracle_store::{CommitError, Store};
use coracle_types::Timestamp;
use tokio::sync::watch;

use crate::stop::stopped;

/// The longest sleep. The clock that plans go by may jump while this loop sleeps by another one.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long to wait after something that should not happen, before it is tried again.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// Plans once and commits: what an earlier process left is then what it is. Whoever serves answers should
/// do this before, or tasks that died with that process are shown as running.
pub async fn run_once(store: &dyn Store, clock: &(impl Fn() -> Timestamp + Sync), seed: u64) {
    pass(store, clock, &mut Planner::new(PlanRng::new(seed))).await;
}

/// Plans, checks and commits, whenever the store has changed or the plan before asked to be woken, until
/// `shutdown` is true or its sender is gone.
///
/// `seed` is where new ids come from: another one for each process, or ids repeat. A node should have
/// registered before this starts, or services are told at first that there are no nodes.
pub async fn run(
    store: Arc<dyn Store>,
    clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    seed: u64,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut planner = Planner::new(PlanRng::new(seed));
    let mut changed = store.watch();
    while !*shutdown.borrow() {
        // Before the snapshot: what is committed after it must wake this loop.
        changed.borrow_and_update();
        let sleep = match pass(&*store, &clock, &mut planner).await {
            Next::Again => continue,
            Next::Sleep(sleep) => sleep,
            Next::Pause => {
                // Not woken by every commit of others: what is wrong would be planned again each time.
                tokio::select! {
                    () = stopped(&mut shutdown) => return,
                    () = tokio::time::sleep(AFTER_TROUBLE) => continue,
                }
            }
            Next::End => return,
        };
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            alive = changed.changed() => if alive.is_err() { return },
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

enum Next {
    /// Something was committed, or somebody was faster.
    Again,
    /// Nothing is to be done until the state changes, or this much time has passed.
    Sleep(Duration),
    /// Something went wrong that will go wrong again right away.
    Pause,
    /// The store is closed.
    End,
}

/// One pass: a snapshot, a plan, one attempt to commit it.
async fn pass(store: &dyn Store, clock: &(impl Fn() -> Timestamp + Sync), planner: &mut Planner) -> Next {
    let state = store.snapshot();
    let plan = planner.plan(&state, clock());
    if plan.changes.is_empty() {
        let until = plan.next_wake.map_or(LONGEST_SLEEP, |at| at.since(clock()));
        // At least a moment, so that a wake that is due right now does not spin.
        return Next::Sleep(until.clamp(Duration::from_millis(1), LONGEST_SLEEP));
    }
    let (plan, violations) = contain(&state, plan);
    if !violations.is_empty() {
        tracing::error!(
            ?violations,
            revision = state.revision,
            "a part of the plan is unsafe and is not used; this is a bug in the scheduler"
        );
    }
    if plan.changes.is_empty() {
        return Next::Pause;
    }
    match store.commit(state, plan.changes).await {
        Ok(_) => {
            for reason in &plan.reasons {
                tracing::info!("{reason}");
            }
            if violations.is_empty() { Next::Again } else { Next::Pause }
        }
        Err(CommitError::Conflict(key)) => {
            tracing::debug!(?key, "somebody was faster; planning again");
            Next::Again
        }
        Err(CommitError::Closed) => Next::End,
        Err(error @ CommitError::Io(_)) => {
            tracing::error!(%error, "a plan could not be committed");
            Next::Pause
        }
    }
}
