//! What a store holds beside the guest, and the host functions that use it.
//!
//! Files, sockets, clocks, streams and HTTP types are wasmtime-wasi's. Environment, arguments, output and random
//! are our own small implementations: theirs want everything copied into every store, and a store lives for one
//! request. Here all of it stays in the container, and costs something only when a guest asks.
//!
//! One file per version of WASI ([`p2`], [`p3`], [`p1`]), and [`linkers`], which decides who may import what.

mod config;
mod held;
mod http;
mod keyvalue;
mod lifecycle;
mod limits;
pub(crate) mod linkers;
mod logging;
mod metrics;
mod outgoing_body;
mod p1;
mod p2;
mod p3;
mod remaining;

pub use keyvalue::KeyValue;
pub(crate) use lifecycle::is_heard;
pub(crate) use limits::HostLimits;
pub use linkers::HostFunctions;
pub use metrics::{Metric, MetricKind, Metrics};
pub(crate) use outgoing_body::charged;

use crate::container::Shared;
use crate::files::{Lent, P1Files};
use crate::memory::{Limiter, MemoryBudget};
use crate::net::{self, Answering, Hops, Network, Place};
use crate::output::{self, StdStream};
use held::Held;
use http::Hooks;
use rand::RngCore;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::clocks::{WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::{WasiSocketsCtx, WasiSocketsCtxView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

/// The data of one store: what a guest's imports work on.
///
/// The embedder's own part of it, made by [`HostFunctions::new`] for every store, is reached with
/// [`data_mut`](Self::data_mut).
pub struct HostState {
    pub(crate) limiter: Limiter,
    table: ResourceTable,
    held: Held,
    http: WasiHttpCtx,
    hooks: Hooks,
    filesystem: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
    /// What its sockets take, by the numbers of their resources.
    places: HashMap<u32, Arc<Place>>,
    /// The same of connections that were accepted for it, and that have not been used since: wasmtime does not say which
    /// resources they are.
    accepted: Vec<Arc<Place>>,
    /// Made for the first guest that wants them.
    clocks: Option<WasiClocksCtx>,
    /// Made for the first guest that wants one.
    tls: Option<WasiTlsCtx>,
    stdout: Option<Arc<output::Shared>>,
    stderr: Option<Arc<output::Shared>>,
    /// What core modules import, if this store is for one.
    p1: Option<Box<P1>>,
    /// The embedder's.
    data: Option<Box<dyn Any + Send>>,
    container: Arc<Shared>,
}

/// A core module's context, and what is known of its files.
struct P1 {
    context: WasiP1Ctx,
    files: P1Files,
}

impl HostState {
    pub(crate) fn new(container: Arc<Shared>, limiter: Limiter) -> HostState {
        let limits = container.host_limits;
        let mut table = ResourceTable::with_capacity(16);
        let held = Held::new(&mut table, container.spec.mounts.len());
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.fields);
        HostState {
            limiter,
            table,
            held,
            http,
            hooks: Hooks {
                network: container.spec.network.clone(),
                memory: container.spec.memory.clone(),
                // Those of WASI 0.2 are charged as they are written.
                charges_requests: container.prepared.0.is_p3(),
                answering: Answering::default(),
                body_chunk: limits.body_chunk,
            },
            filesystem: WasiFilesystemCtx::default(),
            sockets: container.sockets.clone(),
            places: HashMap::new(),
            accepted: Vec::new(),
            clocks: None,
            tls: None,
            stdout: None,
            stderr: None,
            p1: None,
            data: container.prepared.0.host.as_ref().map(HostFunctions::make_data),
            container,
        }
    }

    pub(crate) fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        self.table();
        WasiFilesystemCtxView { ctx: &mut self.filesystem, table: &mut self.table }
    }

    /// The directories that are lent to it.
    pub(crate) fn lent(&self) -> Arc<Lent> {
        self.container.lent.clone()
    }

    /// What is held for it is charged to this.
    pub(crate) fn memory(&self) -> MemoryBudget {
        self.container.spec.memory.clone()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.container.spec.network
    }

    /// The requests that are being answered.
    pub(crate) fn answering(&mut self) -> &mut Answering {
        &mut self.hooks.answering
    }

    /// What a call by a link needs: whose links they are, and how far its request has come.
    pub(crate) fn linking(&self) -> (Arc<Shared>, Hops) {
        (self.container.clone(), self.hooks.answering.hops())
    }

    /// What a socket takes that is about to be opened; None if there may be no more.
    pub(crate) fn take_place(&self) -> Option<Arc<Place>> {
        Place::take(self.network(), &self.container.spec.memory)
    }

    /// Keeps it for as long as the socket's resource exists.
    pub(crate) fn hold(&mut self, resource: u32, place: Arc<Place>) {
        self.places.insert(resource, place);
    }

    /// What a socket takes, if it is one that was opened or accepted here.
    pub(crate) fn place(&mut self, resource: u32) -> Option<Arc<Place>> {
        if !self.places.contains_key(&resource) {
            let place = self.accepted.pop()?;
            self.places.insert(resource, place);
        }
        self.places.get(&resource).cloned()
    }

    /// Gives back what a socket took.
    pub(crate) fn release(&mut self, resource: u32) {
        if self.places.remove(&resource).is_none() {
            self.accepted.pop();
        }
    }

    pub(crate) fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        self.table();
        WasiSocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }

    /// The same for a stream of connections, which asks for it once for each that it adds.
    pub(crate) fn accepting(&mut self) -> WasiSocketsCtxView<'_> {
        self.accepted.push(Place::accepted(self.network(), &self.container.spec.memory));
        self.sockets()
    }

    /// Takes the last one back that did not add any.
    pub(crate) fn accepted_none(&mut self) {
        self.accepted.pop();
    }

    fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        self.table();
        WasiClocksCtxView { ctx: self.clocks.get_or_insert_default(), table: &mut self.table }
    }

    /// The values of `wasi:config`.
    fn config(&self) -> &[(String, String)] {
        self.container.spec.config.as_deref().unwrap_or_default()
    }

    /// One of the two streams; all handles a guest has of it share it.
    fn output(&mut self, stream: StdStream) -> Arc<output::Shared> {
        let slot = match stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        slot.get_or_insert_with(|| output::Shared::new(self.container.spec.output.clone(), stream)).clone()
    }

    /// What core modules import. The store of a core module has it, and no other's linker asks for it.
    pub(crate) fn p1(&mut self) -> &mut WasiP1Ctx {
        &mut self.p1.as_mut().expect("a core module's store is made with it").context
    }

    /// What is known of a core module's files.
    pub(crate) fn p1_files(&mut self) -> Option<&mut P1Files> {
        self.p1.as_mut().map(|p1| &mut p1.files)
    }

    pub(crate) fn set_p1(&mut self, context: WasiP1Ctx, files: P1Files) {
        self.p1 = Some(Box::new(P1 { context, files }));
    }

    /// The embedder's part of this store: what the `make` of [`HostFunctions::new`] made.
    ///
    /// # Panics
    /// When that was of another type. Host functions that ask for the wrong one end the guest's call, as a fault of
    /// the host, not the process.
    pub fn data_mut<T: Send + 'static>(&mut self) -> &mut T {
        self.data
            .as_mut()
            .and_then(|data| data.downcast_mut())
            .expect("host functions ask for the data they were made with")
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

impl WasiTlsView for HostState {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        self.table();
        let spec = &self.container.spec;
        let ctx = self.tls.get_or_insert_with(|| net::tls_context(&spec.network, &spec.memory));
        WasiTlsCtxView { ctx, table: &mut self.table }
    }
}
