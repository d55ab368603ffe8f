//! WASI 0.3.

use super::HostState;
use crate::input::GuestInput;
use crate::output::{self, StdStream};
use crate::{files, net};
use bytes::BytesMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Destination, FutureReader, HasData, HasSelf, Linker, Resource, Source, StreamConsumer,
    StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::StdinStream;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p3::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p3::cli::{TerminalInput, TerminalOutput};
use wasmtime_wasi::sockets::WasiSockets;

/// All of `wasi:cli/imports@0.3` and `wasi:http@0.3`.
pub(super) fn link(l: &mut Linker<HostState>) -> wasmtime::Result<()> {
    clocks::types::add_to_linker::<HostState, WasiClocks>(l, HostState::clocks)?;
    clocks::system_clock::add_to_linker::<HostState, WasiClocks>(l, HostState::clocks)?;
    clocks::monotonic_clock::add_to_linker::<HostState, WasiClocks>(l, HostState::clocks)?;
    filesystem::types::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    filesystem::preopens::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    files::link_p3(l)?;
    sockets::types::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    net::link_p3(l)?;

    random::random::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    random::insecure::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    random::insecure_seed::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::exit::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::environment::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::stdin::add_to_linker::<HostState, Stdio>(l, |state| state)?;
    cli::stdout::add_to_linker::<HostState, Stdio>(l, |state| state)?;
    cli::stderr::add_to_linker::<HostState, Stdio>(l, |state| state)?;
    cli::terminal_input::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_output::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stdin::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stdout::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stderr::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;

    wasmtime_wasi_http::p3::add_to_linker(l)
}

/// The three standard streams.
struct Stdio;

impl HasData for Stdio {
    type Data<'a> = &'a mut HostState;
}

/// What reading and writing can end with.
type StreamEnd = Result<(), cli::types::ErrorCode>;

impl cli::stdin::Host for HostState {}
impl cli::stdout::Host for HostState {}
impl cli::stderr::Host for HostState {}

impl<U> cli::stdin::HostWithStore<U> for Stdio {
    fn read_via_stream(
        mut store: Access<'_, U, Self>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<StreamEnd>)> {
        let input = GuestInput(store.get().container.spec.input.clone()).async_stream();
        let (failed, failure) = oneshot::channel();
        let reader = Input { reader: Box::into_pin(input), failed: Some(failed) };
        let stream = StreamReader::new(&mut store, reader)?;
        Ok((stream, FutureReader::new(&mut store, end(failure))?))
    }
}

impl<U> cli::stdout::HostWithStore<U> for Stdio {
    fn write_via_stream(
        store: Access<'_, U, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        write_to(StdStream::Stdout, store, data)
    }
}

impl<U> cli::stderr::HostWithStore<U> for Stdio {
    fn write_via_stream(
        store: Access<'_, U, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        write_to(StdStream::Stderr, store, data)
    }
}

fn write_to<U>(
    stream: StdStream,
    mut store: Access<'_, U, Stdio>,
    data: StreamReader<u8>,
) -> wasmtime::Result<FutureReader<StreamEnd>> {
    let (failed, failure) = oneshot::channel();
    let output = store.get().output(stream);
    data.pipe(&mut store, Sink { output, _failed: failed })?;
    FutureReader::new(&mut store, end(failure))
}

/// Resolves when the stream is done with: to an error if one was sent.
async fn end(failure: oneshot::Receiver<cli::types::ErrorCode>) -> wasmtime::Result<StreamEnd> {
    Ok(failure.await.map_or(Ok(()), Err))
}

/// Standard input, as the guest reads it.
struct Input {
    reader: Pin<Box<dyn AsyncRead + Send + Sync>>,
    failed: Option<oneshot::Sender<cli::types::ErrorCode>>,
}

/// The most that is read at once, in bytes.
const READ_AT_ONCE: usize = 8 * 1024;

impl<D> StreamProducer<D> for Input {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, BytesMut>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of nothing asks whether something is there, which this kind of reader can't say.
        if destination.remaining(store.as_context_mut()) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut destination = destination.as_direct(store, READ_AT_ONCE);
        let mut buffer = ReadBuf::new(destination.remaining());
        let result = match self.reader.as_mut().poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => StreamResult::Dropped,
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                destination.mark_written(read);
                StreamResult::Completed
            }
            Poll::Ready(Err(_)) => {
                if let Some(failed) = self.failed.take() {
                    let _ = failed.send(cli::types::ErrorCode::Io);
                }
                StreamResult::Dropped
            }
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Ok(result))
    }
}

/// Standard output or standard error, as the guest writes it.
struct Sink {
    output: Arc<output::Shared>,
    /// Dropped with the stream, which resolves the guest's future.
    _failed: oneshot::Sender<cli::types::ErrorCode>,
}

impl<D> StreamConsumer<D> for Sink {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let result = match self.output.poll_write(cx, source.remaining()) {
            Poll::Ready(written) => {
                source.mark_read(written);
                StreamResult::Completed
            }
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Ok(result))
    }
}

impl cli::environment::Host for HostState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.container.spec.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.container.spec.args.clone())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.container.spec.working_dir.clone())
    }
}

impl cli::exit::Host for HostState {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(status.is_err()))))
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(status))))
    }
}

// No guest has a terminal.

impl cli::terminal_stdin::Host for HostState {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for HostState {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for HostState {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_input::Host for HostState {}
impl cli::terminal_input::HostTerminalInput for HostState {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for HostState {}
impl cli::terminal_output::HostTerminalOutput for HostState {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl random::random::Host for HostState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        // Fewer are allowed; the guest asks again.
        self.random_bytes(len.min(self.container.host_limits.random))
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

impl random::insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len.min(self.container.host_limits.random))
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

impl random::insecure_seed::Host for HostState {
    fn get_insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(rand::random())
    }
}
