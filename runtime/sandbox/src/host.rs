//! What a store holds beside the guest, and the host functions that use it.
//!
//! Files, sockets, clocks, streams and HTTP types are wasmtime-wasi's. Environment, arguments, output and random
//! are our own small implementations: theirs want everything copied into every store, and a store lives for one
//! request. Here all of it stays in the container, and costs something only when a guest asks.

use crate::container::Shared;
use crate::memory::Limiter;
use crate::network::NetPolicy;
use crate::outgoing;
use crate::output::{self, GuestStream, StdStream};
use http::HeaderName;
use rand::RngCore;
use std::sync::{Arc, LazyLock};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The data of one store.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: Hooks,
    filesystem: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
    clocks: WasiClocksCtx,
    stdout: Option<Arc<output::Shared>>,
    stderr: Option<Arc<output::Shared>>,
    container: Arc<Shared>,
}

/// Host-side limits that follow from a container's memory: no knob of wasmtime is left at its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostLimits {
    /// Bytes one call may carry from the guest to the host.
    pub(crate) hostcall_bytes: usize,
    /// Handles of the component model.
    pub(crate) handles: usize,
    /// Resources the host keeps for the guest.
    resources: usize,
    /// Bytes of one set of header fields, bookkeeping included.
    fields: usize,
    /// Bytes of random at once.
    random: u64,
    /// Bytes of an outgoing body at once; two of them may be waiting.
    body_chunk: usize,
}

impl HostLimits {
    /// A part of the memory limit for each, never more than wasmtime's defaults, never so little that ordinary
    /// guests would notice. What an instance makes the host hold is not charged to the memory budget, so these
    /// bound it: as many resources as there may be, each a full set of header fields, or a third of them a body
    /// with two chunks waiting, are about three times the limit, and more only below 64 MiB.
    pub(crate) fn for_memory(limit: u64) -> HostLimits {
        let part = |divisor: u64, least: u64, most: u64| {
            usize::try_from((limit / divisor).clamp(least, most)).unwrap_or(usize::MAX)
        };
        HostLimits {
            hostcall_bytes: part(2, 1 << 20, 128 << 20),
            // A handle costs the host about 100 bytes, a resource about 200 and what it holds, which may also be
            // a file descriptor of this process.
            handles: part(1000, 1000, 100_000),
            resources: part(64 << 10, 1000, 16_384),
            fields: part(2048, 32 << 10, 128 << 10),
            random: part(16, 64 << 10, 64 << 20) as u64,
            body_chunk: part(4096, 64 << 10, 1 << 20),
        }
    }
}

impl State {
    pub(crate) fn new(container: Arc<Shared>, limiter: Limiter) -> State {
        let limits = container.host_limits;
        let mut table = ResourceTable::with_capacity(16);
        table.set_max_capacity(limits.resources);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.fields);
        State {
            limiter,
            table,
            http,
            hooks: Hooks { network: container.network.clone(), body_chunk: limits.body_chunk },
            filesystem: container.filesystem.clone(),
            sockets: container.sockets.clone(),
            clocks: WasiClocksCtx::default(),
            stdout: None,
            stderr: None,
            container,
        }
    }

    fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.filesystem, table: &mut self.table }
    }

    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }

    fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView { ctx: &mut self.clocks, table: &mut self.table }
    }

    fn stream(&mut self, stream: StdStream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let slot = match stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        let shared = slot
            .get_or_insert_with(|| output::Shared::new(self.container.spec.output.clone(), stream))
            .clone();
        let stream: DynOutputStream = Box::new(GuestStream::new(shared));
        Ok(self.table.push(stream)?)
    }

    fn random_bytes(&self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let limit = self.container.host_limits.random;
        if len > limit {
            return Err(wasmtime::format_err!("{len} random bytes at once; the limit is {limit}"));
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        rand::rng().fill_bytes(&mut bytes);
        Ok(bytes)
    }
}

