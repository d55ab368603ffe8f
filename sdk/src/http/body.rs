//! Bodies: whole, or in pieces as they come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

use super::request::MAX_BODY;
use crate::{Error, host};

/// The body of a request or response.
///
/// It is whole, or comes from the host piece by piece, or is made piece by piece by [`Body::stream`]. A body that came
/// in can be sent on: its pieces are then moved by the host, however many there are.
#[derive(Default)]
pub struct Body(pub(crate) Content);

/// Where the pieces come from.
pub(crate) enum Content {
    Whole(Bytes),
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "natively there is no host"))]
    Incoming(host::IncomingBody),
    /// Not begun yet.
    Producer(Producer),
    /// Read by the guest itself.
    Producing(Producing),
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

type Work = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

pub(crate) type Producer = Box<dyn FnOnce(Writer) -> Work>;

/// A producer whose pieces are wanted here.
pub(crate) struct Producing {
    work: Work,
    pieces: Rc<RefCell<VecDeque<Bytes>>>,
}

/// Why a body is not there as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It did not come, or did not go, to its end, for this reason.
    EndedEarly(String),
    /// It has more than this many bytes.
    TooLarge(usize),
    /// It is not UTF-8, for this reason.
    NoText(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndedEarly(reason) => write!(f, "the body ended early: {reason}"),
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit} bytes"),
            Self::NoText(reason) => write!(f, "the body is no text: {reason}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// Where a body that is being made goes.
pub struct Writer(pub(crate) Sink);

pub(crate) enum Sink {
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "natively there is no host"))]
    Host(host::OutgoingBody),
    Here(Rc<RefCell<VecDeque<Bytes>>>),
}

impl Writer {
    /// Sends a piece as soon as the reader wants it.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), BodyError> {
        let piece = piece.into();
        match &mut self.0 {
            Sink::Host(body) => body.write(&piece).await,
            Sink::Here(pieces) => {
                pieces.borrow_mut().push_back(piece);
                // Polled again by whoever takes the piece.
                poll_fn(|_| if pieces.borrow().is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending })
                    .await
            }
        }
    }

    /// Waits until the host has sent what was written. Not needed for it to be sent.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub async fn flush(&mut self) -> Result<(), BodyError> {
        match &mut self.0 {
            Sink::Host(body) => body.flush().await,
            Sink::Here(_) => Ok(()),
        }
    }
}

impl Body {
    /// A body that is made while it is sent, after the head of its response.
    ///
    /// ```
    /// # use coracle_sdk::http::Body;
    /// # coracle_sdk::block_on(async {
    /// let mut body = Body::stream(async |mut writer| {
    ///     for number in 1..=3 {
    ///         writer.write(format!("data: {number}\n\n")).await?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(body.text().await.unwrap(), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    /// # });
    /// ```
    ///
    /// When it fails, the connection is cut, so that the client knows.
    pub fn stream(produce: impl AsyncFnOnce(Writer) -> Result<(), Error> + 'static) -> Self {
        Self(Content::Producer(Box::new(move |writer| Box::pin(async move { produce(writer).await }))))
    }

    /// The next piece; None at the end.
    ///
    /// # Errors
    /// When it does not come to its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Content::Producer(_) = self.0
            && let Content::Producer(produce) = std::mem::take(&mut self.0)
        {
            let pieces = Rc::default();
            let work = produce(Writer(Sink::Here(Rc::clone(&pieces))));
            self.0 = Content::Producing(Producing { work, pieces });
        }
        match &mut self.0 {
            Content::Whole(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Content::Incoming(body) => body.chunk().await,
            Content::Producing(producing) => {
                let next = producing.next().await;
                if !matches!(next, Ok(Some(_))) {
                    self.0 = Content::default();
                }
                next
            }
            Content::Producer(_) => Ok(None),
        }
    }

    /// All of it, up to [`MAX_BODY`].
    ///
    /// # Errors
    /// When it is larger, or does not come to its end.
    pub async fn bytes(&mut self) -> Result<Bytes, BodyError> {
        self.bytes_up_to(MAX_BODY).await
    }

    /// All of it, up to so many bytes: a guest's memory has a limit, and clients send what they want.
    ///
    /// # Errors
    /// When it is larger, or does not come to its end.
    pub async fn bytes_up_to(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        // Most bodies come whole, or in one piece.
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(&first[..]);
        let mut next = Some(second);
        while let Some(piece) = next {
            if all.len() + piece.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            all.extend_from_slice(&piece);
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }

    /// All of it as text.
    ///
    /// # Errors
    /// As [`Body::bytes`], and when it is not UTF-8.
    pub async fn text(&mut self) -> Result<String, BodyError> {
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|error| BodyError::NoText(error.to_string()))
    }

    /// All of it as JSON.
    ///
    /// # Errors
    /// As [`Body::bytes`], and when it is not what `T` takes.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.bytes().await?)?)
    }

    /// Its length in bytes, where that is known before it is read.
    #[must_use]
    pub fn known_length(&self) -> Option<usize> {
        match &self.0 {
            Content::Whole(bytes) => Some(bytes.len()),
            Content::Incoming(_) | Content::Producer(_) | Content::Producing(_) => None,
        }
    }
}

impl Producing {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        poll_fn(|cx| {
            let done = self.work.as_mut().poll(cx);
            if let Some(piece) = self.pieces.borrow_mut().pop_front() {
                // What is over must not be polled again.
                if let Poll::Ready(end) = done {
                    self.work = Box::pin(std::future::ready(end));
                }
                return Poll::Ready(Ok(Some(piece)));
            }
            match done {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(BodyError::EndedEarly(error.to_string()))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_length() {
            Some(length) => write!(f, "Body({length} bytes)"),
            None => f.write_str("Body(in pieces)"),
        }
    }
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl From<$type> for Body {
            fn from(content: $type) -> Self {
                Self(Content::Whole(content.into()))
            }
        }
    )*};
}

whole!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[crate::test]
    async fn pieces_come_one_by_one_and_end() {
        let mut body = Body::stream(async |mut writer| {
            writer.write("a").await?;
            writer.write("b").await?;
            Ok(())
        });
        assert_eq!(body.chunk().await.unwrap().unwrap(), "a");
        assert_eq!(body.chunk().await.unwrap().unwrap(), "b");
        assert_eq!(body.chunk().await.unwrap(), None);
        assert_eq!(body.chunk().await.unwrap(), None);
    }

    #[crate::test]
    async fn a_producer_that_fails_is_no_end() {
        let mut body = Body::stream(async |mut writer| {
            writer.write("a").await?;
            Err(Error::internal("the disk is full"))
        });
        assert!(body.bytes().await.unwrap_err().to_string().contains("the disk is full"));
    }

    #[crate::test]
    async fn what_is_too_large_is_not_taken() {
        let mut body = Body::from("12345");
        assert!(body.bytes_up_to(4).await.is_err());
        let mut body = Body::stream(async |mut writer| {
            loop {
                writer.write("for ever").await?;
            }
        });
        assert!(body.bytes_up_to(100).await.unwrap_err().to_string().contains("100 bytes"));
        assert_eq!(Body::from("12345").bytes_up_to(5).await.unwrap(), "12345");
    }
}
