//! The loop that plans.

use std::sync::Arc;
use std::time::Duration;

use coracle_scheduler::{Plan, PlanRng, check_plan, plan};
use coracle_store::{CommitError, Store};
use coracle_types::{Key, Timestamp};
use tokio::sync::watch;

use crate::stop::stopped;
use coracle_store::placing;

/// The longest sleep. The clock that plans go by may jump while this loop sleeps by another one.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long to wait after something that should not happen, before it is tried again.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

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
    let mut rng = PlanRng::new(seed);
    let mut changed = store.watch();
    while !*shutdown.borrow() {
        // Before the snapshot: what is committed after it must wake this loop.
        changed.borrow_and_update();
        let sleep = match pass(&*store, &clock, &mut rng).await {
            Next::Again => continue,
            Next::Sleep(sleep) => sleep,
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
    /// The store is closed.
    End,
}

/// One pass: a snapshot, a plan, one attempt to commit it.
async fn pass(store: &dyn Store, clock: &(impl Fn() -> Timestamp + Sync), rng: &mut PlanRng) -> Next {
    let mut state = store.snapshot();
    let mut decided = plan(&state, clock(), rng);
    let turn = if places(&decided) { Some(placing::alone().await) } else { None };
    if turn.is_some() && store.snapshot().revision != state.revision {
        // Whoever had a turn before may have taken the room.
        state = store.snapshot();
        decided = plan(&state, clock(), rng);
    }
    let plan = decided;
    if plan.changes.is_empty() {
        let until = plan.next_wake.map_or(LONGEST_SLEEP, |at| at.since(clock()));
        // At least a moment, so that a wake that is due right now does not spin.
        return Next::Sleep(until.clamp(Duration::from_millis(1), LONGEST_SLEEP));
    }
    let violations = check_plan(&state, &plan);
    if !violations.is_empty() {
        tracing::error!(
            ?violations,
            revision = state.revision,
            "the scheduler made an unsafe plan; it is not used"
        );
        return Next::Sleep(AFTER_TROUBLE);
    }
    match store.commit(state, plan.changes).await {
        Ok(_) => {
            for reason in &plan.reasons {
                tracing::info!("{reason}");
            }
            Next::Again
        }
        Err(CommitError::Conflict(key)) => {
            tracing::debug!(?key, "somebody was faster; planning again");
            Next::Again
        }
        Err(CommitError::Closed) => Next::End,
        Err(error @ CommitError::Io(_)) => {
            tracing::error!(%error, "a plan could not be committed");
            Next::Sleep(AFTER_TROUBLE)
        }
    }
}

/// Whether a plan gives away what is free on a node.
fn places(plan: &Plan) -> bool {
    plan.changes.guards.iter().any(|key| matches!(key, Key::Node(_)))
}
