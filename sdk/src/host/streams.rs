//! Bodies as the host's streams.

use std::rc::Rc;

use bytes::Bytes;
use wasip2::http::types::{IncomingBody as IncomingHandle, OutgoingBody as OutgoingHandle};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::executor::until;
use crate::Error;
use crate::http::{Body, BodyError, Content, Sink, Writer};

/// The most that is read or moved at once, in bytes.
const PIECE: u64 = 64 << 10;

/// A body that comes from the host.
pub(crate) struct IncomingBody {
    // Before the body, whose child it is.
    stream: InputStream,
    _body: IncomingHandle,
}

impl IncomingBody {
    pub(super) fn new(body: IncomingHandle) -> Self {
        let stream = body.stream().expect("a body has one stream, taken here first");
        Self { stream, _body: body }
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            match self.stream.read(PIECE) {
                Ok(piece) if piece.is_empty() => until(self.stream.subscribe()).await,
                Ok(piece) => return Ok(Some(piece.into())),
                Err(StreamError::Closed) => return Ok(None),
                Err(error) => return Err(body_error(error)),
            }
        }
    }
}

/// A body that goes to the host.
pub(crate) struct OutgoingBody {
    // Before the body, whose child it is.
    stream: OutputStream,
    _body: Rc<OutgoingHandle>,
}

impl OutgoingBody {
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BodyError> {
        while !bytes.is_empty() {
            let room = self.stream.check_write().map_err(body_error)?;
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            if room == 0 {
                until(self.stream.subscribe()).await;
                continue;
            }
            let (now, later) = bytes.split_at(room);
            self.stream.write(now).map_err(body_error)?;
            bytes = later;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), BodyError> {
        self.stream.flush().map_err(body_error)?;
        until(self.stream.subscribe()).await;
        self.stream.check_write().map_err(body_error).map(drop)
    }
}

/// Sends a body to its end. Unless it gets there, its reader learns that it is not whole.
pub(super) async fn send(body: Body, to: OutgoingHandle) -> Result<(), Error> {
    let to = Rc::new(to);
    let stream = to.write().expect("a body has one stream, taken here first");
    let mut outgoing = OutgoingBody { stream, _body: Rc::clone(&to) };
    match body.0 {
        Content::Whole(bytes) => outgoing.write(&bytes).await?,
        Content::Incoming(incoming) => splice(&incoming, &outgoing)?,
        Content::Producer(produce) => {
            produce(Writer(Sink::Host(outgoing))).await?;
            return finish(to);
        }
        Content::Producing(_) => {
            let mut body = body;
            while let Some(piece) = body.chunk().await? {
                outgoing.write(&piece).await?;
            }
        }
    }
    drop(outgoing);
    finish(to)
}

/// Lets the host move the pieces.
fn splice(incoming: &IncomingBody, outgoing: &OutgoingBody) -> Result<(), BodyError> {
    loop {
        match outgoing.stream.blocking_splice(&incoming.stream, PIECE) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(body_error(error)),
        }
    }
}

fn finish(body: Rc<OutgoingHandle>) -> Result<(), Error> {
    // Whoever keeps the writer has not finished.
    if let Some(body) = Rc::into_inner(body) {
        // Why is one of forty cases, whose words would make every component larger by a tenth.
        OutgoingHandle::finish(body, None)
            .map_err(|_| Error::internal("the body is not as long as its content-length says"))?;
    }
    Ok(())
}

fn body_error(error: StreamError) -> BodyError {
    match error {
        StreamError::Closed => BodyError::EndedEarly("nobody reads it any more".to_owned()),
        StreamError::LastOperationFailed(error) => BodyError::EndedEarly(error.to_debug_string()),
    }
}
