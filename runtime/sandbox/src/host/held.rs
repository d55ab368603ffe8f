//! What the host holds for a guest in its tables, charged to the guest's memory.
//!
//! wasmtime bounds the number of resources and the size of each set of header fields, and charges nobody for them.
//! Here room in the table is paid for before a guest can use it, and header fields as they grow. What a guest drops
//! is noticed when what was paid for is used up: then the table is counted, and only what is really there goes on
//! counting. So ordinary guests pay a few additions for it, and a hog pays for everything it holds.

use super::HostState;
use crate::memory::MemoryRefused;
use http::HeaderMap;
use std::any::Any;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::http::types as p3_types;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};
use wasmtime_wasi_tls::WasiTlsView;
use wasmtime_wasi_tls::p3::bindings::tls::client::HostConnector;
use wasmtime_wasi_tls::p3::host::Connector;

/// What a resource costs the host, in bytes: its entry in the table, its handle, and what a typical one holds.
const RESOURCE: u64 = 512;

/// What a connector of `wasi:tls` 0.3 holds beside: two pipes, which a guest can fill without ever connecting.
const CONNECTOR: u64 = 32 << 10;

/// What a header costs beside its name and value.
const HEADER: usize = 96;

/// Resources that every instance has paid for as part of [`INSTANCE_MEMORY`](crate::memory::INSTANCE_MEMORY).
const FIRST_RESOURCES: usize = 64;

/// Free entries below which more are paid for: enough for as many calls as there are until the next look.
const LEAST_FREE: usize = 32;

/// Bytes of header fields that every instance has paid for in the same way.
const FIRST_FIELDS: u64 = 4 << 10;

/// The most resources that one call of a host function makes, but for the one that lists the mounted directories.
const PER_CALL: usize = 4;

/// What has been paid for.
pub(super) struct Held {
    /// Entries of the table.
    resources: usize,
    /// Calls until the table has to be counted again.
    calls_left: usize,
    /// Bytes of header fields, and how many of them may be in use.
    fields: u64,
    fields_used: u64,
    /// Connectors of `wasi:tls`, and how many of them may be in use.
    connectors: usize,
    connectors_used: usize,
}

impl Held {
    /// With room for the first resources, among them a handle for each mounted directory.
    pub(super) fn new(table: &mut ResourceTable, mounts: usize) -> Held {
        let resources = FIRST_RESOURCES + mounts;
        table.set_max_capacity(resources);
        Held {
            resources,
            calls_left: LEAST_FREE / PER_CALL,
            fields: FIRST_FIELDS,
            fields_used: 0,
            connectors: 0,
            connectors_used: 0,
        }
    }
}

impl HostState {
    /// The table, with room for what one call may add to it: as much as the guest's memory allows.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        match self.held.calls_left.checked_sub(1) {
            Some(left) => self.held.calls_left = left,
            None => self.make_room(),
        }
        &mut self.table
    }

    fn make_room(&mut self) {
        let held = &mut self.held;
        let free = held.resources.saturating_sub(self.table.iter_mut().count());
        if free < (held.resources / 4).max(LEAST_FREE) {
            let most = self.container.host_limits.resources;
            let more = held.resources.min(most.saturating_sub(held.resources));
            // When it is refused, the guest may still go on with what it has.
            if more > 0 && self.limiter.hold(more as u64 * RESOURCE) {
                held.resources += more;
                self.table.set_max_capacity(held.resources);
            }
        }
        // Counting costs as much as there are resources, so not at each call of a guest at its limit.
        held.calls_left = free.max(LEAST_FREE) / PER_CALL;
    }

    /// Pays for header fields that are about to become larger.
    fn hold_fields(&mut self, more: usize) -> wasmtime::Result<()> {
        let more = more as u64;
        let held = &mut self.held;
        if held.fields_used + more > held.fields {
            held.fields_used = self.table.iter_mut().map(|entry| field_bytes(entry)).sum();
            let missing = (held.fields_used + more).saturating_sub(held.fields);
            if missing > 0 {
                let ahead = missing.max(held.fields / 2);
                let paid = [ahead, missing].into_iter().find(|bytes| self.limiter.hold(*bytes));
                held.fields += paid.ok_or(MemoryRefused)?;
            }
        }
        held.fields_used += more;
        Ok(())
    }

    /// Pays for a connector that is about to be made.
    fn hold_connector(&mut self) -> wasmtime::Result<()> {
        let held = &mut self.held;
        if held.connectors_used == held.connectors {
            held.connectors_used = self.table.iter_mut().filter(|entry| entry.is::<Connector>()).count();
            if held.connectors_used == held.connectors {
                let ahead = held.connectors.max(1);
                let paid = [ahead, 1].into_iter().find(|more| self.limiter.hold(*more as u64 * CONNECTOR));
                held.connectors += paid.ok_or(MemoryRefused)?;
            }
        }
        held.connectors_used += 1;
        Ok(())
    }
}

