//! Bodies on their way through. They are streamed, never collected; what is added is accounting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;

use crate::connection::Connection;
use crate::framing::clean_trailers;
use crate::handler::InFlight;
use crate::http1::Received;
use crate::http1::codec::WrongLength;
use crate::target::{BoxError, RequestBody, ResponseBody};

/// A request's body as it comes from a client.
pub(crate) enum ClientBody {
    /// All of it is here, or there is none.
    Whole(Option<Bytes>),
    /// It is still to come, over HTTP/1.1.
    Received(Received),
    Http2(Incoming),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Received(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(content) => content.is_none(),
            Self::Received(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(content) => SizeHint::with_exact(content.as_ref().map_or(0, |all| all.len() as u64)),
            Self::Received(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A request's body as the target sees it. Requests without one, nearly all, cost no allocation: a box
/// of a type without size allocates nothing.
pub(crate) fn request_body(body: ClientBody, connection: &Arc<Connection>) -> RequestBody {
    match body {
        body if body.is_end_stream() => RequestBody::new(Empty::new().map_err(|never| match never {})),
        ClientBody::Whole(content) => {
            RequestBody::new(Full::new(content.unwrap_or_default()).map_err(|never| match never {}))
        }
        body => {
            connection.body_opened();
            RequestBody::new(FromClient { body, connection: Arc::clone(connection) })
        }
    }
}

/// Tells the connection when the target waits for the client, so that a client that sends nothing more
/// can be found out.
struct FromClient {
    body: ClientBody,
    connection: Arc<Connection>,
}

impl Body for FromClient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        self.connection.waits_for_body(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            self.connection.progressed();
            if let Some(trailers) = frame.trailers_mut() {
                clean_trailers(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for FromClient {
    fn drop(&mut self) {
        self.connection.body_closed();
    }
}

/// A response's body as the client gets it. It keeps the request in flight until it has ended, failed or
/// been dropped.
pub(crate) struct Answer {
    content: Content,
    /// Bytes still to come, where the response's head has claimed a length.
    left: Option<u64>,
    in_flight: Option<Box<InFlight>>,
    held: Option<Held>,
}

/// Bytes of a response that wait for a client of HTTP/2 to take them. Its connection may be busy with other
/// responses meanwhile, so that the socket tells nothing.
struct Held(Arc<Connection>);

impl Held {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.response_is_held(true);
        Self(Arc::clone(connection))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.response_is_held(false);
    }
}

enum Content {
    Target(ResponseBody),
    /// The router's own words, or none.
    Text(Option<Bytes>),
    /// The body has failed, and the client has not been told yet.
    Failed(Option<BoxError>),
}

impl Answer {
    /// Streams a target's body; `claimed` is its length as the head tells it, if it does.
    pub(crate) fn from_target(body: ResponseBody, claimed: Option<u64>, in_flight: Box<InFlight>) -> Self {
        Self { left: claimed, ..Self::new(Content::Target(body), Some(in_flight)) }
    }

    pub(crate) fn text(text: Bytes, in_flight: Box<InFlight>) -> Self {
        Self::new(Content::Text(Some(text)), Some(in_flight))
    }

    pub(crate) fn empty(in_flight: Box<InFlight>) -> Self {
        Self::new(Content::Text(None), Some(in_flight))
    }

    /// The end of HTTP on a connection. The request goes on without it.
    pub(crate) fn detached() -> Self {
        Self::new(Content::Text(None), None)
    }

    fn new(content: Content, in_flight: Option<Box<InFlight>>) -> Self {
        Self { content, left: None, in_flight, held: None }
    }

    /// A frame is on its way to the client.
    fn moved(&mut self, bytes: usize) {
        let Some(in_flight) = &mut self.in_flight else { return };
        in_flight.sent(bytes);
        let connection = in_flight.connection();
        connection.progressed();
        if connection.is_http2() {
            self.held = Some(Held::new(connection));
        }
    }

    /// Ends the request: nothing more comes of its target.
    fn end(&mut self) {
        self.content = Content::Text(None);
        self.in_flight = None;
    }

    /// Holds a frame, or the end, against the length the head has claimed.
    fn check(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), WrongLength> {
        let Some(left) = &mut self.left else { return Ok(()) };
        match frame {
            Some(frame) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                *left = left.checked_sub(len).ok_or(WrongLength("response", "longer"))?;
                Ok(())
            }
            None if *left > 0 => Err(WrongLength("response", "shorter")),
            None => Ok(()),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.held = None;
        let polled = match &mut self.content {
            Content::Target(body) => ready!(Pin::new(body).poll_frame(cx)),
            Content::Text(text) => {
                let text = text.take();
                match (&text, &mut self.in_flight) {
                    (Some(text), Some(in_flight)) => in_flight.sent(text.len()),
                    (Some(_), None) => {}
                    (None, _) => self.end(),
                }
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Content::Failed(error) => return Poll::Ready(error.take().map(Err)),
        };
        let failed = match polled {
            Some(Ok(mut frame)) => match self.check(Some(&frame)) {
                Ok(()) => {
                    if let Some(trailers) = frame.trailers_mut() {
                        clean_trailers(trailers);
                    }
                    self.moved(frame.data_ref().map_or(0, Bytes::len));
                    return Poll::Ready(Some(Ok(frame)));
                }
                Err(error) => error.into(),
            },
            None => match self.check(None) {
                Ok(()) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Err(error) => error.into(),
            },
            Some(Err(error)) => error,
        };
        // Over HTTP/2 hyper gives up a stream whose body fails with all that it has not written yet. It writes
        // when a body has to be waited for, so the error comes at the next poll: the client then has the
        // head, and what there was of the body.
        self.end();
        self.content = Content::Failed(Some(failed));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Target(body) => body.is_end_stream() && self.left.is_none_or(|left| left == 0),
            Content::Text(text) => text.is_none(),
            Content::Failed(error) => error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Target(body) => body.size_hint(),
            Content::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Failed(_) => SizeHint::default(),
        }
    }
}
