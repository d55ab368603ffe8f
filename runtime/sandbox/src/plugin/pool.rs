//! A plugin's instances, between calls.

use super::CallError;
use super::error::Unfinished;
use crate::container::Shared;
use crate::entry::Entry;
use crate::host::HostState;
use crate::instance::{Instance, NoInstance};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use wasmtime::Store;
use wasmtime::component::{self, InstancePre};

/// Makes the bindings of an instance.
pub(super) type Bind<B> =
    dyn Fn(&mut Store<HostState>, &component::Instance) -> wasmtime::Result<B> + Send + Sync;

/// A component, and what its exports are called through.
struct Bound<B: 'static> {
    pre: InstancePre<HostState>,
    bind: Arc<Bind<B>>,
}

impl<B: Send + 'static> Entry for Bound<B> {
    type Exports = B;

    async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<B> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        (self.bind)(store, &instance)
    }
}

/// An instance that can be called, with its place in the engine.
pub(super) struct Warm<B: 'static> {
    pub(super) instance: Instance<B>,
    pub(super) calls: u32,
    _slot: OwnedSemaphorePermit,
}

/// What a call starts with.
pub(super) enum Slot<B: 'static> {
    Used(Box<Warm<B>>),
    /// Room for a new instance.
    Empty(OwnedSemaphorePermit),
}

pub(super) struct Pool<B: 'static> {
    entry: Bound<B>,
    /// Calls one instance serves.
    calls: u32,
    /// `None` once closed.
    idle: Mutex<Option<Vec<Box<Warm<B>>>>>,
}

impl<B: Send + Sync + 'static> Pool<B> {
    pub(super) fn new(pre: InstancePre<HostState>, bind: Arc<Bind<B>>, calls: Option<u32>) -> Self {
        Pool {
            entry: Bound { pre, bind },
            calls: calls.unwrap_or(u32::MAX).max(1),
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// An idle instance, or room for a new one; waits for it as long as calls may queue. The container's own gate,
    /// passed before, bounds how many there are.
    pub(super) async fn slot(&self, shared: &Shared) -> Result<Slot<B>, CallError> {
        if let Some(warm) = self.idle.lock().as_mut().and_then(Vec::pop) {
            return Ok(Slot::Used(warm));
        }
        let deadline = shared.admission.deadline();
        match timeout_at(deadline, shared.admission.slot()).await {
            Ok(Some(slot)) => Ok(Slot::Empty(slot)),
            Ok(None) => Err(CallError::Closed),
            Err(_) => Err(CallError::Busy),
        }
    }

    /// Runs in the guest's time: instantiation is charged to it.
    pub(super) async fn take(
        &self,
        shared: &Arc<Shared>,
        slot: Slot<B>,
        fuel: Option<u64>,
    ) -> Result<Box<Warm<B>>, Unfinished> {
        match slot {
            Slot::Used(warm) => Ok(warm),
            Slot::Empty(slot) => {
                let deadline = shared.admission.deadline();
                match Instance::create(shared, &self.entry, fuel, deadline).await {
                    Ok(instance) => Ok(Box::new(Warm { instance, calls: 0, _slot: slot })),
                    Err(NoInstance::Died(exit)) => Err(Unfinished::Ended(exit)),
                    Err(NoInstance::NoRoom { .. } | NoInstance::PoolFull) => Err(CallError::Busy.into()),
                }
            }
        }
    }

    /// Keeps an instance for the next call, unless it has served enough, or others need its place.
    pub(super) fn put_back(&self, warm: Box<Warm<B>>, shared: &Shared) {
        if warm.calls < self.calls
            && !shared.is_stopped()
            && !shared.admission.is_crowded()
            && let Some(idle) = self.idle.lock().as_mut()
        {
            idle.push(warm);
        }
    }

    /// Drops what is idle, and what becomes idle later.
    pub(super) fn close(&self) {
        drop(self.idle.lock().take());
    }
}
