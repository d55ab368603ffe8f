//! From machine code to something that is ready to instantiate.

use crate::code::Code;
use crate::compile::CompileLimit;
use crate::engine::{Engine, EngineError, Flavour, Runtime};
use crate::entry::{CommandEntry, HttpEntry, Interfaces};
use crate::host::{HostFunctions, HostState};
use crate::link::{OpenFunction, leave_open};
use crate::memory::INSTANCE_MEMORY;
use std::sync::Arc;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// A component or core module, compiled, linked and type-checked. Clones share it, over any number of threads.
#[derive(Clone)]
pub struct Prepared(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) flavour: Flavour,
    pub(crate) http: Option<HttpEntry>,
    pub(crate) command: Option<CommandEntry>,
    /// A component as such, to call any of its exports; core modules have none.
    pub(crate) component: Option<InstancePre<HostState>>,
    /// What the embedder linked beside WASI.
    pub(crate) host: Option<HostFunctions>,
    /// What it imports and nobody provides yet: a container of it has to be linked.
    pub(crate) open: Vec<OpenFunction>,
    /// The names of everything it exports, and imports.
    exports: Vec<String>,
    imports: Vec<String>,
    /// Slots of the engine's pool one instance takes.
    pub(crate) slots: u32,
    /// Bytes of memory an instance starts with, at most.
    pub(crate) initial_memory: u64,
}

/// What a component offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3): it can be sent requests.
    pub http: bool,
    /// `wasi:cli/run` (0.2 or 0.3), or a core module's `_start`: it can be run to an exit code.
    pub command: bool,
}

/// What a component may import.
pub(crate) enum Imports<'a> {
    /// WASI, and nothing else.
    Wasi,
    /// WASI, and functions of the embedder's.
    Host(&'a HostFunctions),
    /// WASI, and what its containers will be linked to.
    Open,
}

/// Why a file can't be run. The texts are for the people who wrote or deployed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// Not WebAssembly, or not of a kind that is understood.
    #[error("not a WebAssembly component: it is {what}")]
    NotWasm {
        /// What it is instead, as far as its first bytes tell.
        what: &'static str,
    },
    /// A core module without a way in.
    #[error(
        "a core WebAssembly module that does not export `_start`, so it is neither a command nor a component; build \
         for the target wasm32-wasip2 (Rust), or make a component of it: `jco new in.wasm --wasi-reactor -o out.wasm`, \
         or `wasm-tools component new in.wasm -o out.wasm`"
    )]
    CoreModule,
    /// A component that is not valid, or needs a feature that is not available.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// The file is not, or no longer, the one that was asked for.
    #[error("{path} has changed: it was {expected}, and is now {actual}; deploy it again")]
    Changed {
        /// The file.
        path: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest it has.
        actual: String,
    },
    /// It imports what nobody provides.
    #[error("the component imports {import}, which nobody here provides")]
    MissingImport {
        /// The interface, and the function if only that is missing: `acme:db/store@1.0.0`,
        /// `acme:db/store@1.0.0#get`.
        import: String,
    },
    /// It imports what nobody provides, and what no other container could.
    #[error(
        "the component imports {import}, which nobody here provides, and which can't be linked to another container: \
         it has {what}; {instead}"
    )]
    Unlinkable {
        /// The interface, or the function of the world's root.
        import: String,
        /// What in it can't cross from one sandbox to another.
        what: String,
        /// What can, in its place.
        instead: &'static str,
    },
    /// Nothing in it can be called.
    #[error(
        "the component exports neither wasi:http/incoming-handler (0.2), wasi:http/handler (0.3) nor wasi:cli/run{0}"
    )]
    NoEntryPoint(
        /// What it exports instead, as the end of the sentence.
        String,
    ),
    /// The engine the component needs can't be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file larger than is ever compiled.
    #[error("the component is larger than {} MiB, the most that is compiled", limit >> 20)]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Compiling it took more than it may.
    #[error("compiling the component takes more than {0}; make it smaller, or raise the compiler's limits")]
    CompileLimit(CompileLimit),
    /// The compiler crashed, or could not be started.
    #[error("the compiler failed: {0}")]
    CompilerFailed(String),
    /// The file can't be read, or the cache can't be written.
    #[error("{0}")]
    Io(String),
}

