//! `wasi:http`: policy, and bounds that wasmtime does not set.

use super::HostState;
use super::outgoing_body::charged;
use crate::memory::MemoryBudget;
use crate::net::{self, Answering, Network};
use http::HeaderName;
use std::sync::{Arc, LazyLock};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{self as p2, ErrorCode};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::http::types as p3_types;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.table();
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Policy of `wasi:http`.
pub(super) struct Hooks {
    pub(super) network: Network,
    /// What connections and bodies are charged to.
    pub(super) memory: MemoryBudget,
    /// Whether the bodies of outgoing requests are charged on their way out.
    pub(super) charges_requests: bool,
    /// What outgoing requests are made for.
    pub(super) answering: Answering,
    pub(super) body_chunk: usize,
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

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
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
    ) -> Box<dyn Future<Output = Result<net::Sent, HttpError>> + Send> {
        let request = match self.charges_requests {
            true => request.map(|body| charged(body, &self.memory)),
            false => request,
        };
        let (network, memory) = (self.network.clone(), self.memory.clone());
        Box::new(net::send(network, memory, self.answering.hops(), request, options))
    }
}

/// The interfaces as wasmtime links them.
const P2_TYPES: &str = "wasi:http/types@0.2.12";
const P3_TYPES: &str = "wasi:http/types@0.3.0";

/// The longest method and authority of an outgoing request, in bytes. The rest of its head is bounded already.
const LONGEST_NAME: usize = 4096;

fn too_long(name: &str) -> bool {
    name.len() > LONGEST_NAME
}

/// wasmtime keeps methods and authorities of any length, one for each request that a guest makes and never sends:
/// thousands of them, each as large as one call can carry. Longer ones are refused as if they were malformed.
pub(super) fn bound_p2_requests(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(P2_TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, HostState>,
         (request, method): (Resource<HostOutgoingRequest>, p2::Method)| {
            if matches!(&method, p2::Method::Other(name) if too_long(name)) {
                return Ok((Err(()),));
            }
            Ok((p2::HostOutgoingRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, HostState>,
         (request, authority): (Resource<HostOutgoingRequest>, Option<String>)| {
            if authority.as_deref().is_some_and(too_long) {
                return Ok((Err(()),));
            }
            Ok((p2::HostOutgoingRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same for WASI 0.3.
pub(super) fn bound_p3_requests(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(P3_TYPES)?;
    types.func_wrap(
        "[method]request.set-method",
        |mut store: StoreContextMut<'_, HostState>,
         (request, method): (Resource<p3::Request>, p3_types::Method)| {
            if matches!(&method, p3_types::Method::Other(name) if too_long(name)) {
                return Ok((Err(()),));
            }
            Ok((p3_types::HostRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]request.set-authority",
        |mut store: StoreContextMut<'_, HostState>,
         (request, authority): (Resource<p3::Request>, Option<String>)| {
            if authority.as_deref().is_some_and(too_long) {
                return Ok((Err(()),));
            }
            Ok((p3_types::HostRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
