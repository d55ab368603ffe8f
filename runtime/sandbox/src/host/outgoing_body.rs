//! Bodies on their way out, charged to the guest's memory until somebody has taken them.
//!
//! wasmtime hands what a guest writes on through a channel, and bounds it by chunks. Each piece is charged when it is
//! written (WASI 0.2) or leaves the channel, which holds one (0.3), and given back when the last reference to it goes,
//! wherever that is by then: in the channel, in the router, or in a connection that a slow client does not drain.

use super::HostState;
use crate::memory::{MemoryBudget, MemoryRefused};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

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

/// A body of WASI 0.3 whose pieces are charged as they are taken out. One that does not fit waits until others of the
/// same body have gone out; where none is under way, waiting would make no room, and the body ends.
pub(crate) fn charged(body: WasiBody, budget: &MemoryBudget) -> WasiBody {
    if body.is_end_stream() {
        return body;
    }
    ChargedBody { body, budget: budget.clone(), token: Arc::new(()), waiting: None }.boxed_unsync()
}

/// The charging of a piece, which ends when there is room for it.
type Room = Pin<Box<dyn Future<Output = ()> + Send>>;

struct ChargedBody {
    body: WasiBody,
    budget: MemoryBudget,
    token: Arc<()>,
    /// A piece there was no room for, until there is.
    waiting: Option<(Bytes, Room)>,
}

impl ChargedBody {
    fn piece(&self, bytes: Bytes) -> Frame<Bytes> {
        let piece = Piece { bytes, budget: self.budget.clone(), _token: self.token.clone() };
        Frame::data(Bytes::from_owner(piece))
    }
}

impl Body for ChargedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.waiting.is_none() {
            let bytes = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            };
            let length = bytes.len() as u64;
            if this.budget.try_charge(length) {
                return Poll::Ready(Some(Ok(this.piece(bytes))));
            }
            if Arc::strong_count(&this.token) == 1 {
                return Poll::Ready(Some(Err(Error::InternalError(Some(MemoryRefused.to_string())))));
            }
            let budget = this.budget.clone();
            this.waiting = Some((bytes, Box::pin(async move { budget.charge(length).await })));
        }
        let Some((_, room)) = &mut this.waiting else { return Poll::Pending };
        ready!(room.as_mut().poll(cx));
        let bytes = this.waiting.take().map(|(bytes, _)| bytes).unwrap_or_default();
        Poll::Ready(Some(Ok(this.piece(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What waits has left the body already.
        if self.waiting.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn body(pieces: &[usize]) -> WasiBody {
        let pieces: Vec<_> =
            pieces.iter().map(|length| Ok::<_, Error>(Frame::data(Bytes::from(vec![7; *length])))).collect();
        http_body_util::StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
    }

    #[test]
    fn pieces_are_charged_for_as_long_as_somebody_has_them() {
        let memory = MemoryBudget::new(100);
        let mut body = charged(body(&[60, 40, 30]), &memory);
        let mut next =
            || body.frame().now_or_never().map(|frame| frame.unwrap().unwrap().into_data().unwrap());
        let (first, second) = (next().unwrap(), next().unwrap());
        assert_eq!(memory.current(), 100);
        assert!(next().is_none(), "the third waits for room");
        let part = first.slice(..10);
        drop(first);
        assert!(next().is_none(), "a part of it is still under way");
        drop(part);
        assert_eq!(next().unwrap().len(), 30);
        assert_eq!(memory.current(), 40);
        drop((second, body));
        assert_eq!(memory.current(), 0);
    }

    #[test]
    fn a_piece_that_can_never_fit_ends_the_body() {
        let memory = MemoryBudget::new(100);
        assert!(memory.try_charge(80));
        let mut body = charged(body(&[60]), &memory);
        let error = body.frame().now_or_never().unwrap().unwrap().unwrap_err();
        assert!(error.to_string().contains("memory limit"), "{error}");
        assert_eq!(memory.current(), 80);
    }
}