impl Prepared {
    /// What the component offers to be entered by, beside calling its exports by name.
    pub fn exports(&self) -> Exports {
        Exports { http: self.0.http.is_some(), command: self.0.command.is_some() }
    }

    /// The names of what it imports, each with its version: `wasi:cli/environment@0.2.6`.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Whether it imports functions that a container of it has to be linked for: see
    /// [`ContainerSpec::links`](crate::ContainerSpec::links).
    pub fn needs_links(&self) -> bool {
        !self.0.open.is_empty()
    }

    /// Refuses what can only be called by name.
    ///
    /// # Errors
    /// [`PrepareError::NoEntryPoint`] unless it can be sent requests or be run.
    pub fn require_entry_point(&self) -> Result<(), PrepareError> {
        match self.exports() {
            Exports { http: false, command: false } => {
                Err(PrepareError::NoEntryPoint(list_exports(&self.0.exports)))
            }
            _ => Ok(()),
        }
    }

    /// The component, linked, for what `bindgen!` generates: `GreeterPre::new(pre.clone())`.
    /// `None` for a core module.
    pub fn instance_pre(&self) -> Option<&InstancePre<HostState>> {
        self.0.component.as_ref()
    }

    pub(crate) fn compile(
        engine: &Engine,
        wasm: &[u8],
        imports: &Imports<'_>,
    ) -> Result<Prepared, PrepareError> {
        let (flavour, code) = Code::compile(engine, wasm)?;
        Prepared::link(engine, flavour, &code, imports)
    }

    pub(crate) fn link(
        engine: &Engine,
        flavour: Flavour,
        code: &Code,
        imports: &Imports<'_>,
    ) -> Result<Prepared, PrepareError> {
        let runtime = engine.runtime(flavour)?;
        let needs = code.resources_required();
        let (memories, tables, pages) = needs.map_or((1, 2, 0), |needs| {
            (needs.num_memories, needs.num_tables, needs.max_initial_memory_size.unwrap_or(0))
        });
        let slots = memories.max(tables.div_ceil(crate::engine::TABLES_PER_SLOT)).max(1);
        if slots > engine.0.capacity {
            return Err(PrepareError::Invalid(format!(
                "it needs {memories} memories and {tables} tables for one instance, more than there are"
            )));
        }
        let mut inner = Inner {
            engine: engine.clone(),
            flavour,
            http: None,
            command: None,
            component: None,
            host: match imports {
                Imports::Host(host) => Some((*host).clone()),
                Imports::Wasi | Imports::Open => None,
            },
            open: Vec::new(),
            exports: Vec::new(),
            imports: Vec::new(),
            slots,
            initial_memory: u64::from(memories)
                .saturating_mul(pages)
                .saturating_mul(64 << 10)
                .saturating_add(INSTANCE_MEMORY),
        };
        match code {
            Code::Component(component) => inner.link_component(runtime, component, imports)?,
            Code::Module(module) => inner.link_module(runtime, module)?,
        }
        Ok(Prepared(Arc::new(inner)))
    }
}

impl Inner {
    pub(crate) fn runtime(&self) -> &Runtime {
        self.engine.runtime(self.flavour).expect("its code was compiled by that runtime")
    }

    /// Whether it is entered by an interface of WASI 0.3.
    pub(crate) fn is_p3(&self) -> bool {
        matches!(self.http, Some(HttpEntry::P3(_))) || matches!(self.command, Some(CommandEntry::P3(_)))
    }

    fn link_component(
        &mut self,
        runtime: &Runtime,
        component: &Component,
        imports: &Imports<'_>,
    ) -> Result<(), PrepareError> {
        let ty = component.component_type();
        let wasmtime = &runtime.wasmtime;
        self.exports = ty.exports(wasmtime).map(|(name, _)| name.to_owned()).collect();
        self.imports = ty.imports(wasmtime).map(|(name, _)| name.to_owned()).collect();
        if self.exports.is_empty() {
            return Err(PrepareError::NoEntryPoint(list_exports(&[])));
        }
        let with_host;
        let linker = match &self.host {
            None => &runtime.components,
            Some(host) => {
                let mut linker = runtime.components.clone();
                host.link(&mut linker).map_err(|error| {
                    PrepareError::Invalid(format!("its host functions can't be linked: {error:#}"))
                })?;
                with_host = linker;
                &with_host
            }
        };
        let pre = match linker.instantiate_pre(component) {
            Ok(pre) => pre,
            Err(error) if !matches!(imports, Imports::Open) => return Err(missing(&error)),
            Err(_) => {
                let mut linker = runtime.components.clone();
                self.open = leave_open(&mut linker, wasmtime, &ty)?;
                linker.instantiate_pre(component).map_err(|error| missing(&error))?
            }
        };
        let found = Interfaces::of(ty.exports(wasmtime));
        self.http = match entry(found.http_p3, &pre, ServicePre::new)? {
            Some(service) => Some(HttpEntry::P3(service)),
            None => entry(found.http_p2, &pre, ProxyPre::new)?.map(HttpEntry::P2),
        };
        self.command = match entry(found.run_p3, &pre, p3::bindings::CommandPre::new)? {
            Some(run) => Some(CommandEntry::P3(run)),
            None => entry(found.run_p2, &pre, p2::bindings::CommandPre::new)?.map(CommandEntry::P2),
        };
        self.component = Some(pre);
        Ok(())
    }

