//! Target groups as requests see them: an immutable [`GroupRoute`] in each snapshot, and the [`Group`] and
//! [`Member`]s with the counters that outlive it.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

pub(crate) use keeper::Keeper;

use crate::balance::{self, Load};
use crate::metrics::Series;
use crate::model::TargetId;
use crate::target::Slot;

/// What outlives a group's routes.
pub(crate) struct Group {
    pub(crate) name: String,
    turn: AtomicUsize,
}

impl Group {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, turn: AtomicUsize::new(0) })
    }
}

/// A target of one group.
pub(crate) struct Member {
    #[expect(dead_code, reason = "cookies come next")]
    pub(crate) id: TargetId,
    pub(crate) slot: Arc<Slot>,
    /// Requests that came through this group.
    in_flight: AtomicU32,
}

impl Member {
    fn new(id: TargetId, slot: Arc<Slot>) -> Arc<Self> {
        Arc::new(Self { id, slot, in_flight: AtomicU32::new(0) })
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a request is in flight that came through this group.
    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0
    }
}

impl Load for Member {
    /// What counts is how busy the target is, whoever sent it the work.
    fn in_flight(&self) -> u32 {
        self.slot.in_flight()
    }
}

/// A group in one snapshot.
pub(crate) struct GroupRoute {
    pub(crate) group: Arc<Group>,
    pub(crate) series: Arc<Series>,
    /// Those that get requests.
    targets: Box<[Arc<Member>]>,
    /// Why there are none, in words for the client.
    pub(crate) why_none: &'static str,
}

impl GroupRoute {
    /// The next target that was not tried yet.
    pub(crate) fn pick(&self, tried: &[Arc<Member>]) -> Option<&Arc<Member>> {
        let turn = self.group.turn.fetch_add(1, Ordering::Relaxed);
        balance::pick(&self.targets, turn, tried)
    }
}
