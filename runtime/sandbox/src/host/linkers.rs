//! Who may import what.
//!
//! All of `wasi:cli/imports` and `wasi:http` is linked for everybody, and empty where nothing is granted. A further
//! interface of the host goes into a file of its own with a `link` function, called from [`components`].

use super::{HostState, config, held, http, keyvalue, lifecycle, logging, metrics, p1, p2, p3, remaining};
use crate::engine::Flavour;
use crate::net;
use crate::spec::ContainerSpec;
use std::any::Any;
use std::sync::Arc;
use wasmtime::component::Linker;

/// What components may import.
pub(crate) fn components(engine: &wasmtime::Engine, flavour: Flavour) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    p2::link(&mut linker)?;
    net::link_tls(&mut linker)?;
    if flavour == Flavour::Concurrent {
        p3::link(&mut linker)?;
        http::bound_p3_requests(&mut linker)?;
        held::charge_p3_fields(&mut linker)?;
        net::link_tls_p3(&mut linker)?;
        held::charge_p3_connectors(&mut linker)?;
    }
    config::link(&mut linker)?;
    keyvalue::link(&mut linker)?;
    logging::link(&mut linker)?;
    metrics::link(&mut linker)?;
    remaining::link(&mut linker)?;
    lifecycle::link(&mut linker)?;
    Ok(linker)
}

/// The first of these imports that has not been granted, and the grant that it needs.
pub(crate) fn missing_grant(imports: &[String], spec: &ContainerSpec) -> Option<(String, &'static str)> {
    let grants = [
        (config::STORE, spec.config.is_some(), "config"),
        (keyvalue::PACKAGE, spec.keyvalue.is_some(), "keyvalue"),
    ];
    imports.iter().find_map(|import| {
        let missing = grants.iter().find(|(prefix, granted, _)| !granted && import.starts_with(prefix));
        missing.map(|&(_, _, grant)| (import.clone(), grant))
    })
}

/// What core modules may import.
pub(crate) fn modules(engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Linker<HostState>> {
    let mut linker = wasmtime::Linker::new(engine);
    p1::link(&mut linker)?;
    Ok(linker)
}

/// Functions of the embedder's for guests to import, beside WASI. Clones share them.
///
/// Give them to [`Engine::prepare_with`](crate::Engine::prepare_with).
#[derive(Clone)]
pub struct HostFunctions(Arc<Functions>);

struct Functions {
    make_data: Box<dyn Fn() -> Box<dyn Any + Send> + Send + Sync>,
    link: Box<Link>,
}

type Link = dyn Fn(&mut Linker<HostState>) -> wasmtime::Result<()> + Send + Sync;

impl HostFunctions {
    /// `make` makes the data host functions work on, once for every instance. `link` adds them to a linker: what
    /// `bindgen!` generates does so, as does [`Linker::root`] by hand. They reach the data by
    /// [`HostState::data_mut`].
    ///
    /// ```
    /// use coracle_sandbox::{HostFunctions, HostState};
    /// use coracle_sandbox::wasmtime::component::HasSelf;
    ///
    /// mod world {
    ///     coracle_sandbox::wasmtime::component::bindgen!({
    ///         inline: "package demo:shout; world shout { import log: func(line: string); }",
    ///         wasmtime_crate: coracle_sandbox::wasmtime,
    ///     });
    /// }
    ///
    /// #[derive(Default)]
    /// struct Log(Vec<String>);
    ///
    /// impl world::ShoutImports for Log {
    ///     fn log(&mut self, line: String) {
    ///         self.0.push(line);
    ///     }
    /// }
    ///
    /// let host = HostFunctions::new(Log::default, |linker| {
    ///     world::Shout::add_to_linker::<_, HasSelf<Log>>(linker, HostState::data_mut)
    /// });
    /// ```
    pub fn new<T: Send + 'static>(
        make: impl Fn() -> T + Send + Sync + 'static,
        link: impl Fn(&mut Linker<HostState>) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) -> Self {
        HostFunctions(Arc::new(Functions {
            make_data: Box::new(move || Box::new(make())),
            link: Box::new(link),
        }))
    }

    pub(super) fn make_data(&self) -> Box<dyn Any + Send> {
        (self.0.make_data)()
    }

    pub(crate) fn link(&self, linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
        (self.0.link)(linker)
    }
}