/// Has guests pay for the connectors of `wasi:tls` 0.3. What becomes of a connector, a connection, is charged by itself.
pub(super) fn charge_p3_connectors(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:tls/client@0.3.0-draft")?.func_wrap(
        "[constructor]connector",
        |mut store: StoreContextMut<'_, HostState>, (): ()| {
            let state = store.data_mut();
            state.hold_connector()?;
            Ok((HostConnector::new(&mut state.tls())?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Header fields in an entry of the table.
fn field_bytes(entry: &(dyn Any + Send)) -> u64 {
    let fields: &HeaderMap = if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        fields
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        &request.headers
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        &response.headers
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        &response.headers
    } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
        &request.headers
    } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
        &response.headers
    } else {
        return 0;
    };
    fields.iter().map(|(name, value)| header_bytes(name.as_str(), value.as_bytes()) as u64).sum()
}

fn header_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + HEADER
}

/// The functions by which header fields grow, the same in both versions of `wasi:http/types`.
macro_rules! charge_fields {
    ($function:ident, $interface:literal, $types:ident) => {
        pub(super) fn $function(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
            linker.allow_shadowing(true);
            let mut types = linker.instance($interface)?;
            types.func_wrap(
                "[static]fields.from-list",
                |mut store: StoreContextMut<'_, HostState>, (entries,): (Vec<(String, Vec<u8>)>,)| {
                    let state = store.data_mut();
                    state.hold_fields(entries.iter().map(|(name, value)| header_bytes(name, value)).sum())?;
                    match $types::HostFields::from_list(&mut state.http(), entries) {
                        Ok(fields) => Ok((Ok(fields),)),
                        Err(error) => Ok((Err(error.downcast()?),)),
                    }
                },
            )?;
            types.func_wrap(
                "[method]fields.append",
                |mut store: StoreContextMut<'_, HostState>,
                 (fields, name, value): (Resource<FieldMap>, String, Vec<u8>)| {
                    let state = store.data_mut();
                    state.hold_fields(header_bytes(&name, &value))?;
                    match $types::HostFields::append(&mut state.http(), fields, name, value) {
                        Ok(()) => Ok((Ok(()),)),
                        Err(error) => Ok((Err(error.downcast()?),)),
                    }
                },
            )?;
            types.func_wrap(
                "[method]fields.set",
                |mut store: StoreContextMut<'_, HostState>,
                 (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>)| {
                    let state = store.data_mut();
                    state.hold_fields(values.iter().map(|value| header_bytes(&name, value)).sum())?;
                    match $types::HostFields::set(&mut state.http(), fields, name, values) {
                        Ok(()) => Ok((Ok(()),)),
                        Err(error) => Ok((Err(error.downcast()?),)),
                    }
                },
            )?;
            types.func_wrap(
                "[method]fields.clone",
                |mut store: StoreContextMut<'_, HostState>, (fields,): (Resource<FieldMap>,)| {
                    let state = store.data_mut();
                    let bytes = state.table.get(&fields).map(|fields| field_bytes(fields))?;
                    state.hold_fields(usize::try_from(bytes)?)?;
                    Ok(($types::HostFields::clone(&mut state.http(), fields)?,))
                },
            )?;
            linker.allow_shadowing(false);
            Ok(())
        }
    };
}

charge_fields!(charge_p2_fields, "wasi:http/types@0.2.12", p2);
charge_fields!(charge_p3_fields, "wasi:http/types@0.3.0", p3_types);
