//! Whether the task is to end.
//!
//! WASI has no signals, so Coracle says it in an interface of its own. A command that asks for it is told when its task
//! is stopped, and has its container's `stopTimeout` (30 s) to end by itself; one that never asks ends at once, with exit
//! code 143.
//!
//! HTTP components get no new requests then, and have as long to finish those they have begun. A response that has no end of
//! its own, such as a stream of events, ends when its handler asks here; one whose handler does not is cut off.

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
