//! `wasi:tls`: TLS that guests speak over sockets of their own, as far as their network lets them.
//!
//! The handshake is wasmtime's interface around our client, so it trusts the authorities that outgoing `https` trusts. A
//! name a guest asks for is checked by the rules that hold for connections: whoever may reach a host at some port may
//! speak TLS with it. Where the bytes go is the socket's affair, which is checked by itself; the certificate ties the two
//! together.

use super::Network;
use super::egress::is_localhost;
use crate::host::HostState;
use crate::memory::{MemoryBudget, MemoryHold};
use rustls::pki_types::ServerName;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use wasmtime::component::Linker;
use wasmtime_wasi_tls::p2::LinkOptions;
use wasmtime_wasi_tls::{Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder};

/// `wasi:tls@0.2.0-draft`.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut options = LinkOptions::default();
    // Components that import it say so by name; there is nothing to keep from the others.
    options.tls(true);
    wasmtime_wasi_tls::p2::add_to_linker(linker, &options)
}

/// `wasi:tls@0.3.0-draft`. Connectors are charged by [`crate::host`], which knows its tables.
pub(crate) fn link_p3(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi_tls::p3::add_to_linker(linker)
}

/// What the interface works on. `memory` pays for its connections.
pub(crate) fn context(network: &Network, memory: &MemoryBudget) -> WasiTlsCtx {
    let provider = Provider { network: network.clone(), memory: memory.clone() };
    WasiTlsCtxBuilder::new().provider(Box::new(provider)).build()
}

struct Provider {
    network: Network,
    memory: MemoryBudget,
}

/// What a connection holds on the host: records on their way in and out, each of 16 KiB, sealed and (in WASI 0.3) once
/// more in plain, and the keys.
const CONNECTION: u64 = 80 << 10;

impl Provider {
    fn may_speak_with(&self, name: &str) -> bool {
        let address = name.parse::<IpAddr>().map(|address| address.to_canonical());
        let own = is_localhost(name) || address.is_ok_and(|address| address.is_loopback());
        own && self.network.loopback().is_some() || self.network.policy().allows_at_some_port(name)
    }
}

impl TlsProvider for Provider {
    fn connect(
        &self,
        server_name: String,
        transport: Box<dyn TlsTransport>,
    ) -> Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>> {
        if !self.may_speak_with(&server_name) {
            let name: String = server_name.chars().take(255).collect();
            let denied = Error::msg(format!("no egress rule allows {name:?}"));
            return Box::pin(std::future::ready(Err(denied)));
        }
        let Some(held) = self.memory.hold(CONNECTION) else {
            let refused = Error::msg("the memory limit does not allow another TLS connection");
            return Box::pin(std::future::ready(Err(refused)));
        };
        let connector = TlsConnector::from(self.network.0.spec.tls.config_for_any_protocol());
        Box::pin(async move {
            let name = ServerName::try_from(server_name).map_err(Error::msg)?;
            let stream = connector.connect(name, transport).await?;
            Ok(Box::new(Stream { stream, _held: held }) as Box<dyn TlsStream>)
        })
    }
}

/// A connection, and the memory it is charged with.
struct Stream {
    stream: client::TlsStream<Box<dyn TlsTransport>>,
    _held: MemoryHold,
}

impl TlsStream for Stream {}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
