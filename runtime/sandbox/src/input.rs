//! Standard input: where a guest's comes from.

use std::fmt;
use std::sync::Arc;
use tokio::io::AsyncRead;
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdinStream};
use wasmtime_wasi::p2::InputStream;

/// Where a guest's standard input comes from. Clones share it.
#[derive(Clone, Default)]
pub enum Input {
    /// Nowhere: there is nothing to read, and its end comes at once.
    #[default]
    Empty,
    /// From this process's own standard input. For one run at a time.
    Inherited,
    /// From a reader, see [`Input::from_reader`]. For one run at a time: what one instance has read no other gets.
    Reader(SharedReader),
}

/// The reader of [`Input::from_reader`].
#[derive(Clone)]
pub struct SharedReader(Arc<AsyncStdinStream>);

impl Input {
    /// What comes from `reader`, as the guest asks for it; its end is the end of the input. Must be called on a tokio
    /// runtime: a task reads one chunk ahead, and ends with the last clone of this.
    pub fn from_reader(reader: impl AsyncRead + Send + Sync + 'static) -> Self {
        Input::Reader(SharedReader(Arc::new(AsyncStdinStream::new(reader))))
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Input::Empty => "Empty",
            Input::Inherited => "Inherited",
            Input::Reader(_) => "Reader",
        })
    }
}

/// A container's input in the form that wasmtime's contexts take.
pub(crate) struct GuestInput(pub(crate) Input);

impl IsTerminal for GuestInput {
    fn is_terminal(&self) -> bool {
        matches!(self.0, Input::Inherited) && wasmtime_wasi::cli::stdin().is_terminal()
    }
}

impl StdinStream for GuestInput {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        match &self.0 {
            Input::Empty => Box::new(tokio::io::empty()),
            Input::Inherited => wasmtime_wasi::cli::stdin().async_stream(),
            Input::Reader(reader) => reader.0.async_stream(),
        }
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        match &self.0 {
            Input::Empty => tokio::io::empty().p2_stream(),
            Input::Inherited => wasmtime_wasi::cli::stdin().p2_stream(),
            Input::Reader(reader) => reader.0.p2_stream(),
        }
    }
}
