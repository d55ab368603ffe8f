//! Instances that serve several requests at once (WASI 0.3). Those of WASI 0.2 are in [`resting`](crate::resting).
//!
//! A [`Worker`] is one instance with a task of its own, a channel of requests, and a count of what it may still take.
//! Requests are pushed to a worker whose guest does not compute; when there is none, a new one is started as long as the
//! engine has room, and only then are requests put on top of busy ones. A [`Ticket`] is one request at its worker.
//!
//! Any trap discards the instance, and with it all requests it was serving. A request that takes too long or that
//! nobody wants any more can't be taken back from a guest; its worker gets no new ones, and is stopped as soon as the
//! others are done. All of that is watched from outside the guest ([`serve::supervise`]), which may not yield.

mod serve;

use crate::background;
use crate::container::{InFlight, Shared};
use crate::control::Control;
use crate::entry::HttpEntry;
use crate::exit::{Exit, HandleError};
use crate::http_call::Head;
use crate::instance::{End, RequestEnd, drive};
use crate::spec::ContainerSpec;
use futures_util::task::AtomicWaker;
use http::Request;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::WasiBody;

/// How many requests instances serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// One, each a fresh one.
    Never,
    /// Up to so many, one after the other (WASI 0.2).
    InTurn { total: u32 },
    /// Several at once (WASI 0.3).
    Together(Most),
}

/// What a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// Requests in its life, at least 1.
    total: u32,
    /// Requests at the same time, at least 1.
    at_once: u32,
}

/// What `wasmtime serve` does with WASI 0.3 components.
const DEFAULT_REUSE_P3: u32 = 128;
const DEFAULT_CONCURRENCY_P3: u32 = 16;

/// How long an instance is kept without a request.
const IDLE: Duration = Duration::from_secs(1);

/// How long a guest that has served its requests may be busy and still pass for one that waits.
const WIND_UP: Duration = Duration::from_millis(1);

/// How many workers are looked at for one request.
const LOOK_AT: usize = 16;

impl Reuse {
    pub(crate) fn new(entry: Option<&HttpEntry>, spec: &ContainerSpec) -> Reuse {
        // Fuel is counted per store: who limits it per request gets requests one by one, and the same count each time.
        let metered = spec.fuel_per_request.is_some();
        match entry {
            None => Reuse::Never,
            Some(HttpEntry::P2(_)) => match spec.instance_reuse {
                Some(total @ 2..) => Reuse::InTurn { total },
                _ => Reuse::Never,
            },
            Some(HttpEntry::P3(_)) => {
                let default = if metered { 1 } else { DEFAULT_REUSE_P3 };
                let at_once = if metered { 1 } else { DEFAULT_CONCURRENCY_P3 };
                Reuse::Together(Most {
                    total: spec.instance_reuse.unwrap_or(default).max(1),
                    at_once: if metered { 1 } else { spec.instance_concurrency.unwrap_or(at_once).max(1) },
                })
            }
        }
    }
}

/// The workers of a container.
#[derive(Default)]
pub(crate) struct Workers {
    /// Those that can take one more, the last used at the end. May hold some that have just retired.
    free: Mutex<Vec<Arc<Worker>>>,
    /// One more request could be taken somewhere.
    freed: Notify,
}

/// A request for a worker.
pub(crate) struct Job {
    pub(crate) request: Request<WasiBody>,
    pub(crate) head: oneshot::Sender<Head>,
    pub(crate) ticket: Arc<Ticket>,
}

/// What a request occupies while it is at its worker.
pub(crate) struct Occupied {
    pub(crate) _running: OwnedSemaphorePermit,
    pub(crate) _in_flight: InFlight,
}

impl Workers {
    /// Finds or starts a worker for one request. Waits while the engine is full, until the queue's deadline.
    pub(crate) async fn assign(
        shared: &Arc<Shared>,
        most: Most,
        mut occupied: Occupied,
    ) -> Result<Arc<Ticket>, HandleError> {
        let workers = &shared.workers;
        // Almost always there is one, and nothing to wait for.
        occupied = match workers.take(Worker::is_waiting, occupied) {
            Ok(ticket) => return Ok(ticket),
            Err(occupied) => occupied,
        };
        let deadline = shared.admission.deadline();
        loop {
            let mut freed = pin!(workers.freed.notified());
            // From here on nothing is missed, even before it is polled.
            freed.as_mut().enable();
            occupied = match workers.take(Worker::is_waiting, occupied) {
                Ok(ticket) => return Ok(ticket),
                Err(occupied) => occupied,
            };
            if let Some(slot) = shared.admission.try_slot() {
                return Worker::start(shared, most, slot, occupied);
            }
            occupied = match workers.take(|_| true, occupied) {
                Ok(ticket) => return Ok(ticket),
                Err(occupied) => occupied,
            };
            tokio::select! {
                () = freed => {}
                slot = shared.admission.slot() => {
                    let slot = slot.ok_or(HandleError::Stopping)?;
                    return Worker::start(shared, most, slot, occupied);
                }
                () = sleep_until(deadline) => return Err(shared.admission.overloaded()),
            }
        }
    }

