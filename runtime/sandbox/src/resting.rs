//! Instances that serve several requests, one after the other (WASI 0.2), while they have none.
//!
//! An instance at rest has no task and no channel: it lies in a list, and the next request takes it, drives it itself,
//! and puts it back. So a request costs what it computes, and nobody is woken for it. What has rested for too long is
//! dropped by a task that exists only while something rests.

use crate::container::Shared;
use crate::control::Control;
use crate::exit::HandleError;
use crate::instance::Instance;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::p2::bindings::Proxy;

/// How long an instance is kept without a request.
const IDLE: Duration = Duration::from_secs(1);

/// How many of those that rest are looked at for one of this thread.
const LOOK_AT: usize = 16;

/// A place in the engine's pool, with the instance that has it, once there is one.
pub(crate) struct Place {
    // First, so that the place is free when the permit for it is given back.
    pub(crate) instance: Option<Instance<Proxy>>,
    /// Requests it has been given.
    served: u32,
    /// The thread that last served a request with it.
    thread: ThreadId,
    /// Whether it died: what it still wrote for earlier requests is not whole then.
    failed: Arc<AtomicBool>,
    _slot: OwnedSemaphorePermit,
}

impl Place {
    fn new(slot: OwnedSemaphorePermit) -> Self {
        Place {
            instance: None,
            served: 0,
            thread: thread::current().id(),
            failed: Arc::default(),
            _slot: slot,
        }
    }

    /// The strings of the next request, which are no other's: whoever reads the answer of an earlier one has no hold of
    /// this.
    pub(crate) fn begin(&mut self) -> Arc<Control> {
        self.served += 1;
        Control::of_instance(self.failed.clone())
    }
}

/// The instances of a container that rest.
#[derive(Default)]
pub(crate) struct Resting {
    list: Mutex<List>,
    /// One has been put back.
    freed: Notify,
}

#[derive(Default)]
struct List {
    /// With the moment when each began to rest, the last at the end.
    places: Vec<(Instant, Place)>,
    /// Whether there is a task that drops them in time.
    is_swept: bool,
}

impl Resting {
    /// An instance that rests, or a place for a new one. Waits while the engine is full, until the queue's deadline.
    pub(crate) async fn place(shared: &Shared) -> Result<Place, HandleError> {
        let (resting, admission) = (&shared.resting, &shared.admission);
        if let Some(place) = resting.take() {
            return Ok(place);
        }
        if let Some(slot) = admission.try_slot() {
            return Ok(Place::new(slot));
        }
        let deadline = admission.deadline();
        loop {
            let mut freed = pin!(resting.freed.notified());
            // From here on nothing is missed, even before it is polled.
            freed.as_mut().enable();
            if let Some(place) = resting.take() {
                return Ok(place);
            }
            tokio::select! {
                () = freed => {}
                slot = admission.slot() => return slot.map(Place::new).ok_or(HandleError::Stopping),
                () = sleep_until(deadline) => return Err(admission.overloaded()),
            }
        }
    }

    /// Of those that rest for the shortest time, one that was last served on this thread: what it touches is in this
    /// processor's caches then. Else the last.
    fn take(&self) -> Option<Place> {
        let here = thread::current().id();
        let mut list = self.list.lock();
        let last = list.places.len().checked_sub(1)?;
        let mut late = list.places.iter().enumerate().rev().take(LOOK_AT);
        let index = late.find(|(_, (_, place))| place.thread == here).map_or(last, |(index, _)| index);
        Some(list.places.remove(index).1)
    }

    /// Lets an instance rest that has served its request, unless it has served `total` or others need its place.
    pub(crate) fn put(shared: &Arc<Shared>, mut place: Place, total: u32) {
        if place.served >= total || shared.admission.is_crowded() {
            return;
        }
        place.thread = thread::current().id();
        let resting = &shared.resting;
        let mut list = resting.list.lock();
        // With the list locked, so that either this sees that the container is stopped or `clear` sees the instance.
        if shared.is_stopped() {
            drop(list);
            return;
        }
        list.places.push((Instant::now(), place));
        let is_swept = std::mem::replace(&mut list.is_swept, true);
        drop(list);
        resting.freed.notify_one();
        if !is_swept {
            tokio::spawn(sweep(Sweeper { shared: shared.clone(), is_done: false }));
        }
    }

    /// Drops all that rest.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut self.list.lock().places);
        // Without the lock: instances take their time to go.
        drop(gone);
    }

    /// Drops what has rested for too long. Answers when to look again; with nothing left, the list is swept no more.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut list = self.list.lock();
        let over = list.places.partition_point(|(since, _)| *since + IDLE <= now);
        let gone: Vec<_> = list.places.drain(..over).collect();
        let next = list.places.first().map(|(since, _)| *since + IDLE);
        list.is_swept = next.is_some();
        drop(list);
        drop(gone);
        next
    }
}

async fn sweep(mut sweeper: Sweeper) {
    while let Some(next) = sweeper.shared.resting.expire(Instant::now()) {
        sleep_until(next).await;
    }
    sweeper.is_done = true;
}

/// A list that is swept. Instances at rest hold their container, which holds the list: if the runtime ends before the
/// sweeping does, they go with it.
struct Sweeper {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if !self.is_done {
            let mut list = self.shared.resting.list.lock();
            list.is_swept = false;
            let gone = std::mem::take(&mut list.places);
            drop(list);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[test]
    fn a_thread_takes_what_it_used_last() {
        let slots = Arc::new(Semaphore::new(3));
        let resting = Resting::default();
        let rest = |thread, served| {
            let slot = slots.clone().try_acquire_owned().unwrap();
            let place = Place { served, thread, ..Place::new(slot) };
            resting.list.lock().places.push((Instant::now(), place));
        };
        let another = thread::spawn(|| thread::current().id()).join().unwrap();
        rest(another, 1);
        rest(thread::current().id(), 2);
        rest(another, 3);
        let taken = [(); 4].map(|()| resting.take().map(|place| place.served));
        assert_eq!(taken, [Some(2), Some(3), Some(1), None]);
    }
}
