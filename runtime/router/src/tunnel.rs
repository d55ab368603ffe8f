//! Connections that left HTTP: what a target hands over with `101 Switching Protocols`.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

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
