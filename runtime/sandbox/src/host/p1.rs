//! Core modules: `wasi_snapshot_preview1`, and its predecessor `wasi_unstable`.

use super::HostState;
use crate::container::Shared;
use crate::files;
use crate::input::GuestInput;
use crate::output::{self, GuestStream, StdStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::OutputStream;
use wasmtime_wasi::{WasiCtxBuilder, WasiView};

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, HostState::p1)?;
    wasmtime_wasi::p0::add_to_linker_async(linker, HostState::p1)?;
    files::link_p1(linker)
}

impl HostState {
    /// What a core module's imports work on; `wasi` has the files and sockets already.
    pub(crate) fn p1_context(container: &Shared, mut wasi: WasiCtxBuilder) -> WasiP1Ctx {
        let limits = container.host_limits;
        wasi.args(&container.spec.args)
            .envs(&container.spec.env)
            .max_random_size(limits.random)
            .stdin(GuestInput(container.spec.input.clone()))
            .stdout(ContainerStream::new(container, StdStream::Stdout))
            .stderr(ContainerStream::new(container, StdStream::Stderr));
        let mut context = wasi.build_p1();
        context.ctx().table.set_max_capacity(limits.resources);
        context
    }
}

/// One of a container's output streams in the form that wasmtime's context takes.
struct ContainerStream(Arc<output::Shared>);

impl ContainerStream {
    fn new(container: &Shared, stream: StdStream) -> Self {
        ContainerStream(output::Shared::new(container.spec.output.clone(), stream))
    }
}

impl IsTerminal for ContainerStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for ContainerStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(GuestStream::new(self.0.clone()))
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(ContainerStream(self.0.clone()))
    }
}

impl AsyncWrite for ContainerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.poll_write(cx, bytes).map(Ok)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