    /// Takes a place at one of the workers that are `suitable`: at one that began on this thread, before all, and
    /// then at the least loaded. Where runtimes have one thread each, no other is woken so.
    fn take(
        &self,
        suitable: impl Fn(&Worker) -> bool,
        mut occupied: Occupied,
    ) -> Result<Arc<Ticket>, Occupied> {
        let here = thread::current().id();
        let mut free = self.free.lock();
        loop {
            let found = free
                .iter()
                .enumerate()
                .rev()
                .take(LOOK_AT)
                .filter(|(_, worker)| suitable(worker))
                .min_by_key(|(place, worker)| {
                    (worker.began_on != here, worker.load.lock().live.len(), usize::MAX - place)
                });
            let Some((place, _)) = found else { return Err(occupied) };
            match free[place].admit(occupied) {
                Admitted::Yes { ticket, last } => {
                    if last {
                        free.remove(place);
                    }
                    return Ok(ticket);
                }
                Admitted::No(back) => {
                    occupied = back;
                    free.remove(place);
                }
            }
        }
    }

    fn put_back(&self, worker: &Arc<Worker>) {
        self.free.lock().push(worker.clone());
        self.freed.notify_one();
    }

    fn forget(&self, worker: &Arc<Worker>) {
        self.free.lock().retain(|other| !Arc::ptr_eq(other, worker));
    }
}

/// One instance, as those see it who give it requests.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    control: Arc<Control>,
    most: Most,
    began_on: ThreadId,
    jobs: mpsc::UnboundedSender<Job>,
    load: Mutex<Load>,
    /// Wakes the supervisor when the load has changed.
    changed: AtomicWaker,
}

/// What a worker is busy with.
struct Load {
    accepted: u32,
    live: Vec<Live>,
    /// It takes no more requests.
    retired: bool,
    /// Since when it serves no request, and whether the guest works on nevertheless.
    resting: Option<(Instant, Rest)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The guest has something left to do.
    PostReturn,
    /// It waits for requests.
    Idle,
}

struct Live {
    ticket: Arc<Ticket>,
    /// Nobody wants it any more, or it took too long.
    is_abandoned: bool,
    _occupied: Occupied,
}

enum Admitted {
    /// `last`: there is no room for another.
    Yes {
        ticket: Arc<Ticket>,
        last: bool,
    },
    No(Occupied),
}

impl Load {
    fn is_full(&self, most: Most) -> bool {
        self.retired
            || self.accepted >= most.total
            || self.live.len() >= usize::try_from(most.at_once).unwrap_or(usize::MAX)
    }

    /// Whether everything it still does is for nobody.
    fn is_for_nobody(&self) -> bool {
        self.retired && self.live.iter().all(|live| live.is_abandoned)
    }
}

impl Worker {
    fn start(
        shared: &Arc<Shared>,
        most: Most,
        slot: OwnedSemaphorePermit,
        occupied: Occupied,
    ) -> Result<Arc<Ticket>, HandleError> {
        let (jobs, receive) = mpsc::unbounded_channel();
        let worker = Arc::new(Worker {
            shared: shared.clone(),
            control: Control::new(),
            most,
            began_on: thread::current().id(),
            jobs,
            load: Mutex::new(Load { accepted: 0, live: Vec::new(), retired: false, resting: None }),
            changed: AtomicWaker::new(),
        });
        let registered = shared.registry.insert(worker.control.clone());
        if shared.is_stopped() {
            return Err(HandleError::Stopping);
        }
        let Admitted::Yes { ticket, last } = worker.admit(occupied) else {
            return Err(HandleError::Stopping);
        };
        if !last {
            shared.workers.put_back(&worker);
        }
        background::spawn(&worker.control.clone(), &shared.spec.cpu, async move {
            let _closing = Closing(worker.clone());
            let shared = worker.shared.clone();
            let End(end) = {
                let guest = pin!(serve::run(&worker, receive));
                drive(&shared, &worker.control, guest).await
            };
            if let Ok(exit) = &end {
                shared.guest_ended(exit);
            }
            worker.close(&end);
            drop((slot, registered));
        });
        Ok(ticket)
    }

