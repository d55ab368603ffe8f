//! Response bodies: the guest's stream, watched.

use crate::hold::Hold;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The body of a guest's response, streamed as the guest writes it. Dropping it before its end stops the guest.
pub type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended early. What was sent so far is not the whole response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The guest trapped, was killed, or gave the body up.
    #[error("the guest failed in the middle of its response: {0}")]
    Guest(String),
    /// The guest ended its body before, or after, the length it had announced.
    #[error("the guest's response body does not have the length its content-length header says")]
    WrongLength,
    /// Nothing came for as long as the container's `request_timeout`.
    #[error("the guest sent nothing for {} s", after.as_secs_f64())]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

/// A guest's body with its guest attached.
pub(crate) struct GuestBody {
    inner: HyperOutgoingBody,
    hold: Hold,
    /// Bytes still to come, if the guest announced how many.
    remaining: Option<u64>,
    idle_limit: Duration,
    idle: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl GuestBody {
    pub(crate) fn new(
        inner: HyperOutgoingBody,
        hold: Hold,
        length: Option<u64>,
        idle_limit: Duration,
    ) -> Self {
        let ended = inner.is_end_stream();
        if ended {
            hold.answered();
        }
        GuestBody { inner, hold, remaining: length, idle_limit, idle: None, ended }
    }

    fn end(&mut self, error: Option<BodyError>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.idle = None;
        if error.is_some() {
            self.hold.abandon();
        } else {
            self.hold.answered();
        }
        Poll::Ready(error.map(Err))
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle = None;
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(remaining) = &mut this.remaining {
                    let Some(left) = remaining.checked_sub(length) else {
                        return this.end(Some(BodyError::WrongLength));
                    };
                    *remaining = left;
                }
                if frame.is_trailers() {
                    this.ended = true;
                    this.hold.answered();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.end(Some(BodyError::Guest(error.to_string()))),
            // A store that is dropped ends its body as quietly as a guest that finished it.
            Poll::Ready(None) => match this.remaining {
                Some(0) => this.end(None),
                _ if this.hold.failed() => {
                    this.end(Some(BodyError::Guest("it trapped or was stopped".to_owned())))
                }
                Some(_) => this.end(Some(BodyError::WrongLength)),
                None => this.end(None),
            },
            Poll::Pending => {
                let limit = this.idle_limit;
                let idle = this.idle.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(idle.as_mut().poll(cx));
                this.end(Some(BodyError::TimedOut { after: limit }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            _ if self.ended => SizeHint::with_exact(0),
            Some(remaining) => SizeHint::with_exact(remaining),
            None => self.inner.size_hint(),
        }
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        // Who knows the length stops reading when it is reached.
        let complete = self.ended || self.remaining == Some(0);
        if complete { self.hold.answered() } else { self.hold.left() }
    }
}
