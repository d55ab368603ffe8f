//! Waiting a moment for what was begun to get somewhere: components start and stop in milliseconds, so
//! the answer can often say how it went.

use std::sync::Arc;

use coracle_types::{LastStatus, State, Task, TaskKey};

use crate::api::Api;

/// Waits until `settled` holds for every one of these tasks, or the time for that is over; answers with
/// the newest state. A task that is gone counts as settled.
pub(super) async fn settle(
    api: &Api,
    mut state: Arc<State>,
    tasks: &[TaskKey],
    settled: impl Fn(&Task) -> bool,
) -> Arc<State> {
    if api.settle.is_zero() {
        return state;
    }
    let deadline = tokio::time::Instant::now() + api.settle;
    let mut changed = api.store.watch();
    loop {
        // Seen before read: what is committed after the snapshot wakes us.
        changed.borrow_and_update();
        let newest = api.store.snapshot();
        if newest.revision >= state.revision {
            state = newest;
        }
        let all = tasks.iter().all(|key| state.tasks.get(key).is_none_or(|found| settled(&found.value)));
        if all || !matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
            return state;
        }
    }
}

/// Whether a task runs, or will not.
pub(super) fn is_started(task: &Task) -> bool {
    task.last_status >= LastStatus::Running
}

/// Whether a task is over.
pub(super) fn is_stopped(task: &Task) -> bool {
    task.last_status == LastStatus::Stopped
}