/// Everything a component may import: all of `wasi:cli/imports` and `wasi:http`, for everybody.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<State, HasSelf<ResourceTable>>(l, |state| &mut state.table)?;
    io::poll::add_to_linker::<State, HasSelf<ResourceTable>>(l, |state| &mut state.table)?;
    io::streams::add_to_linker::<State, HasSelf<ResourceTable>>(l, |state| &mut state.table)?;

    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;

    sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<State, WasiSockets>(l, &options, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;

    random::random::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::insecure::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::insecure_seed::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::exit::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::environment::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::stdin::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::stdout::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::stderr::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::terminal_input::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::terminal_output::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::terminal_stdin::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::terminal_stdout::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::terminal_stderr::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;

    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    bound_outgoing_requests(l)?;
    Ok(linker)
}

/// The interface as wasmtime links it.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";

/// The longest method and authority of an outgoing request, in bytes. The rest of its head is bounded already.
const LONGEST_NAME: usize = 4096;

/// wasmtime keeps methods and authorities of any length, one for each request that a guest makes and never sends:
/// thousands of them, each as large as one call can carry. Longer ones are refused as if they were malformed.
fn bound_outgoing_requests(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime::StoreContextMut;
    use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method};
    use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

    linker.allow_shadowing(true);
    let mut types = linker.instance(HTTP_TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>,
         (request, method): (Resource<HostOutgoingRequest>, Method)| {
            if matches!(&method, Method::Other(name) if name.len() > LONGEST_NAME) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>,
         (request, authority): (Resource<HostOutgoingRequest>, Option<String>)| {
            if authority.as_ref().is_some_and(|authority| authority.len() > LONGEST_NAME) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(request, authority)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl cli::environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.container.spec.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.container.spec.args.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for State {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(status.is_err()))))
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(status))))
    }
}

impl cli::stdin::Host for State {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        use wasmtime_wasi::cli::StdinStream;
        let stream = if self.container.spec.inherit_stdin {
            wasmtime_wasi::cli::stdin().p2_stream()
        } else {
            tokio::io::empty().p2_stream()
        };
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.stream(StdStream::Stdout)
    }
}

impl cli::stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.stream(StdStream::Stderr)
    }
}

// No guest has a terminal: its output goes to a sink, and its input is a pipe at best.

impl cli::terminal_stdin::Host for State {
    fn get_terminal_stdin(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for State {
    fn get_terminal_stdout(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for State {
    fn get_terminal_stderr(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_input::Host for State {}
impl cli::terminal_input::HostTerminalInput for State {
    fn drop(&mut self, terminal: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for State {}
impl cli::terminal_output::HostTerminalOutput for State {
    fn drop(&mut self, terminal: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

// The host's generator is as fast as an insecure one would be.
impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(rand::random())
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Policy of `wasi:http`.
struct Hooks {
    network: Arc<NetPolicy>,
    body_chunk: usize,
}

/// Shared, because wasmtime's default allocates one per header looked at.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        FORBIDDEN.clone()
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        self.body_chunk
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    // wasmtime's defaults log a warning for each: guests must not be able to fill the host's log.
    fn p2_error_from_hyper(&mut self, _error: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<outgoing::Sent, HttpError>> + Send> {
        Box::new(outgoing::send(self.network.clone(), request, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_containers_hold_little_on_the_host() {
        let small = HostLimits::for_memory(16 << 20);
        let large = HostLimits::for_memory(u64::MAX);
        assert_eq!(small.body_chunk, 64 << 10);
        assert_eq!(small.hostcall_bytes, 8 << 20);
        assert_eq!(large.hostcall_bytes, 128 << 20);
        assert_eq!(large.fields, 128 << 10);
        assert!(small.resources < large.resources);
    }

    #[test]
    fn what_the_host_holds_is_in_proportion_to_the_limit() {
        for mib in [64_u64, 128, 256, 512, 1024, 2048, 4096, 65_536] {
            let limits = HostLimits::for_memory(mib << 20);
            let headers = limits.resources * limits.fields;
            // A request, its headers or its stream, and its body.
            let bodies = limits.resources / 3 * 2 * limits.body_chunk;
            assert!(headers.max(bodies) as u64 <= 3 * (mib << 20), "{mib} MiB: {headers} {bodies}");
        }
    }
}
