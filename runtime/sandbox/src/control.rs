//! The strings attached to a live instance, for those outside of it: stop it, or let it finish in peace.

use crate::cpu::nanos_since_epoch;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Wake, Waker};

/// What the outside wants of an instance. Only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Go on.
    Running = 0,
    /// The response is complete; the guest may finish what it is doing, but not for ever.
    Lingering = 1,
    /// Stop at once.
    Cancelled = 2,
}

/// Where an instance is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Home {
    /// Within another future, which it can't leave.
    Inline = 0,
    /// In a task of tokio of its own.
    Foreground = 1,
    /// On the threads for those who compute for long: see [`background`](crate::background).
    Background = 2,
}

impl From<u8> for Home {
    fn from(home: u8) -> Home {
        match home {
            0 => Home::Inline,
            1 => Home::Foreground,
            _ => Home::Background,
        }
    }
}

/// For how long a guest may have been busy and still pass for one that waits, in nanoseconds.
const BUSY: u64 = 1_000_000;

/// Shared by an instance's task and whoever may stop it.
pub(crate) struct Control {
    phase: AtomicU8,
    home: AtomicU8,
    /// Where it should be polled next, in its driver's opinion.
    wish: AtomicU8,
    /// Whether the guest ended in another way than by returning.
    failed: AtomicBool,
    /// The same of its instance, if that serves more than this request.
    instance_failed: Option<Arc<AtomicBool>>,
    waker: AtomicWaker,
    /// Whether the guest is being polled; who wakes it meanwhile need not wake its task.
    polling: AtomicBool,
    /// Whether somebody woke the guest since its last poll began.
    woken: AtomicBool,
    /// Since when each of its polls has ended with more to do, in nanoseconds since the clock of
    /// [`cpu`](crate::cpu) began. 0: the last did not.
    busy_since: AtomicU64,
}

impl Control {
    pub(crate) fn new() -> Arc<Control> {
        Self::with(None)
    }

    /// For one request to an instance that serves several. If it dies, it has failed all of them whose answers are not
    /// complete yet.
    pub(crate) fn of_instance(failed: Arc<AtomicBool>) -> Arc<Control> {
        Self::with(Some(failed))
    }

    fn with(instance_failed: Option<Arc<AtomicBool>>) -> Arc<Control> {
        Arc::new(Control {
            phase: AtomicU8::new(Phase::Running as u8),
            home: AtomicU8::new(Home::Inline as u8),
            wish: AtomicU8::new(Home::Inline as u8),
            failed: AtomicBool::new(false),
            instance_failed,
            waker: AtomicWaker::new(),
            polling: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            busy_since: AtomicU64::new(0),
        })
    }

    /// Before the guest is polled, with the waker that is made of this.
    pub(crate) fn begin_poll(&self) {
        self.polling.store(true, Ordering::SeqCst);
        self.woken.store(false, Ordering::SeqCst);
    }

    /// After the guest was polled: whether it was woken meanwhile, and its task was not.
    pub(crate) fn end_poll(&self) -> bool {
        // Either the waking thread sees this, or we see what it did: both sides write first and look then.
        self.polling.store(false, Ordering::SeqCst);
        let woken = self.woken.load(Ordering::SeqCst);
        let busy_since = self.busy_since.load(Ordering::Relaxed);
        if !woken && busy_since != 0 {
            self.busy_since.store(0, Ordering::Relaxed);
        } else if woken && busy_since == 0 {
            self.busy_since.store(nanos_since_epoch(), Ordering::Relaxed);
        }
        woken
    }

