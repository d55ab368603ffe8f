//! The connection of a client that speaks HTTP/1.1: requests in, one at a time, answers out.
//!
//! ```text
//!             a head is whole            the handler has answered        the answer has ended
//!   waiting ──────────────────▶ handling ────────────────────────▶ sending ──────────────────▶ the rest of the
//!      ▲ │                         │                                  │                        request's body
//!      │ │ the client leaves,      │ the client leaves                │ the client leaves,            │
//!      │ ▼ no request, closing     ▼                                  ▼ the answer breaks off         │
//!      │ gone                     gone                               gone                             │
//!      └───────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Whatever it does, the connection hands the request's body to who asks for it, and notices that its client has left: a
//! client that sends no more is one that has left. What a client sends behind a request is read once, and left for
//! later; more is not read until its turn has come.
//!
//! A connection that waits for its next request has no buffers: it reads into memory of its thread, and what is written
//! at once is written from there, too.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::response::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::codec::{Chunk, Decoder, Framing, WrongLength, find_end, write_chunk_line, write_last_chunk};
use super::io::{Input, Output, SMALL, poll_peruse};
use super::received::{BrokenOff, Feeder, Wish, channel};
use super::request::{Asked, BadHead, Head, blank, check_beginning, read_head};
use super::response::{Content, Sending, write_head, write_refusal};
use crate::body::{Answer, ClientBody};
use crate::connection::Connection;
use crate::handler;
use crate::headers::spare;
use crate::target::BoxError;

/// Bytes of a body that nobody wants which are read and dropped, so that the connection can go on. They must be there
/// already: nobody waits for them.
const MAX_DRAINED: u64 = 64 * 1024;

/// Bytes that are read at once from a client which has its answer to wait for.
const AHEAD: usize = 512;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a connection has ended.
pub(crate) enum Served<T> {
    Closed,
    /// Its last answer has switched protocols. With what the client has sent behind its request.
    Switched(T, Bytes),
}

/// Why a connection has ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the client left before it had its answer")]
    Left,
    #[error("the client left in the middle of a request's head")]
    LeftInHead,
    #[error("the answer broke off")]
    Answer(#[source] BoxError),
}

/// Serves a connection to its end. `early` was read from it before; heads are of at most `max_head` bytes.
pub(crate) async fn serve<T>(
    io: T,
    early: Bytes,
    connection: &Arc<Connection>,
    max_head: usize,
) -> Result<Served<T>, Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut server = Server::new(io, &early, max_head);
    while let Some(request) = poll_fn(|cx| server.poll_request(connection, cx)).await? {
        let response = {
            let mut handling = pin!(handler::handle(Arc::clone(connection), request));
            poll_fn(|cx| server.poll_handling(handling.as_mut(), cx)).await?
        };
        let (parts, answer) = response.into_parts();
        let mut answer = server.begin(&parts, answer, !connection.should_close());
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        spare::give(parts.headers);
        poll_fn(|cx| server.poll_send(&mut answer, cx)).await?;
        if switches {
            return Ok(Served::Switched(server.io, server.input.buffer.freeze()));
        }
        if server.upload.is_some() {
            poll_fn(|cx| server.poll_rest(cx)).await;
        }
        if !server.goes_on {
            break;
        }
        server.rest();
    }
    poll_fn(|cx| server.poll_close(cx)).await?;
    Ok(Served::Closed)
}

struct Server<T> {
    io: T,
    max_head: usize,
    /// What was read, and not looked at yet.
    input: Input,
    /// How much of `input` was searched for a head's end.
    searched: usize,
    /// Bytes of empty lines in front of the head that is read.
    passed_over: usize,
    output: Output,
    /// What the request says about its answer.
    asked: Asked,
    /// What of the request's body is still to be read.
    upload: Option<Upload>,
    /// What of the answer's body is still to be sent.
    sending: Sending,
    /// How much of the output has waited a turn for more.
    held: usize,
    /// The answer's body has failed.
    failed: Option<BoxError>,
    /// Whether there may be another request behind this one.
    goes_on: bool,
    /// Nothing is read any more: the client sends no more, or nobody knows what it sends.
    is_deaf: bool,
}

