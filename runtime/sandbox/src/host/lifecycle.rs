//! `coracle:services/lifecycle`: that a guest is to end.

use tokio::sync::watch;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{Pollable, subscribe};

use super::HostState;

/// The interface, as `sdk/wit` has it.
const LIFECYCLE: &str = "coracle:services/lifecycle@0.1.0";

/// Whether one of these imports is the interface: such a component ends by itself when it is told.
pub(crate) fn is_heard(imports: &[String]) -> bool {
    let interface = LIFECYCLE.split('@').next().unwrap_or_default();
    imports.iter().any(|import| import.split('@').next() == Some(interface))
}

/// What a guest waits for.
struct Stop(watch::Receiver<bool>);

#[async_trait]
impl Pollable for Stop {
    async fn ready(&mut self) {
        // An error means that the container is gone, and so is the guest.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut lifecycle = linker.instance(LIFECYCLE)?;
    lifecycle.func_wrap("stop-requested", |store: StoreContextMut<'_, HostState>, (): ()| {
        Ok((*store.data().container.stop_requested.borrow(),))
    })?;
    lifecycle.func_wrap("subscribe-stop", |mut store: StoreContextMut<'_, HostState>, (): ()| {
        let state = store.data_mut();
        let stop = Stop(state.container.stop_requested.subscribe());
        let stop = state.table().push(stop)?;
        Ok((subscribe(state.table(), stop)?,))
    })
}
