//! Where a guest can be entered: what its exports make of it.
//!
//! Interfaces are matched by name, and by version as semver has it: any 0.2.x, any 0.3.x. A component may have several
//! entries; of two versions of one interface the newer is taken.

use crate::host::HostState;
use wasmtime::component::types;
use wasmtime::{Store, component};
use wasmtime_wasi::p2::bindings as p2;
use wasmtime_wasi::p3::bindings as p3;
use wasmtime_wasi_http::p2::bindings as http_p2;
use wasmtime_wasi_http::p3::bindings as http_p3;

/// A world a guest can be entered by, ready to instantiate.
pub(crate) trait Entry: Sync {
    type Exports: Send;

    fn instantiate(
        &self,
        store: &mut Store<HostState>,
    ) -> impl Future<Output = wasmtime::Result<Self::Exports>> + Send;
}

macro_rules! entry {
    ($($pre:ty => $exports:ty,)*) => {$(
        impl Entry for $pre {
            type Exports = $exports;

            async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<$exports> {
                self.instantiate_async(store).await
            }
        }
    )*};
}

entry! {
    http_p2::ProxyPre<HostState> => http_p2::Proxy,
    http_p3::ServicePre<HostState> => http_p3::Service,
    p2::CommandPre<HostState> => p2::Command,
    p3::CommandPre<HostState> => p3::Command,
    component::InstancePre<HostState> => component::Instance,
    wasmtime::InstancePre<HostState> => wasmtime::Instance,
}

/// How requests are given to a guest.
pub(crate) enum HttpEntry {
    /// `wasi:http/incoming-handler@0.2`.
    P2(http_p2::ProxyPre<HostState>),
    /// `wasi:http/handler@0.3`.
    P3(http_p3::ServicePre<HostState>),
}

/// How a guest is run.
pub(crate) enum CommandEntry {
    /// `wasi:cli/run@0.2`.
    P2(p2::CommandPre<HostState>),
    /// `wasi:cli/run@0.3`.
    P3(p3::CommandPre<HostState>),
    /// A core module's `_start`.
    Core(wasmtime::InstancePre<HostState>),
}

/// The interfaces by which guests are entered, as far as a component exports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interfaces {
    pub(crate) http_p2: bool,
    pub(crate) http_p3: bool,
    pub(crate) run_p2: bool,
    pub(crate) run_p3: bool,
}

impl Interfaces {
    pub(crate) fn of<'a>(exports: impl Iterator<Item = (&'a str, types::ComponentExtern<'a>)>) -> Self {
        let mut found = Interfaces::default();
        for (name, item) in exports {
            if matches!(item.ty, types::ComponentItem::ComponentInstance(_)) {
                found.http_p2 |= is_interface(name, "wasi:http/incoming-handler", "0.2");
                found.http_p3 |= is_interface(name, "wasi:http/handler", "0.3");
                found.run_p2 |= is_interface(name, "wasi:cli/run", "0.2");
                found.run_p3 |= is_interface(name, "wasi:cli/run", "0.3");
            }
        }
        found
    }
}

/// Whether `name` is `interface` in a version compatible with `series`, such as 0.2. Release candidates are not.
fn is_interface(name: &str, interface: &str, series: &str) -> bool {
    name.strip_prefix(interface)
        .and_then(|rest| rest.strip_prefix('@'))
        .and_then(|version| version.strip_prefix(series))
        .is_some_and(|patch| patch.starts_with('.') && !patch.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_match_by_semantic_version() {
        for (name, expected) in [
            ("wasi:cli/run@0.2.0", true),
            ("wasi:cli/run@0.2.12", true),
            ("wasi:cli/run@0.2.0-rc-2023-12-05", false),
            ("wasi:cli/run@0.20.0", false),
            ("wasi:cli/run@0.3.0", false),
            ("wasi:cli/run", false),
            ("wasi:cli/runner@0.2.0", false),
        ] {
            assert_eq!(is_interface(name, "wasi:cli/run", "0.2"), expected, "{name}");
        }
    }
}
