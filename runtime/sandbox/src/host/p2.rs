//! WASI 0.2.

use super::HostState;
use super::held::charge_p2_fields;
use super::http::bound_p2_requests;
use super::outgoing_body::charge_p2_bodies;
use crate::input::GuestInput;
use crate::output::{GuestStream, StdStream};
use crate::{files, net};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::StdinStream;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::sockets::WasiSockets;

/// All of `wasi:cli/imports@0.2` and `wasi:http@0.2`.
pub(super) fn link(l: &mut Linker<HostState>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<HostState, HasSelf<ResourceTable>>(l, HostState::table)?;
    io::poll::add_to_linker::<HostState, HasSelf<ResourceTable>>(l, HostState::table)?;
    io::streams::add_to_linker::<HostState, HasSelf<ResourceTable>>(l, HostState::table)?;

    clocks::wall_clock::add_to_linker::<HostState, WasiClocks>(l, HostState::clocks)?;
    clocks::monotonic_clock::add_to_linker::<HostState, WasiClocks>(l, HostState::clocks)?;
    filesystem::types::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    filesystem::preopens::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    files::link_p2(l)?;

    sockets::tcp::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    sockets::udp::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    sockets::instance_network::add_to_linker::<HostState, WasiSockets>(l, HostState::sockets)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<HostState, WasiSockets>(l, &options, HostState::sockets)?;
    net::link_p2(l)?;

    random::random::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    random::insecure::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    random::insecure_seed::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::exit::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::environment::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::stdin::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::stdout::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::stderr::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_input::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_output::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stdin::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stdout::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;
    cli::terminal_stderr::add_to_linker::<HostState, HasSelf<HostState>>(l, |state| state)?;

    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    bound_p2_requests(l)?;
    charge_p2_fields(l)?;
    charge_p2_bodies(l)
}

impl cli::environment::Host for HostState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.container.spec.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.container.spec.args.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
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

impl cli::stdin::Host for HostState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream = GuestInput(self.container.spec.input.clone()).p2_stream();
        Ok(self.table().push(stream)?)
    }
}

impl cli::stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(GuestStream::new(self.output(StdStream::Stdout)));
        Ok(self.table().push(stream)?)
    }
}

impl cli::stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(GuestStream::new(self.output(StdStream::Stderr)));
        Ok(self.table().push(stream)?)
    }
}

// No guest has a terminal: its output goes to a sink, and its input is a pipe at best.

impl cli::terminal_stdin::Host for HostState {
    fn get_terminal_stdin(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for HostState {
    fn get_terminal_stdout(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for HostState {
    fn get_terminal_stderr(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_input::Host for HostState {}
impl cli::terminal_input::HostTerminalInput for HostState {
    fn drop(&mut self, terminal: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for HostState {}
impl cli::terminal_output::HostTerminalOutput for HostState {
    fn drop(&mut self, terminal: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl random::random::Host for HostState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

// The host's generator is as fast as an insecure one would be.
impl random::insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

impl random::insecure_seed::Host for HostState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(rand::random())
    }
}
