//! Target groups as requests see them: an immutable [`GroupRoute`] in each snapshot, and the [`Group`] and
//! [`Member`]s with the counters that outlive it.
//!
//! `keeper` knows everything about one group and works out its route; `checks` says what health checks
//! mean, `choose` who is next, `breaker` how much is too much.

mod breaker;
mod checks;
mod choose;
mod keeper;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tokio::time::Instant;

pub(crate) use breaker::Admission;
pub(crate) use checks::{Fault, Outcome};
pub(crate) use keeper::{Check, Keeper};

use crate::balance::Load;
use crate::metrics::Series;
use crate::model::{TargetGroupAttributes, TargetId};
use crate::sticky::Fingerprint;
use crate::target::Slot;

/// What outlives a group's routes.
pub(crate) struct Group {
    /// The target group's ARN.
    pub(crate) id: String,
    pub(crate) fingerprint: Fingerprint,
    turn: AtomicUsize,
    traffic: breaker::Traffic,
    /// Whether somebody was told that requests wait for a first target.
    asked_for_target: AtomicBool,
}

impl Group {
    fn new(id: String, fingerprint: Fingerprint) -> Arc<Self> {
        Arc::new(Self {
            id,
            fingerprint,
            turn: AtomicUsize::new(0),
            traffic: breaker::Traffic::default(),
            asked_for_target: AtomicBool::new(false),
        })
    }

    /// Whether this is the first request since there was a target that waits for one.
    pub(crate) fn asks_for_target(&self) -> bool {
        !self.asked_for_target.swap(true, Ordering::Relaxed)
    }

    /// The next request that waits for a first target asks again.
    pub(crate) fn ask_again(&self) {
        self.asked_for_target.store(false, Ordering::Relaxed);
    }
}

/// A target of one group.
pub(crate) struct Member {
    pub(crate) id: TargetId,
    pub(crate) slot: Arc<Slot>,
    pub(crate) fingerprint: Fingerprint,
    /// Requests that came through this group.
    in_flight: AtomicU32,
    is_draining: AtomicBool,
    /// Requests in a row that failed.
    failures: AtomicU32,
}

impl Member {
    fn new(id: TargetId, slot: Arc<Slot>, fingerprint: Fingerprint) -> Arc<Self> {
        Arc::new(Self {
            id,
            slot,
            fingerprint,
            in_flight: AtomicU32::new(0),
            is_draining: AtomicBool::new(false),
            failures: AtomicU32::new(0),
        })
    }

    /// Counts a request, unless the target is draining by now. Either a request sees that it drains, or
    /// whoever lets it drain sees the request.
    pub(crate) fn try_enter(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let may = !self.is_draining.load(Ordering::SeqCst);
        if !may {
            self.leave();
        }
        may
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a request is in flight that came through this group.
    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0
    }

    /// Notes how a request went. Whether it was the one that makes too many failures in a row.
    pub(crate) fn note(&self, failed: bool, too_many: u32) -> bool {
        if failed {
            return self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) == too_many;
        }
        // A plain load first: nearly every request succeeds, and should not write what others read.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        false
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
    pub(crate) name: String,
    pub(crate) attributes: TargetGroupAttributes,
    pub(crate) series: Arc<Series>,
    /// Whether somebody should be told when a request finds no target at all.
    pub(crate) activates: bool,
    choices: choose::Choices<Member>,
    /// Those that are taken for want of better ones, once a request has waited.
    last_resort: Box<[Arc<Member>]>,
    /// Where a cookie leads, by fingerprint; empty without stickiness.
    by_fingerprint: HashMap<Fingerprint, usize>,
    /// Why there are no targets, in words for the client.
    pub(crate) why_none: &'static str,
}

impl GroupRoute {
    /// The next target that was not tried yet.
    pub(crate) fn pick(&self, tried: &[Arc<Member>], now: Instant) -> Option<&Arc<Member>> {
        // A second choice takes no turn: every other request would meet the same first one otherwise.
        let turn = match tried {
            [] => self.group.turn.fetch_add(1, Ordering::Relaxed),
            _ => self.group.turn.load(Ordering::Relaxed),
        };
        self.choices.pick(turn, tried, now)
    }

    /// Whether no target gets requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.choices.targets().is_empty()
    }

    /// Whether a request that could not be answered by one target has another to go to.
    pub(crate) fn has_several(&self) -> bool {
        self.choices.targets().len() > 1
    }

    /// The target a cookie means, if it gets requests.
    pub(crate) fn sticky(&self, whom: Fingerprint) -> Option<&Arc<Member>> {
        self.by_fingerprint.get(&whom).map(|index| &self.choices.targets()[*index])
    }

    /// Some target, whatever is known of its health, that was not tried yet.
    pub(crate) fn last_resort(&self, tried: &[Arc<Member>]) -> Option<&Arc<Member>> {
        self.last_resort.iter().find(|member| !tried.iter().any(|other| Arc::ptr_eq(other, member)))
    }
}
