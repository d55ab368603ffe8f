//! The body of a request, on its way from the connection's task to whoever asks for it, which may be another task.
//!
//! A body that came with its head is just its bytes. Any other is handed over a frame at a time: the connection reads the
//! next one when the last was taken, and the first when it is asked for. Nearly no request has such a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::codec::{Framing, Unreadable};

/// Why there is no more of a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error("the client left in the middle of the request's body")]
    Closed,
    #[error("the request's body can't be read: {0}")]
    Unreadable(#[from] Unreadable),
}

#[derive(Default)]
struct State {
    next: Option<Result<Frame<Bytes>, BrokenOff>>,
    /// Nothing comes behind `next`.
    has_ended: bool,
    /// The body was asked for more than there is in `next`.
    is_wanted: bool,
    /// Nobody will ask any more.
    is_dropped: bool,
    /// Whoever waits for the next frame.
    reader: Option<Waker>,
    /// The connection's task, unless it will ask by itself.
    server: Option<Waker>,
}

/// The body, for whoever reads it.
pub(crate) struct Received {
    shared: Arc<Mutex<State>>,
    /// Bytes still to come, if that is known.
    left: Option<u64>,
    has_ended: bool,
}

/// The connection's end of it.
pub(super) struct Feeder {
    shared: Arc<Mutex<State>>,
}

/// What is to be done for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing for now.
    Nothing,
    /// Read on.
    More,
    /// Nobody reads it any more.
    Dropped,
}