    /// Whether the guest does not compute at the moment, and has not done so for long: it waits for something from
    /// outside, or has got it and waits for its thread. Guests of WASI 0.3 wake themselves several times on the way to
    /// an answer; one that still does after [`BUSY`] has something else to do.
    pub(crate) fn is_waiting(&self) -> bool {
        let busy_since = self.busy_since.load(Ordering::Relaxed);
        !self.polling.load(Ordering::Relaxed)
            && (busy_since == 0 || nanos_since_epoch().saturating_sub(busy_since) < BUSY)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Lingering,
            _ => Phase::Cancelled,
        }
    }

    pub(crate) fn home(&self) -> Home {
        Home::from(self.home.load(Ordering::Relaxed))
    }

    /// It is about to be polled there.
    pub(crate) fn move_to(&self, home: Home) {
        self.home.store(home as u8, Ordering::Relaxed);
        self.wish.store(home as u8, Ordering::Relaxed);
    }

    /// Said by the driver before it returns: the next poll should be there, if it is not inline.
    pub(crate) fn wish_for(&self, home: Home) {
        self.wish.store(home as u8, Ordering::Relaxed);
    }

    /// Where it wants to be polled next.
    pub(crate) fn wish(&self) -> Home {
        Home::from(self.wish.load(Ordering::Relaxed))
    }

    /// Called by the instance's task before it looks at the phase.
    pub(crate) fn watch(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Called when the guest is gone, and there is no task any more that would have to look.
    pub(crate) fn unwatch(&self) {
        drop(self.waker.take());
    }

    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Recorded before the instance's end becomes visible in any other way.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
        if let Some(failed) = &self.instance_failed {
            failed.store(true, Ordering::Release);
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
            || self.instance_failed.as_ref().is_some_and(|failed| failed.load(Ordering::Acquire))
    }
}

/// The guest's waker. A guest whose slice is over wakes itself while it is polled; whether that is passed on to tokio
/// is for the instance's driver to decide.
impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

/// The live instances of a container.
#[derive(Default)]
pub(crate) struct Registry {
    /// Several lists, so that requests on several threads don't wait for each other.
    shards: [Mutex<Shard>; 8],
}

#[derive(Default)]
struct Shard {
    controls: Vec<Option<Arc<Control>>>,
    free: Vec<usize>,
}

impl Registry {
    pub(crate) fn insert(self: &Arc<Self>, control: Arc<Control>) -> Registered {
        // Neighbours in memory are born on the same thread; any spread will do.
        let shard = (Arc::as_ptr(&control) as usize >> 7) % self.shards.len();
        let mut list = self.shards[shard].lock();
        let place = list.free.pop().unwrap_or(list.controls.len());
        if place == list.controls.len() {
            list.controls.push(Some(control));
        } else {
            list.controls[place] = Some(control);
        }
        Registered { registry: self.clone(), shard, place }
    }

    pub(crate) fn cancel_all(&self) {
        for shard in &self.shards {
            for control in shard.lock().controls.iter().flatten() {
                control.advance(Phase::Cancelled);
            }
        }
    }
}

/// An entry, until dropped.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    shard: usize,
    place: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut list = self.registry.shards[self.shard].lock();
        list.controls[self.place] = None;
        list.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_up() {
        let control = Control::new();
        control.advance(Phase::Cancelled);
        control.advance(Phase::Lingering);
        assert_eq!(control.phase(), Phase::Cancelled);
    }

    #[test]
    fn who_is_woken_for_more_still_waits_and_who_goes_on_does_not() {
        let control = Control::new();
        let is_waiting_after = |woken_within: bool| {
            control.begin_poll();
            assert!(!control.is_waiting(), "it is polled");
            if woken_within {
                Waker::from(control.clone()).wake();
            }
            assert_eq!(control.end_poll(), woken_within);
            control.is_waiting()
        };
        assert!(is_waiting_after(false));
        Waker::from(control.clone()).wake();
        assert!(control.is_waiting(), "what woke it came from outside");
        assert!(is_waiting_after(true), "it has only just begun");
        control.busy_since.fetch_sub(BUSY, Ordering::Relaxed);
        assert!(!is_waiting_after(true), "it goes on and on");
        assert!(is_waiting_after(false), "it has come to an end");
    }

    #[test]
    fn only_live_instances_are_cancelled() {
        let registry = Arc::new(Registry::default());
        let (one, two) = (Control::new(), Control::new());
        let first = registry.insert(one.clone());
        let _second = registry.insert(two.clone());
        drop(first);
        registry.cancel_all();
        assert_eq!((one.phase(), two.phase()), (Phase::Running, Phase::Cancelled));
    }
}
