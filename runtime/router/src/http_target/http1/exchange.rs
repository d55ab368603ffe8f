//! A connection of HTTP/1.1 with the request and response that are on it, driven by whoever waits for the response.
//!
//! Sending goes on while the response is read, as a target may answer before it has read all. A target that takes
//! no more of a request may still have answered it: an error of writing ends the sending only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Method, Request, StatusCode};
use http_body::{Body as _, Frame};

use super::codec::{Head, check_beginning, read_head, write_head};
use crate::http_target::connect::Stream;
use crate::http_target::no_body;
use crate::http1::codec::{Decoder, Framing, Unreadable, WrongLength};
use crate::http1::codec::{find_end, write_chunk_line, write_last_chunk};
use crate::http1::io::{Input, Output, SMALL};
use crate::target::{BoxError, RequestBody};

pub(super) struct Exchange {
    io: Stream,
    /// What was read of the response, and not looked at yet.
    input: Input,
    /// How much of `input` was searched for a head's end.
    searched: usize,
    output: Output,
    /// What is left of the request's body.
    upload: Option<Upload>,
    /// Whether either direction has ended.
    has_ended: bool,
    /// Whether anything has come since the request began.
    has_heard: bool,
}

struct Upload {
    body: RequestBody,
    framing: Framing,
}

/// Why there is no response, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it closed the connection before it had answered")]
    Closed,
    #[error("the connection to it broke: {0}")]
    Io(#[from] io::Error),
    #[error("its response can't be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// The request's, which comes from the client.
    #[error("the request's body broke off")]
    Body(#[source] BoxError),
}

/// A response's head, and its body if all of that came with it.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) whole: Option<Bytes>,
}

impl Exchange {
    pub(super) fn new(io: Stream) -> Box<Self> {
        Box::new(Self {
            io,
            input: Input::default(),
            searched: 0,
            output: Output::default(),
            upload: None,
            has_ended: false,
            has_heard: false,
        })
    }

    /// Takes over a request, of which the head stays. Returns whether it had a body, which is taken.
    pub(super) fn begin(&mut self, request: &mut Request<RequestBody>) -> bool {
        self.has_heard = false;
        match write_head(request, &mut self.output.buffer) {
            Framing::Nothing => false,
            framing => {
                let body = std::mem::replace(request.body_mut(), no_body());
                self.upload = Some(Upload { body, framing });
                true
            }
        }
    }

