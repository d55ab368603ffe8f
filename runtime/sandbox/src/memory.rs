//! Memory budgets: bytes charged up a chain of limits, and the wasmtime limiter that charges them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

/// A number of bytes that everything charged to it must fit into. Clones share the budget.
///
/// Budgets form a chain: what is charged to a [`child`](MemoryBudget::child) is charged to its parents too, and
/// fits only if it fits all of them. A task has one, its containers have children of it.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Node>);

struct Node {
    limit: u64,
    current: AtomicU64,
    peak: AtomicU64,
    /// How many wait for bytes to be released, so that nobody is notified for nothing.
    waiting: AtomicU32,
    released: Notify,
    parent: Option<MemoryBudget>,
}

impl MemoryBudget {
    /// A budget of its own. `u64::MAX` means no limit.
    pub fn new(limit_bytes: u64) -> Self {
        Self::with_parent(limit_bytes, None)
    }

    /// A budget within this one. `None` means no limit but the parents'.
    pub fn child(&self, limit_bytes: Option<u64>) -> Self {
        Self::with_parent(limit_bytes.unwrap_or(u64::MAX), Some(self.clone()))
    }

    fn with_parent(limit: u64, parent: Option<MemoryBudget>) -> Self {
        MemoryBudget(Arc::new(Node {
            limit,
            current: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            released: Notify::new(),
            parent,
        }))
    }

    /// Bytes charged now.
    pub fn current(&self) -> u64 {
        self.0.current.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever charged at once.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// The limit in bytes; `u64::MAX` means none.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// This budget and its parents, innermost first.
    fn chain(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(&*self.0), |node| node.parent.as_ref().map(|parent| &*parent.0))
    }

    /// The tightest limit of the chain.
    pub(crate) fn effective_limit(&self) -> u64 {
        self.chain().map(|node| node.limit).min().unwrap_or(u64::MAX)
    }

    /// Charges all of `bytes` to all of the chain, or nothing.
    pub(crate) fn try_charge(&self, bytes: u64) -> bool {
        for (depth, node) in self.chain().enumerate() {
            if !node.try_add(bytes) {
                for node in self.chain().take(depth) {
                    node.remove(bytes);
                }
                return false;
            }
        }
        true
    }

    /// Bytes that may still be charged at the moment.
    pub(crate) fn available(&self) -> u64 {
        let left = |node: &Node| node.limit.saturating_sub(node.current.load(Ordering::Relaxed));
        self.chain().map(left).min().unwrap_or(u64::MAX)
    }

    /// Charges what the embedder holds on behalf of a guest, such as lines of its log that are not written yet, for
    /// as long as the answer lives. `None` if it does not fit.
    pub fn hold(&self, bytes: u64) -> Option<MemoryHold> {
        self.try_charge(bytes).then(|| MemoryHold { budget: self.clone(), bytes })
    }

    /// Gives back what [`try_charge`](Self::try_charge) took.
    pub(crate) fn release(&self, bytes: u64) {
        if bytes > 0 {
            for node in self.chain() {
                node.remove(bytes);
            }
        }
    }

    /// Charges `bytes` as soon as they fit. Never resolves if they never do: the caller has a deadline.
    pub(crate) async fn charge(&self, bytes: u64) {
        loop {
            if self.try_charge(bytes) {
                return;
            }
            // Wait on the outermost budget: whatever is released anywhere below is released there too.
            let Some(outermost) = self.chain().last() else { return };
            let _waiting = Waiting::new(&outermost.waiting);
            let released = outermost.released.notified();
            // Between the first try and the registration something may have been released.
            if self.try_charge(bytes) {
                return;
            }
            released.await;
        }
    }
}

/// A part of a [`MemoryBudget`] that is in use. Dropping it gives the bytes back.
pub struct MemoryHold {
    budget: MemoryBudget,
    bytes: u64,
}

