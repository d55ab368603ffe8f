//! Whether the task is to end.
//!
//! WASI has no signals, so Coracle says it in an interface of its own. A command that asks for it is told when its task
//! is stopped, and has its container's `stopTimeout` (30 s) to end by itself; one that never asks ends at once, with exit
//! code 143. HTTP components finish their requests either way.

use crate::host;

/// Whether the task has been told to stop.
#[must_use]
pub fn requested() -> bool {
    host::stop_requested()
}

/// Resolves when it is told.
pub async fn wait() {
    host::stop().await;
}