    /// Whether anything of a response has come.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Sends what there is to send, and waits for the head of the response, of at most `max` bytes.
    pub(super) fn poll_answer(
        &mut self,
        method: &Method,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer, Broken>> {
        self.send(cx).map_err(Broken::Body)?;
        let mut passed_over = 0;
        loop {
            while let Some(end) = find_end(&self.input.buffer, self.searched) {
                passed_over += end;
                if passed_over > max {
                    return Poll::Ready(Err(Unreadable::HeadTooLarge.into()));
                }
                self.searched = 0;
                let answer = self.take_answer(end, method)?;
                let status = answer.head.status;
                // Others of these announce the answer, and are not it.
                if status == StatusCode::SWITCHING_PROTOCOLS || !status.is_informational() {
                    return Poll::Ready(Ok(answer));
                }
            }
            if self.searched == 0 && !self.input.buffer.is_empty() {
                check_beginning(&self.input.buffer)?;
            }
            self.searched = self.input.buffer.len();
            if self.searched > max {
                return Poll::Ready(Err(Unreadable::HeadTooLarge.into()));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Takes a head that ends at `end` out of the input, and its body if it is there.
    fn take_answer(&mut self, end: usize, method: &Method) -> Result<Answer, Unreadable> {
        if self.input.buffer.len() > SMALL {
            let head = read_head(&self.input.buffer.split_to(end).freeze(), method)?;
            let whole = head.body.left().filter(|left| *left == 0).map(|_| Bytes::new());
            return Ok(Answer { head, whole });
        }
        let text = Bytes::copy_from_slice(&self.input.buffer);
        let head = read_head(&text, method)?;
        self.input.buffer.advance(end);
        let left = head.body.left().and_then(|left| usize::try_from(left).ok());
        let whole = left.filter(|left| *left <= self.input.buffer.len()).map(|left| {
            self.input.buffer.advance(left);
            text.slice(end..end + left)
        });
        Ok(Answer { head, whole })
    }

    /// The next part of the response's body.
    pub(super) fn poll_frame(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if decoder.is_done() {
                return Poll::Ready(None);
            }
            match decoder.decode(&mut self.input.buffer) {
                Ok(None) if decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            self.send(cx).map_err(Broken::Body)?;
            if ready!(self.poll_read(cx))? == 0 {
                let is_end = *decoder == Decoder::UntilClose;
                return Poll::Ready((!is_end).then_some(Err(Broken::Closed)));
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.input.poll_read(&mut self.io, cx));
        match &read {
            Ok(0) | Err(_) => self.has_ended = true,
            Ok(_) => self.has_heard = true,
        }
        Poll::Ready(read)
    }

    /// Sends as much of the request as there is and as the target takes. An error is the body's.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        loop {
            // First, so that a head and what comes with it leave together.
            let added = match &mut self.upload {
                Some(upload) if self.output.data.is_empty() => Some(upload.poll(&mut self.output, cx)?),
                _ => None,
            };
            if added == Some(Poll::Ready(true)) {
                self.upload = None;
            }
            match self.output.poll_write(&mut self.io, cx) {
                Poll::Ready(Ok(())) if self.upload.is_none() || added == Some(Poll::Pending) => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a target takes no more of a request");
                    self.upload = None;
                    self.output = Output::default();
                    self.has_ended = true;
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Whether the connection is through with its request.
    pub(super) fn is_free(&self) -> bool {
        !self.has_ended && self.input.buffer.is_empty() && self.upload.is_none() && self.output.is_empty()
    }

    /// Makes the connection take no more room than it must while it waits.
    pub(super) fn rest(&mut self) {
        self.input.shrink();
    }

    /// Whether an idle connection can't be used any more: a target has nothing to say without a request.
    pub(super) fn is_dead(&mut self) -> bool {
        self.has_ended || self.io.has_something()
    }

    /// The connection, with what was read from it.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.io, self.input.buffer.freeze())
    }
}

impl Upload {
    /// Adds the next part of the body to what is to be written. Ready with whether that was the end.
    fn poll(&mut self, output: &mut Output, cx: &mut Context<'_>) -> Result<Poll<bool>, BoxError> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Ok(Poll::Pending) };
        let Some(frame) = frame.transpose()? else {
            match self.framing {
                Framing::Chunked => write_last_chunk(&http::HeaderMap::new(), &mut output.buffer),
                Framing::Length(0) | Framing::Nothing => {}
                Framing::Length(_) => return Err(WrongLength("request", "shorter").into()),
            }
            return Ok(Poll::Ready(true));
        };
        match (frame.into_data(), &mut self.framing) {
            // An empty chunk would be the last one.
            (Ok(data), _) if data.is_empty() => Ok(Poll::Ready(false)),
            (Ok(data), Framing::Chunked) => {
                write_chunk_line(data.len(), &mut output.buffer);
                output.data = data;
                output.tail = b"\r\n";
                Ok(Poll::Ready(false))
            }
            (Ok(data), Framing::Length(left)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength("request", "longer"))?;
                output.data = data;
                Ok(Poll::Ready(*left == 0 && self.body.is_end_stream()))
            }
            (Err(frame), Framing::Chunked) => {
                write_last_chunk(&frame.into_trailers().unwrap_or_default(), &mut output.buffer);
                Ok(Poll::Ready(true))
            }
            // A body of a length has no trailers.
            (Err(_), _) | (Ok(_), Framing::Nothing) => Ok(Poll::Ready(false)),
        }
    }
}
