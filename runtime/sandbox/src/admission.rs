//! Who may start now, who waits, and who is turned away.
//!
//! Two gates: the container's own concurrency, and the slots of the engine's pool, which all containers share.
//! Behind both of them an instance finds its slot free; the pool itself is never asked for one it does not have.

use crate::exit::HandleError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(crate) struct Admission {
    running: Arc<Semaphore>,
    engine: Arc<Semaphore>,
    /// Engine slots one instance takes.
    slots: u32,
    queued: AtomicU32,
    max_queue: u32,
    queue_timeout: Duration,
    closing: Notify,
}

/// The right to have one instance.
pub(crate) struct Permit {
    _running: OwnedSemaphorePermit,
    _engine: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(
        engine: Arc<Semaphore>,
        slots: u32,
        max_concurrency: u32,
        max_queue: u32,
        queue_timeout: Duration,
    ) -> Self {
        let running = Arc::new(Semaphore::new(max_concurrency.max(1) as usize));
        Admission {
            running,
            engine,
            slots,
            queued: AtomicU32::new(0),
            max_queue,
            queue_timeout,
            closing: Notify::new(),
        }
    }

    /// When somebody who comes now has waited long enough.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.queue_timeout
    }

    pub(crate) fn overloaded(&self) -> HandleError {
        HandleError::Overloaded { retry_after: Duration::from_secs(1) }
    }

    /// For requests that may share an instance: the container's own gate alone, with the same queue.
    pub(crate) async fn admit_to_container(&self) -> Result<OwnedSemaphorePermit, HandleError> {
        if let Ok(running) = self.running.clone().try_acquire_owned() {
            return Ok(running);
        }
        if self.running.is_closed() {
            return Err(HandleError::Stopping);
        }
        let _place = Place::take(&self.queued, self.max_queue).ok_or_else(|| self.overloaded())?;
        match timeout_at(self.deadline(), self.running.clone().acquire_owned()).await {
            Ok(running) => running.map_err(|_| HandleError::Stopping),
            Err(_) => Err(self.overloaded()),
        }
    }

    /// The engine's slots for one instance, if they are free.
    pub(crate) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.engine.clone().try_acquire_many_owned(self.slots).ok()
    }

    /// The same, once they are free. `None` if the container is killed meanwhile.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        // The engine's gate stays open when this container's closes.
        let closing = self.closing.notified();
        if self.running.is_closed() {
            return None;
        }
        tokio::select! {
            engine = self.engine.clone().acquire_many_owned(self.slots) => engine.ok(),
            () = closing => None,
        }
    }

    /// Whether the engine has no room for another instance of this kind.
    pub(crate) fn is_crowded(&self) -> bool {
        self.engine.available_permits() < self.slots as usize
    }

    /// For requests: waits in a bounded queue, for a bounded time.
    pub(crate) async fn admit(&self) -> Result<Permit, HandleError> {
        // Almost always there is room, and nothing to wait for.
        if let Ok(running) = self.running.clone().try_acquire_owned()
            && let Ok(engine) = self.engine.clone().try_acquire_many_owned(self.slots)
        {
            return Ok(Permit { _running: running, _engine: engine });
        }
        if self.running.is_closed() {
            return Err(HandleError::Stopping);
        }
        let _place = Place::take(&self.queued, self.max_queue).ok_or_else(|| self.overloaded())?;
        match timeout_at(self.deadline(), self.wait()).await {
            Ok(permit) => permit.ok_or(HandleError::Stopping),
            Err(_) => Err(self.overloaded()),
        }
    }

    /// For runs: waits for as long as it takes. `None` if the container is killed meanwhile.
    pub(crate) async fn wait(&self) -> Option<Permit> {
        let running = self.running.clone().acquire_owned().await.ok()?;
        let engine = self.slot().await?;
        Some(Permit { _running: running, _engine: engine })
    }

    /// Turns away everybody who waits and who comes later.
    pub(crate) fn close(&self) {
        self.running.close();
        self.closing.notify_waiters();
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicU32, most: u32) -> Option<Self> {
        queued
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| (count < most).then_some(count + 1))
            .ok()
            .map(|_| Place(queued))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(slots: usize, concurrency: u32, queue: u32) -> Arc<Admission> {
        let engine = Arc::new(Semaphore::new(slots));
        Arc::new(Admission::new(engine, 1, concurrency, queue, Duration::from_secs(5)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let gate = gate(1, 10, 1);
        let permit = gate.admit().await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit().await.map(drop) }
        });
        while gate.queued.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.admit().await, Err(HandleError::Overloaded { .. })), "the queue is full");
        // The paused clock jumps to the deadline.
        assert!(matches!(waiting.await.unwrap(), Err(HandleError::Overloaded { .. })));
        drop(permit);
        assert!(gate.admit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_slot() {
        let gate = gate(10, 1, 10);
        let permit = gate.admit().await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit().await.map(drop) }
        });
        while gate.queued.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        drop(permit);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_turns_everybody_away() {
        let gate = gate(0, 10, 10);
        let run = tokio::spawn({
            let gate = gate.clone();
            async move { gate.wait().await.is_none() }
        });
        tokio::task::yield_now().await;
        gate.close();
        assert!(run.await.unwrap());
        assert!(matches!(gate.admit().await, Err(HandleError::Stopping)));
    }
}
