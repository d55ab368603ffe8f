//! What leaves HTTP: the stream a target hands over with `101 Switching Protocols` is joined to the client's.
//!
//! Over HTTP/1.1 that is the client's connection, which goes on in the same task and under the same limits. Over HTTP/2
//! it is one stream of a connection ([`websocket`](crate::websocket)), which goes on in a task of its own.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::handler::InFlight;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The target's side of a connection that has left HTTP, in the extensions of a response with status 101.
/// The router joins it to the client's side. Clones are handles to the same stream, which is taken once.
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<Option<Box<dyn Duplex>>>>);

impl Upgrade {
    /// Hands over `io`.
    pub fn new<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: T) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(io)))))
    }

    /// The stream, the first time it is asked for.
    #[must_use]
    pub fn take(&self) -> Option<Box<dyn Duplex>> {
        self.0.lock().take()
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

/// Bytes that are on their way through, in each direction.
const BUFFER: usize = 8 * 1024;

/// A tunnel in the extensions of the answer that begins it, until somebody who knows the client's side takes it.
#[derive(Clone)]
pub(crate) struct Begun(Arc<Mutex<Option<Tunnel>>>);

impl Begun {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(Mutex::new(Some(tunnel))))
    }

    pub(crate) fn take(&self) -> Option<Tunnel> {
        self.0.lock().take()
    }
}

/// The target's side of what is about to leave HTTP.
pub(crate) struct Tunnel {
    target: Box<dyn Duplex>,
    /// The request that led here: it is in flight until the tunnel ends.
    in_flight: Box<InFlight>,
}

impl Tunnel {
    pub(crate) fn new(target: Box<dyn Duplex>, in_flight: Box<InFlight>) -> Self {
        Self { target, in_flight }
    }

    /// Passes bytes both ways until both sides have ended or one has failed.
    pub(crate) async fn run<T>(self, mut client: T, connection: &Connection)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { mut target, in_flight } = self;
        connection.tunnel_started();
        if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut target, BUFFER, BUFFER).await {
            tracing::debug!(%error, "an upgraded connection ended early");
        }
        drop(in_flight);
    }

    /// The same for one stream of a connection that goes on: it ends, too, when for so long no bytes have passed.
    pub(crate) async fn run_stream<T>(self, mut client: T, longest_silence: Duration)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { mut target, in_flight } = self;
        let mut copied = pin!(copy_bidirectional_with_sizes(&mut client, &mut target, BUFFER, BUFFER));
        let mut silence = pin!(sleep(longest_silence));
        poll_fn(|cx| {
            if silence.as_mut().poll(cx).is_ready() {
                tracing::debug!("a silent stream is closed");
                return Poll::Ready(());
            }
            // Whoever else has woken us has bytes, or room for some.
            silence.as_mut().reset(Instant::now() + longest_silence);
            copied.as_mut().poll(cx).map(|ended| {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an upgraded stream ended early");
                }
            })
        })
        .await;
        drop(in_flight);
    }
}
