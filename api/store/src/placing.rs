//! Who places tasks, and what must not happen meanwhile.
//!
//! RunTask and the planning loop both give away what a snapshot shows as free, and a commit is refused only
//! when records it names have changed: two new tasks for the same room are two different records, and both
//! would get in. Naming the node's record in each placement would refuse one of them, but also make every
//! RunTask wait for every other one's fsync, and let a stream of them keep the loop from ever planning.
//!
//! So placing takes turns instead. Requests, which see each other, place side by side ([`shared`]); the loop
//! places while no request does ([`alone`]). Whoever holds a turn has it from its snapshot to the end of its
//! commit. The lock is fair, so neither keeps the other waiting for longer than what is already under way.
//! DeleteCluster has the same problem with what is being put into the cluster, and the same solution.
//!
//! The turns are those of one process, which is where everything that places runs today.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One for all stores of the process, of which there is one outside tests.
static TURNS: RwLock<()> = RwLock::const_new(());

/// A turn together with other requests.
#[must_use]
pub struct Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>);

/// A turn with nobody else.
#[must_use]
pub struct Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>);

/// Waits for a turn that requests have together: to place tasks that see each other, or to put something
/// into a cluster.
pub async fn shared() -> Shared {
    Shared(TURNS.read().await)
}

/// Waits until nobody else has a turn: to place tasks that others do not see, or to rely on nothing being
/// put anywhere.
pub async fn alone() -> Alone {
    Alone(TURNS.write().await)
}
