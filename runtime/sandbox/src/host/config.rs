//! `wasi:config`: values the embedder gives, read only.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::HostState;

/// The interface, in the one version there is.
pub(super) const STORE: &str = "wasi:config/store@0.2.0-rc.1";

/// Never returned: everything is in memory.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut store = linker.instance(STORE)?;
    store.func_wrap("get", |store: StoreContextMut<'_, HostState>, (key,): (String,)| {
        let values = store.data().config();
        let found = values.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        Ok((Ok::<_, ConfigError>(found),))
    })?;
    store.func_wrap("get-all", |store: StoreContextMut<'_, HostState>, (): ()| {
        Ok((Ok::<_, ConfigError>(store.data().config().to_vec()),))
    })
}
