//! Counts of what is open at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// So many may be open, and no more. Clones count together.
#[derive(Clone)]
pub(crate) struct Quota {
    limit: u32,
    used: Arc<AtomicU32>,
}

/// One of those that are open; gives its place back when dropped.
pub(crate) struct Permit(Arc<AtomicU32>);

impl Quota {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// None if all are taken.
    pub(crate) fn take(&self) -> Option<Permit> {
        let more = |used: u32| (used < self.limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Permit(Arc::clone(&self.used)))
    }

    /// Whether one is left.
    pub(crate) fn has_room(&self) -> bool {
        self.used() < self.limit
    }

    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