/// A request's body that did not come with its head.
struct Upload {
    feeder: Feeder,
    decoder: Decoder,
    /// The client waits to be told to send it.
    is_awaited: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Server<T> {
    fn new(io: T, early: &[u8], max_head: usize) -> Self {
        let mut input = Input::default();
        input.buffer.extend_from_slice(early);
        Self {
            io,
            max_head,
            input,
            searched: 0,
            passed_over: 0,
            output: Output::default(),
            asked: Asked::default(),
            upload: None,
            sending: Sending::Length(0),
            held: 0,
            failed: None,
            goes_on: true,
            is_deaf: false,
        }
    }

    /// Waits for a request. There is none when the client has left, when the connection should close, and when what
    /// came was none: that is answered.
    fn poll_request(
        &mut self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Request<ClientBody>>, Ended>> {
        let mut read = if self.input.buffer.is_empty() { Ok(None) } else { self.take_head() };
        loop {
            match read {
                Ok(Some(request)) => return Poll::Ready(Ok(Some(request))),
                Ok(None) => {}
                Err(bad) => {
                    tracing::debug!(error = %bad, "a client is refused");
                    write_refusal(bad.status(), &mut self.output.buffer);
                    return Poll::Ready(Ok(None));
                }
            }
            let is_idle = self.input.buffer.is_empty();
            let polled = if is_idle { self.poll_first(cx) } else { self.poll_more(cx) };
            read = match polled {
                Poll::Pending if is_idle && connection.should_close() => return Poll::Ready(Ok(None)),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(read))) => read,
                Poll::Ready(Ok(None)) if is_idle => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Ended::LeftInHead)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            };
        }
    }

    /// Reads where nothing was read yet, which is nearly always a whole request.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Found>>> {
        let input = &mut self.input.buffer;
        let text = ready!(poll_peruse(&mut self.io, cx, |bytes| match bytes.len() {
            0 => None,
            1..=SMALL => Some(Bytes::copy_from_slice(bytes)),
            _ => {
                input.extend_from_slice(bytes);
                Some(Bytes::new())
            }
        }))?;
        let Some(text) = text else { return Poll::Ready(Ok(None)) };
        Poll::Ready(Ok(Some(if text.is_empty() { self.take_head() } else { self.take_whole(text) })))
    }

    /// Reads on in the middle of a head.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Found>>> {
        let read = ready!(self.input.poll_read(&mut self.io, cx))?;
        Poll::Ready(Ok((read > 0).then(|| self.take_head())))
    }

    /// Takes the request out of what was read at once.
    fn take_whole(&mut self, mut text: Bytes) -> Found {
        let blank = blank(&text);
        self.pass_over(blank)?;
        text.advance(blank);
        if text.is_empty() {
            return Ok(None);
        }
        let Some(Head { length, request, framing, asked }) = read_head(&text)? else {
            self.input.buffer.extend_from_slice(&text);
            return self.search_on();
        };
        self.check_size(length)?;
        let mut rest = text.split_off(length);
        let whole = whole(framing, rest.len()).map(|length| rest.split_to(length));
        self.input.buffer.extend_from_slice(&rest);
        Ok(Some(self.accept(request, framing, asked, whole)))
    }

    /// Takes a request out of the input, if its head is whole.
    fn take_head(&mut self) -> Found {
        let blank = blank(&self.input.buffer);
        self.pass_over(blank)?;
        self.input.buffer.advance(blank);
        self.searched = self.searched.saturating_sub(blank);
        let Some(end) = find_end(&self.input.buffer, self.searched) else {
            if self.searched == 0 {
                check_beginning(&self.input.buffer)?;
            }
            return self.search_on();
        };
        self.check_size(end)?;
        // A copy, so that a request holds no more than its own head.
        let text = Bytes::copy_from_slice(&self.input.buffer[..end]);
        let head = read_head(&text)?.filter(|head| head.length == end).ok_or(BadHead::Malformed)?;
        self.input.buffer.advance(end);
        let whole = whole(head.framing, self.input.buffer.len()).map(|length| {
            let body = self.input.buffer.split_to(length);
            if length > SMALL { body.freeze() } else { Bytes::copy_from_slice(&body) }
        });
        Ok(Some(self.accept(head.request, head.framing, head.asked, whole)))
    }

    fn pass_over(&mut self, blank: usize) -> Result<(), BadHead> {
        self.passed_over += blank;
        self.check_size(0)
    }

    fn check_size(&self, length: usize) -> Result<(), BadHead> {
        if self.passed_over + length > self.max_head { Err(BadHead::TooLarge) } else { Ok(()) }
    }

    /// The input has no head's end.
    fn search_on(&mut self) -> Found {
        self.searched = self.input.buffer.len();
        // At least one byte is still to come.
        self.check_size(self.searched + 1)?;
        Ok(None)
    }

    /// Begins with a request, of which this is the body if it has come whole.
    fn accept(
        &mut self,
        request: Request<()>,
        framing: Framing,
        asked: Asked,
        whole: Option<Bytes>,
    ) -> Request<ClientBody> {
        (self.searched, self.passed_over) = (0, 0);
        self.asked = asked;
        let decoder = match (framing, whole) {
            (_, Some(whole)) => return request.map(|()| ClientBody::Whole(Some(whole))),
            (Framing::Nothing, None) => return request.map(|()| ClientBody::Whole(None)),
            (Framing::Length(length), None) => Decoder::Length(length),
            (Framing::Chunked, None) => Decoder::Chunked(Chunk::Line),
        };
        let (feeder, received) = channel(framing);
        self.upload = Some(Upload { feeder, decoder, is_awaited: asked.expects_continue });
        request.map(|()| ClientBody::Received(received))
    }

    /// Has the request answered.
    fn poll_handling<F>(
        &mut self,
        mut handling: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Answer>, Ended>>
    where
        F: Future<Output = Response<Answer>>,
    {
        loop {
            if let Some(upload) = &self.upload {
                upload.feeder.will_ask();
            }
            if let Poll::Ready(response) = handling.as_mut().poll(cx) {
                self.settle(cx);
                return Poll::Ready(Ok(response));
            }
            if self.pump(cx) {
                continue;
            }
            if !self.output.is_empty() {
                // That the client is to continue. It is noticed elsewhere that it has not taken it.
                let _ = self.output.poll_write(&mut self.io, cx)?;
            }
            self.watch(cx)?;
            return Poll::Pending;
        }
    }

    /// Writes the head of an answer, and gives back its body if there is one to send.
    fn begin(&mut self, parts: &Parts, answer: Answer, may_go_on: bool) -> Option<Answer> {
        let content = match answer.is_end_stream() {
            true => Content::Nothing,
            false => Content::Some(answer.size_hint().exact()),
        };
        self.output.borrow();
        let may_go_on = may_go_on && self.goes_on;
        (self.sending, self.goes_on) =
            write_head(parts, content, self.asked, may_go_on, &mut self.output.buffer);
        if let Some(upload) = &mut self.upload {
            // Too late.
            upload.is_awaited = false;
        }
        (content != Content::Nothing && self.sending != Sending::Length(0)).then_some(answer)
    }

    /// Sends the answer to its end.
    fn poll_send(&mut self, answer: &mut Option<Answer>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        // First, or an answer that never has to be waited for would leave no turn to the request.
        self.pump(cx);
        loop {
            if let Some(upload) = &self.upload {
                upload.feeder.will_ask();
            }
            let is_waiting = self.fill(answer, cx);
            let length = self.output.buffer.len();
            let written = if is_waiting && length > self.held {
                // Who has just made this is about to make more, as a rule: it has its turn before this connection has
                // its next, and what follows goes out with it.
                self.held = length;
                cx.waker().wake_by_ref();
                Poll::Pending
            } else {
                self.output.poll_write(&mut self.io, cx)?.map(|()| self.held = 0)
            };
            match written {
                Poll::Ready(()) if answer.is_none() => {
                    return Poll::Ready(self.failed.take().map_or(Ok(()), |error| Err(Ended::Answer(error))));
                }
                Poll::Ready(()) if !is_waiting => {}
                // Whoever makes the answer may wait for the request.
                Poll::Ready(()) if self.pump(cx) => {}
                Poll::Ready(()) => {
                    self.watch(cx)?;
                    return Poll::Pending;
                }
                Poll::Pending => {
                    while self.pump(cx) {}
                    self.watch(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Adds to the output what there is of the answer's body, while there is room. Returns whether there is no more
    /// for now.
    fn fill(&mut self, answer: &mut Option<Answer>, cx: &mut Context<'_>) -> bool {
        while self.output.has_room()
            && let Some(body) = answer
        {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return true };
            let added = match frame {
                None => self.end_body(),
                Some(Ok(frame)) => {
                    self.add(frame).and_then(|is_last| match is_last || !body.is_end_stream() {
                        true => Ok(is_last),
                        false => self.end_body(),
                    })
                }
                Some(Err(error)) => Err(error),
            };
            match added {
                Ok(false) => {}
                Ok(true) => *answer = None,
                Err(error) => {
                    *answer = None;
                    self.failed = Some(error);
                }
            }
        }
        false
    }

    /// Adds a part of the answer's body. Returns whether it was the last.
    fn add(&mut self, frame: Frame<Bytes>) -> Result<bool, BoxError> {
        match frame.into_data() {
            // An empty chunk would be the last one.
            Ok(data) if data.is_empty() => Ok(false),
            Ok(data) => match &mut self.sending {
                Sending::Length(left) => {
                    *left = left.checked_sub(data.len() as u64).ok_or(WrongLength("response", "longer"))?;
                    let is_last = *left == 0;
                    self.output.add(data, b"");
                    Ok(is_last)
                }
                Sending::Chunked(_) => {
                    write_chunk_line(data.len(), &mut self.output.buffer);
                    self.output.add(data, b"\r\n");
                    Ok(false)
                }
                Sending::UntilClose => {
                    self.output.add(data, b"");
                    Ok(false)
                }
            },
            Err(frame) => {
                let Sending::Chunked(announced) = &self.sending else { return Ok(false) };
                let Ok(mut trailers) = frame.into_trailers() else { return Ok(false) };
                let unannounced = trailers.keys().filter(|name| !announced.contains(*name));
                for name in unannounced.cloned().collect::<Vec<_>>() {
                    trailers.remove(name);
                }
                write_last_chunk(&trailers, &mut self.output.buffer);
                Ok(true)
            }
        }
    }

    /// Ends the answer's body. Returns that it has ended.
    fn end_body(&mut self) -> Result<bool, BoxError> {
        match &self.sending {
            Sending::Length(0) | Sending::UntilClose => {}
            Sending::Length(_) => return Err(WrongLength("response", "shorter").into()),
            Sending::Chunked(_) if self.output.data.is_empty() => {
                write_last_chunk(&HeaderMap::new(), &mut self.output.buffer);
            }
            Sending::Chunked(_) => self.output.tail = b"\r\n0\r\n\r\n",
        }
        Ok(true)
    }

    /// Waits until nobody wants any more of the request's body.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.upload.is_some() {
            if !self.pump(cx) && self.upload.is_some() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Keeps no memory of what is done.
    fn rest(&mut self) {
        self.output.give_back();
        if self.input.buffer.is_empty() {
            self.input = Input::default();
        }
    }

    /// Writes what there is and closes the connection.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.output.poll_write(&mut self.io, cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Hands the next part of the request's body to who asks for it. Returns whether there was one.
    fn pump(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Upload { feeder, decoder, is_awaited }) = &mut self.upload else { return false };
        loop {
            match feeder.wish(cx) {
                Wish::More => {}
                Wish::Nothing => return false,
                Wish::Dropped => {
                    self.settle(cx);
                    return false;
                }
            }
            if std::mem::take(is_awaited) {
                self.output.buffer.extend_from_slice(CONTINUE);
            }
            match decoder.decode(&mut self.input.buffer) {
                Ok(Some(frame)) => {
                    let is_last = decoder.is_done();
                    feeder.feed(frame, is_last, cx);
                    if is_last {
                        self.upload = None;
                    }
                    return true;
                }
                Ok(None) if decoder.is_done() => {
                    feeder.end(cx);
                    self.upload = None;
                    return true;
                }
                Ok(None) => {}
                Err(error) => {
                    feeder.fail(error.into(), cx);
                    self.give_up_reading();
                    return true;
                }
            }
            match self.input.poll_read(&mut self.io, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => {
                    feeder.fail(BrokenOff::Closed, cx);
                    self.give_up_reading();
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }

    /// Decides what becomes of a body that nobody wants: it is passed over if that takes no time.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(Upload { feeder, decoder, .. }) = &mut self.upload else { return };
        if feeder.wish(cx) != Wish::Dropped {
            return;
        }
        let mut budget = MAX_DRAINED;
        loop {
            match decoder.decode(&mut self.input.buffer) {
                Ok(_) if decoder.is_done() => {
                    self.upload = None;
                    return;
                }
                Ok(Some(frame)) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(left) = budget.checked_sub(length) else { break };
                    budget = left;
                    continue;
                }
                Ok(None) => {}
                Err(_) => break,
            }
            if decoder.left().is_some_and(|left| left > budget)
                || !matches!(self.input.poll_read(&mut self.io, cx), Poll::Ready(Ok(1..)))
            {
                break;
            }
        }
        self.give_up_reading();
    }

    /// Nobody knows any more where the next request begins.
    fn give_up_reading(&mut self) {
        self.upload = None;
        self.goes_on = false;
        self.is_deaf = true;
    }

    /// Notices that the client has left. What it sends meanwhile is kept for later, and then no more is read.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        if self.is_deaf || self.upload.is_some() || !self.input.buffer.is_empty() {
            return Ok(());
        }
        let mut ahead = [const { MaybeUninit::uninit() }; AHEAD];
        let mut ahead = ReadBuf::uninit(&mut ahead);
        match Pin::new(&mut self.io).poll_read(cx, &mut ahead) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                self.input.buffer.extend_from_slice(ahead.filled());
                Ok(())
            }
            Poll::Ready(_) => Err(Ended::Left),
        }
    }
}

/// A request, if there is a whole one.
type Found = Result<Option<Request<ClientBody>>, BadHead>;

/// How long a body is that has come with its head, of which `there` bytes are behind it.
fn whole(framing: Framing, there: usize) -> Option<usize> {
    let Framing::Length(length) = framing else { return None };
    usize::try_from(length).ok().filter(|length| *length <= there)
}