/// The two ends of a body that is framed so.
pub(super) fn channel(framing: Framing) -> (Feeder, Received) {
    let shared = Arc::<Mutex<State>>::default();
    let left = match framing {
        Framing::Nothing => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    (Feeder { shared: Arc::clone(&shared) }, Received { shared, left, has_ended: false })
}

impl Feeder {
    /// What is wanted. The connection's task is woken when it is something else.
    pub(super) fn wish(&self, cx: &mut Context<'_>) -> Wish {
        let mut state = self.shared.lock();
        keep(&mut state.server, cx);
        match &*state {
            State { is_dropped: true, .. } => Wish::Dropped,
            State { is_wanted: true, .. } => Wish::More,
            _ => Wish::Nothing,
        }
    }

    /// The connection's task will ask what is wanted before it waits: it need not be woken.
    pub(super) fn will_ask(&self) {
        let server = self.shared.lock().server.take();
        drop(server);
    }

    /// Hands over a frame, and whether it is the last. The task that polls, which is to look after all that is in
    /// it once more, is not woken.
    pub(super) fn feed(&self, frame: Frame<Bytes>, is_last: bool, cx: &Context<'_>) {
        self.put(Some(Ok(frame)), is_last, Some(cx));
    }

    /// The body has ended.
    pub(super) fn end(&self, cx: &Context<'_>) {
        self.put(None, true, Some(cx));
    }

    /// There is no more of the body than this.
    pub(super) fn fail(&self, error: BrokenOff, cx: &Context<'_>) {
        self.put(Some(Err(error)), true, Some(cx));
    }

    fn put(&self, next: Option<Result<Frame<Bytes>, BrokenOff>>, is_last: bool, cx: Option<&Context<'_>>) {
        let reader = {
            let mut state = self.shared.lock();
            if state.has_ended {
                return;
            }
            state.next = next;
            state.has_ended = is_last;
            state.is_wanted = false;
            state.reader.take()
        };
        if let Some(reader) = reader
            && !cx.is_some_and(|cx| cx.waker().will_wake(&reader))
        {
            reader.wake();
        }
    }
}

impl Drop for Feeder {
    /// Whoever reads a body that has not ended by now must not take it for whole.
    fn drop(&mut self) {
        self.put(Some(Err(BrokenOff::Closed)), true, None);
    }
}

/// Keeps who is to be woken.
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(None);
        }
        let (polled, server) = {
            let mut state = this.shared.lock();
            let next = state.next.take();
            this.has_ended = state.has_ended;
            // What was taken makes room for the next.
            state.is_wanted = !state.has_ended;
            let polled = match next {
                Some(next) => Poll::Ready(Some(next)),
                None if state.has_ended => Poll::Ready(None),
                None => {
                    keep(&mut state.reader, cx);
                    Poll::Pending
                }
            };
            (polled, state.server.take())
        };
        if let Some(server) = server {
            server.wake();
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let (Some(left), Some(data)) = (&mut this.left, frame.data_ref())
        {
            *left = left.saturating_sub(data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let (next, server) = {
            let mut state = self.shared.lock();
            state.is_dropped = true;
            (state.next.take(), state.server.take())
        };
        drop(next);
        if let Some(server) = server {
            server.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (Arc::clone(&counter), Waker::from(counter))
    }

    fn count(counter: &Counter) -> usize {
        counter.0.load(Ordering::Relaxed)
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    fn poll(body: &mut Received, cx: &mut Context<'_>) -> Poll<Option<Result<String, String>>> {
        Pin::new(body).poll_frame(cx).map(|frame| {
            let text = |frame: Frame<Bytes>| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            frame.map(|frame| frame.map(text).map_err(|error| error.to_string()))
        })
    }

    #[test]
    fn nothing_is_read_before_it_is_asked_for_and_one_frame_ahead_after_that() {
        let (feeder, mut body) = channel(Framing::Length(6));
        let ((served, server), (read, reader)) = (task(), task());
        let (server, reader) = (&mut Context::from_waker(&server), &mut Context::from_waker(&reader));
        assert_eq!(feeder.wish(server), Wish::Nothing);
        assert_eq!(poll(&mut body, reader), Poll::Pending);
        assert_eq!((count(&served), feeder.wish(server)), (1, Wish::More));
        feeder.feed(data("one"), false, server);
        assert_eq!((count(&read), feeder.wish(server)), (1, Wish::Nothing));
        assert_eq!(poll(&mut body, reader), Poll::Ready(Some(Ok("one".to_owned()))));
        assert_eq!((count(&served), feeder.wish(server)), (2, Wish::More));
        feeder.feed(data("two"), true, server);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(poll(&mut body, reader), Poll::Ready(Some(Ok("two".to_owned()))));
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        drop(feeder);
        assert_eq!(poll(&mut body, reader), Poll::Ready(None));
        assert_eq!(count(&read), 1, "it did not wait for the second");
    }

    #[test]
    fn a_task_does_not_wake_itself() {
        let (feeder, mut body) = channel(Framing::Chunked);
        let (woken, task) = task();
        let cx = &mut Context::from_waker(&task);
        assert_eq!(feeder.wish(cx), Wish::Nothing);
        feeder.will_ask();
        assert_eq!(poll(&mut body, cx), Poll::Pending);
        feeder.feed(data("x"), false, cx);
        assert_eq!(count(&woken), 0);
    }

    #[test]
    fn either_end_notices_that_the_other_is_gone() {
        let (feeder, mut body) = channel(Framing::Chunked);
        let ((served, server), (read, reader)) = (task(), task());
        let (server, reader) = (&mut Context::from_waker(&server), &mut Context::from_waker(&reader));
        assert_eq!(poll(&mut body, reader), Poll::Pending);
        drop(feeder);
        assert_eq!(count(&read), 1);
        assert_eq!(poll(&mut body, reader), Poll::Ready(Some(Err(BrokenOff::Closed.to_string()))));
        assert_eq!(poll(&mut body, reader), Poll::Ready(None));
        let (feeder, body) = channel(Framing::Chunked);
        assert_eq!(feeder.wish(server), Wish::Nothing);
        drop(body);
        assert_eq!((count(&served), feeder.wish(server)), (1, Wish::Dropped));
    }
}