    fn admit(self: &Arc<Self>, occupied: Occupied) -> Admitted {
        let mut load = self.load.lock();
        if load.is_full(self.most) {
            return Admitted::No(occupied);
        }
        let ticket = Arc::new(Ticket {
            worker: self.clone(),
            failed: AtomicBool::new(false),
            end: Mutex::default(),
            ended: Notify::new(),
        });
        load.accepted += 1;
        load.resting = None;
        load.live.push(Live { ticket: ticket.clone(), is_abandoned: false, _occupied: occupied });
        Admitted::Yes { ticket, last: load.is_full(self.most) }
    }

    /// Whether its guest could begin with something new at once, or all but at once.
    fn is_waiting(&self) -> bool {
        self.control.is_waiting()
            || self
                .load
                .lock()
                .resting
                .is_some_and(|(since, rest)| rest == Rest::Idle || since.elapsed() < WIND_UP)
    }

    /// Turns away further requests, and ends what it has with `end`: before the store is dropped where the guest
    /// failed, so that nobody takes a body that ends for one that is complete.
    fn close(self: &Arc<Self>, end: &RequestEnd) {
        let live = {
            let mut load = self.load.lock();
            load.retired = true;
            std::mem::take(&mut load.live)
        };
        self.shared.workers.forget(self);
        for Live { ticket, .. } in live {
            // To call `exit(0)` is no failure.
            ticket.failed.store(*end != Ok(Exit::Code(0)), Ordering::Release);
            ticket.set_end(end.clone());
        }
    }
}

/// Ends what a worker still has, should its runtime end before it does: who waits for it may be on another one.
struct Closing(Arc<Worker>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(&Err(HandleError::Stopping));
    }
}

/// One request at its worker.
pub(crate) struct Ticket {
    worker: Arc<Worker>,
    failed: AtomicBool,
    end: Mutex<Option<RequestEnd>>,
    ended: Notify,
}

impl Ticket {
    pub(crate) fn send(
        self: &Arc<Self>,
        request: Request<WasiBody>,
        head: oneshot::Sender<Head>,
    ) -> Result<(), HandleError> {
        // Fails only when the worker has just been stopped.
        let job = Job { request, head, ticket: self.clone() };
        self.worker.jobs.send(job).map_err(|_| HandleError::Stopping)
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(&self) -> RequestEnd {
        loop {
            if let Some(end) = self.end.lock().clone() {
                return end;
            }
            self.ended.notified().await;
        }
    }

    /// Whether its guest died of anything.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.worker.control.failed()
    }

    fn set_end(&self, end: RequestEnd) {
        *self.end.lock() = Some(end);
        self.ended.notify_one();
    }

    /// It is over; the worker may take another instead.
    fn finish(&self) {
        let worker = &self.worker;
        let (has_room, rests) = {
            let mut load = worker.load.lock();
            let was_full = load.is_full(worker.most);
            let place = load.live.iter().position(|live| std::ptr::eq(&*live.ticket, self));
            let Some(place) = place else { return };
            drop(load.live.swap_remove(place));
            if load.live.is_empty() {
                load.resting = Some((Instant::now(), Rest::PostReturn));
            }
            if load.is_for_nobody() && !load.live.is_empty() {
                worker.control.advance(crate::control::Phase::Cancelled);
            }
            (was_full && !load.is_full(worker.most), load.live.is_empty())
        };
        self.set_end(Ok(Exit::Code(0)));
        if has_room {
            worker.shared.workers.put_back(worker);
        }
        // While it serves others, its instance need not be polled for this.
        if rests {
            worker.changed.wake();
        }
    }

    /// The response is complete.
    pub(crate) fn answered(&self) {
        self.finish();
    }

    /// Nobody reads the response any more: the guest is told so by its stream.
    pub(crate) fn left(&self) {
        self.finish();
    }

    /// Nobody wants it any more, and its guest can't be told.
    pub(crate) fn abandon(&self) {
        let mut load = self.worker.load.lock();
        let Some(live) = load.live.iter_mut().find(|live| std::ptr::eq(&*live.ticket, self)) else { return };
        live.is_abandoned = true;
        load.retired = true;
        if load.is_for_nobody() {
            self.worker.control.advance(crate::control::Phase::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ContainerSpec;

    #[test]
    fn without_an_http_entry_nothing_is_reused() {
        assert_eq!(Reuse::new(None, &ContainerSpec::default()), Reuse::Never);
    }
}