    fn link_module(&mut self, runtime: &Runtime, module: &wasmtime::Module) -> Result<(), PrepareError> {
        self.exports = module.exports().map(|export| export.name().to_owned()).collect();
        self.imports =
            module.imports().map(|import| format!("{}#{}", import.module(), import.name())).collect();
        let is_command = module
            .get_export("_start")
            .is_some_and(|start| start.func().is_some_and(|ty| ty.params().len() + ty.results().len() == 0));
        if !is_command {
            return Err(PrepareError::CoreModule);
        }
        let pre = runtime.modules.instantiate_pre(module).map_err(|error| match error
            .downcast_ref::<wasmtime::UnknownImportError>(
        ) {
            Some(unknown) => {
                PrepareError::MissingImport { import: format!("{}#{}", unknown.module(), unknown.name()) }
            }
            None => PrepareError::Invalid(format!("{error:#}")),
        })?;
        self.command = Some(CommandEntry::Core(pre));
        Ok(())
    }
}

fn entry<P>(
    wanted: bool,
    pre: &InstancePre<HostState>,
    new: impl FnOnce(InstancePre<HostState>) -> wasmtime::Result<P>,
) -> Result<Option<P>, PrepareError> {
    if !wanted {
        return Ok(None);
    }
    new(pre.clone()).map(Some).map_err(|error| PrepareError::Invalid(format!("{error:#}")))
}

/// The end of the sentence that says there is no entry point.
fn list_exports(all: &[String]) -> String {
    match all.len() {
        0 => "; it exports nothing".to_owned(),
        1..=8 => format!("; it exports {}", all.join(", ")),
        more => format!("; it exports {} and {} more", all[..8].join(", "), more - 8),
    }
}

/// Finds the import in wasmtime's words: ``component imports instance `NAME`, …: instance export `FUNCTION` …``.
fn missing(error: &wasmtime::Error) -> PrepareError {
    let text = format!("{error:#}");
    match import_named_in(&text) {
        Some(import) => PrepareError::MissingImport { import },
        None => PrepareError::Invalid(text),
    }
}

fn import_named_in(text: &str) -> Option<String> {
    let imports = text.split_once("component imports ")?.1;
    let (import, rest) = quoted(imports)?;
    // An interface that is known by name lacks only the function.
    let function =
        rest.split_once("instance export ").and_then(|(_, rest)| quoted(rest)).map(|(name, _)| name);
    Some(match function {
        Some(function) => format!("{import}#{function}"),
        None => import.to_owned(),
    })
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    text.split_once('`')?.1.split_once('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_imports_are_named() {
        let text = "component imports instance `acme:db/store@1.0.0`, but a matching implementation was not \
                    found in the linker: instance export `get` has the wrong type: function implementation is \
                    missing";
        assert_eq!(import_named_in(text).unwrap(), "acme:db/store@1.0.0#get");
        let text =
            "component imports function `log`, but a matching implementation was not found in the linker";
        assert_eq!(import_named_in(text).unwrap(), "log");
        assert_eq!(import_named_in("something else"), None);
    }

    #[test]
    fn no_entry_point_says_what_there_is() {
        let found =
            |all: &[&str]| list_exports(&all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(found(&[]), "; it exports nothing");
        assert_eq!(found(&["init"]), "; it exports init");
        assert!(found(&["x"; 10]).ends_with(" and 2 more"));
    }
}
