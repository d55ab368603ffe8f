//! `coracle:services/limits`: what a guest may still use.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::HostState;

/// The interface, as `sdk/wit` has it.
const LIMITS: &str = "coracle:services/limits@0.1.0";

#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct MemoryUse {
    limit: Option<u64>,
    used: u64,
    available: Option<u64>,
}

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut limits = linker.instance(LIMITS)?;
    limits.func_wrap("memory", |store: StoreContextMut<'_, HostState>, (): ()| {
        let memory = &store.data().container.spec.memory;
        let limited = |bytes: u64| (memory.effective_limit() != u64::MAX).then_some(bytes);
        Ok((MemoryUse {
            limit: limited(memory.effective_limit()),
            used: memory.current(),
            available: limited(memory.available()),
        },))
    })?;
    limits.func_wrap("fuel", |store: StoreContextMut<'_, HostState>, (): ()| {
        // An instance without a budget is given all there is, and never uses up half of it.
        Ok((store.get_fuel().ok().filter(|&left| left <= u64::MAX / 2),))
    })
}
