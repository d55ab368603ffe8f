//! Bodies on their way out, charged to the guest's memory until somebody has taken them.
//!
//! wasmtime hands what a guest writes on through a channel, and bounds it by chunks. Each piece is charged when it is
//! written and given back when the last reference to it goes, wherever that is by then: in the channel, in the
//! router, or in a connection that a slow client does not drain.

use super::HostState;
use crate::memory::{MemoryBudget, MemoryRefused};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;

/// With less memory left than this a guest waits until some of what it wrote has gone out.
const LEAST: usize = 4096;

/// Puts [`Charged`] around the stream of every outgoing body.
pub(super) fn charge_p2_bodies(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, HostState>, (body,): (Resource<HostOutgoingBody>,)| {
            let state = store.data_mut();
            let parent = Resource::<HostOutgoingBody>::new_borrow(body.rep());
            let Ok(stream) = p2::HostOutgoingBody::write(&mut state.http(), body)? else {
                return Ok((Err(()),));
            };
            let inner: DynOutputStream = state.table.delete(stream)?;
            let budget = state.container.spec.memory.clone();
            let charged: DynOutputStream = Box::new(Charged { inner, budget, token: Arc::new(()) });
            Ok((Ok(state.table.push_child(charged, &parent)?),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Charged {
    inner: DynOutputStream,
    budget: MemoryBudget,
    /// Each piece under way has a clone.
    token: Arc<()>,
}

/// A piece under way.
struct Piece {
    bytes: Bytes,
    budget: MemoryBudget,
    _token: Arc<()>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.budget.release(self.bytes.len() as u64);
    }
}

impl Charged {
    fn room(&self) -> usize {
        usize::try_from(self.budget.available()).unwrap_or(usize::MAX)
    }

    /// Whether waiting makes room. Memory that the guest itself holds does not get less while it waits.
    fn worth_waiting(&self) -> bool {
        self.room() < LEAST && Arc::strong_count(&self.token) > 1
    }
}

impl Pollable for Charged {
    // What `async_trait` would make of `async fn ready(&mut self)`.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {
            self.inner.ready().await;
            if self.worth_waiting() {
                self.budget.charge(LEAST as u64).await;
                self.budget.release(LEAST as u64);
            }
        })
    }
}

impl OutputStream for Charged {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.budget.try_charge(bytes.len() as u64) {
            return Err(StreamError::Trap(MemoryRefused.into()));
        }
        let piece = Piece { bytes, budget: self.budget.clone(), _token: self.token.clone() };
        self.inner.write(Bytes::from_owner(piece))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let permit = self.inner.check_write()?;
        Ok(if self.worth_waiting() { 0 } else { permit.min(self.room().max(LEAST)) })
    }
}