impl MemoryHold {
    /// Charges more, to be given back together with the rest. Answers whether it fits.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.budget.try_charge(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// What an instance costs the host beside its memories and tables, in bytes: the store, the pages of its stack that
/// were touched, room for its first resources and header fields. A live instance of hello holds about that much
/// resident, the touched pages of its memory included (bench `density`).
pub(crate) const INSTANCE_MEMORY: u64 = 64 << 10;

/// The memory budget refused what the host was to hold for a guest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the memory limit does not allow the host to hold more for this guest")]
pub(crate) struct MemoryRefused;

impl Node {
    fn try_add(&self, bytes: u64) -> bool {
        let added = self.current.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |current| {
            current.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        match added {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    fn remove(&self, bytes: u64) {
        // Sequentially consistent, as are a waiter's registration and its second look: either we see the waiter,
        // or it sees these bytes.
        self.current.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }
}

/// Counts one waiter for as long as it lives.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Charges the memories and tables of one instance, and gives everything back when it is dropped.
pub(crate) struct Limiter {
    budget: MemoryBudget,
    /// What is charged and will be released on drop, credit included.
    charged: u64,
    /// Charged before the instance was created, not yet handed to a memory.
    credit: u64,
    /// The size of the last permitted growth, to be undone if it fails after all.
    last: u64,
    /// Bytes it may hold whatever the budget has left.
    cap: Option<u64>,
    /// Whether the last growth that was asked for was refused.
    denied: bool,
    /// The most this instance ever wanted to hold.
    wanted: u64,
}

/// What one table element costs the host.
const TABLE_ELEMENT: u64 = size_of::<usize>() as u64;

impl Limiter {
    /// `credit` bytes have been charged to `budget` already, for this limiter to hand out and to release.
    pub(crate) fn new(budget: MemoryBudget, credit: u64) -> Self {
        Limiter { budget, charged: credit, credit, last: 0, cap: None, denied: false, wanted: 0 }
    }

    /// Limit and peak of what refused the last growth, if it was refused: the budget, or the instance's own cap.
    pub(crate) fn out_of_memory(&self) -> Option<(u64, u64)> {
        self.denied.then(|| self.limit_and_peak())
    }

    pub(crate) fn limit_and_peak(&self) -> (u64, u64) {
        let limit = self.budget.effective_limit();
        match self.cap {
            Some(cap) if cap < limit => (cap, self.held()),
            _ => (limit, self.budget.peak()),
        }
    }

    /// From now on the instance may hold `cap` bytes at most, and the budget's limits hold as well.
    pub(crate) fn set_cap(&mut self, cap: Option<u64>) {
        self.cap = cap;
        self.denied = false;
    }

    /// Bytes held by this instance's memories and tables.
    pub(crate) fn held(&self) -> u64 {
        self.charged - self.credit
    }

    /// The most this instance ever wanted to hold, whether it got it or not.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Gives back what was reserved for the instantiation and not needed.
    pub(crate) fn release_credit(&mut self) {
        self.budget.release(self.credit);
        self.charged -= self.credit;
        self.credit = 0;
    }

    /// Charges what the host holds for the instance, until the instance ends.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        let fits = self.grow(bytes);
        // It is not undone by a memory that can't grow.
        self.last = 0;
        fits
    }

    fn grow(&mut self, bytes: u64) -> bool {
        self.wanted = self.wanted.max(self.held().saturating_add(bytes));
        if self.cap.is_some_and(|cap| self.held().saturating_add(bytes) > cap) {
            self.denied = true;
            return false;
        }
        let from_credit = bytes.min(self.credit);
        let rest = bytes - from_credit;
        if rest > 0 && !self.budget.try_charge(rest) {
            self.denied = true;
            return false;
        }
        self.credit -= from_credit;
        self.charged += rest;
        self.last = bytes;
        self.denied = false;
        true
    }

    fn undo(&mut self) {
        self.budget.release(self.last);
        self.charged -= self.last;
        self.last = 0;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.release(self.charged);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum a memory can't grow whatever we say; nothing is charged for the attempt.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    // Host structures per store; generous for real components (Python's has about 60 instances).
    fn instances(&self) -> usize {
        1000
    }

    fn tables(&self) -> usize {
        1000
    }

    fn memories(&self) -> usize {
        100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_charged_to_its_parent() {
        let task = MemoryBudget::new(100);
        let container = task.child(Some(60));
        assert!(container.try_charge(50));
        assert!(!container.try_charge(20), "over its own limit");
        assert!(task.try_charge(50));
        assert!(!container.try_charge(10), "over the parent's limit");
        assert_eq!((container.current(), task.current()), (50, 100));
        container.release(50);
        task.release(50);
        assert_eq!((container.current(), task.current(), task.peak()), (0, 0, 100));
    }

    #[test]
    fn a_limiter_gives_everything_back() {
        let budget = MemoryBudget::new(1000);
        assert!(budget.try_charge(300));
        let mut limiter = Limiter::new(budget.clone(), 300);
        assert!(limiter.memory_growing(0, 200, None).unwrap());
        assert_eq!(budget.current(), 300, "paid from the credit");
        assert!(limiter.memory_growing(200, 900, None).unwrap());
        assert_eq!(budget.current(), 900);
        limiter.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(budget.current(), 200, "a growth that failed costs nothing");
        assert!(!limiter.memory_growing(200, 2000, None).unwrap());
        assert_eq!(limiter.out_of_memory(), Some((1000, 900)));
        drop(limiter);
        assert_eq!(budget.current(), 0);
    }

    #[test]
    fn a_memory_beyond_its_own_maximum_is_not_our_doing() {
        let mut limiter = Limiter::new(MemoryBudget::new(1000), 0);
        assert!(!limiter.memory_growing(0, 500, Some(400)).unwrap());
        assert_eq!(limiter.out_of_memory(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_gets_what_is_released() {
        let budget = MemoryBudget::new(100);
        assert!(budget.try_charge(100));
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.charge(40).await }
        });
        while budget.0.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        budget.release(100);
        waiter.await.unwrap();
        assert_eq!(budget.current(), 40);
    }
}
