//! A request's body that may be so long and no longer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};

use crate::target::{BoxError, RequestBody};

/// A body with the number of bytes it may still have.
pub(crate) struct Bounded {
    body: RequestBody,
    left: u64,
    exceeded: Arc<AtomicBool>,
}

/// Whether a body was longer than it may be.
pub(crate) struct Exceeded(Arc<AtomicBool>);

#[derive(Debug, thiserror::Error)]
#[error("the request's body is longer than the target group allows")]
struct TooLong;

impl Bounded {
    /// Bounds a request's body, if there is a bound.
    pub(crate) fn wrap(
        request: Request<RequestBody>,
        max: Option<u64>,
    ) -> (Request<RequestBody>, Option<Exceeded>) {
        let Some(max) = max.filter(|_| !request.body().is_end_stream()) else { return (request, None) };
        let exceeded = Arc::new(AtomicBool::new(false));
        let told = Exceeded(Arc::clone(&exceeded));
        (request.map(|body| RequestBody::new(Self { body, left: max, exceeded })), Some(told))
    }
}

impl Exceeded {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.exceeded.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(TooLong.into())));
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
