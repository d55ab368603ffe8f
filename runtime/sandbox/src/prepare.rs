//! From bytes to a component that is ready to instantiate.

use crate::engine::Engine;
use crate::host::State;
use crate::sniff::{Sniffed, sniff};
use std::sync::Arc;
use wasmtime::component::{Component, InstancePre, types::ComponentItem};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// A component, compiled, linked and type-checked. Clones share it.
#[derive(Clone)]
pub struct Prepared(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) http: Option<ProxyPre<State>>,
    pub(crate) command: Option<CommandPre<State>>,
    /// Slots of the engine's pool one instance takes.
    pub(crate) slots: u32,
    /// Bytes of linear memory an instance starts with, at most.
    pub(crate) initial_memory: u64,
}

/// What a component offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// `wasi:http/incoming-handler`: it can be sent requests.
    pub http: bool,
    /// `wasi:cli/run`: it can be run to an exit code.
    pub command: bool,
}

/// Why a file can't be run. The texts are for the people who wrote or deployed it.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Not WebAssembly, or not of a kind that is understood.
    #[error("not a WebAssembly component: it is {what}")]
    NotWasm {
        /// What it is instead, as far as its first bytes tell.
        what: &'static str,
    },
    /// A core module where a component is needed.
    #[error(
        "a core WebAssembly module, not a component; build for the target wasm32-wasip2 (Rust), or make a component \
         of it: `jco new in.wasm --wasi-command -o out.wasm`, or `wasm-tools component new in.wasm --adapt \
         wasi_snapshot_preview1.command.wasm -o out.wasm`"
    )]
    CoreModule,
    /// A component that is not valid, or needs a feature that is not available.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// A component that uses the component model's async features, if only by declaring them.
    #[error(
        "the component needs the component model's async features (WASI 0.3), which are not supported yet; build it \
         for WASI 0.2: {0}"
    )]
    Async(
        /// What it was that needs them.
        String,
    ),
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
    /// Nothing in it can be called.
    #[error("the component exports neither wasi:http/incoming-handler nor wasi:cli/run (both 0.2){0}")]
    NoEntryPoint(
        /// What it exports instead, as the end of the sentence.
        String,
    ),
    /// The file can't be read, or the cache can't be written.
    #[error("{0}")]
    Io(String),
}

impl Prepared {
    /// What the component offers.
    pub fn exports(&self) -> Exports {
        Exports { http: self.0.http.is_some(), command: self.0.command.is_some() }
    }

    pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> Result<Prepared, PrepareError> {
        check_kind(wasm)?;
        let component = Component::from_binary(&engine.0.wasmtime, wasm).map_err(|error| invalid(&error))?;
        Prepared::link(engine, &component)
    }

    /// Compiles to an artifact instead of into this process. This is the place for a child process with limits.
    pub(crate) fn precompile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, PrepareError> {
        check_kind(wasm)?;
        engine.0.wasmtime.precompile_component(wasm).map_err(|error| invalid(&error))
    }

    pub(crate) fn link(engine: &Engine, component: &Component) -> Result<Prepared, PrepareError> {
        let exports = exports(engine, component);
        if exports.names == Exports::default() {
            return Err(PrepareError::NoEntryPoint(exports.others()));
        }
        let pre = engine.0.linker.instantiate_pre(component).map_err(|error| missing(&error))?;
        let resources = component.resources_required();
        let (memories, tables, pages) = resources.map_or((1, 2, 0), |needs| {
            (needs.num_memories, needs.num_tables, needs.max_initial_memory_size.unwrap_or(0))
        });
        let slots = memories.max(tables.div_ceil(crate::engine::TABLES_PER_SLOT)).max(1);
        if slots > engine.0.capacity {
            return Err(PrepareError::Invalid(format!(
                "it needs {memories} memories and {tables} tables for one instance, more than there are"
            )));
        }
        Ok(Prepared(Arc::new(Inner {
            engine: engine.clone(),
            http: entry(exports.names.http, &pre, ProxyPre::new)?,
            command: entry(exports.names.command, &pre, CommandPre::new)?,
            slots,
            initial_memory: u64::from(memories).saturating_mul(pages).saturating_mul(64 << 10),
        })))
    }
}

fn entry<P>(
    wanted: bool,
    pre: &InstancePre<State>,
    new: impl FnOnce(InstancePre<State>) -> wasmtime::Result<P>,
) -> Result<Option<P>, PrepareError> {
    if !wanted {
        return Ok(None);
    }
    new(pre.clone()).map(Some).map_err(|error| PrepareError::Invalid(format!("{error:#}")))
}

fn check_kind(wasm: &[u8]) -> Result<(), PrepareError> {
    match sniff(wasm) {
        Sniffed::Component => Ok(()),
        Sniffed::CoreModule => Err(PrepareError::CoreModule),
        Sniffed::Other(what) => Err(PrepareError::NotWasm { what }),
    }
}

struct Exported {
    names: Exports,
    all: Vec<String>,
}

impl Exported {
    /// The end of the sentence that says there is no entry point.
    fn others(&self) -> String {
        if self.all.iter().any(|name| name.starts_with("wasi:") && name.contains("@0.3")) {
            return format!("; it exports {}, and WASI 0.3 is not supported yet", self.all.join(", "));
        }
        match self.all.len() {
            0 => "; it exports nothing".to_owned(),
            1..=8 => format!("; it exports {}", self.all.join(", ")),
            more => format!("; it exports {} and {} more", self.all[..8].join(", "), more - 8),
        }
    }
}

fn exports(engine: &Engine, component: &Component) -> Exported {
    let mut found = Exported { names: Exports::default(), all: Vec::new() };
    for (name, item) in component.component_type().exports(&engine.0.wasmtime) {
        if matches!(item.ty, ComponentItem::ComponentInstance(_)) {
            found.names.http |= is_interface(name, "wasi:http/incoming-handler");
            found.names.command |= is_interface(name, "wasi:cli/run");
        }
        found.all.push(name.to_owned());
    }
    found
}

/// Whether `name` is `interface` in a version compatible with WASI 0.2.
fn is_interface(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).is_some_and(|rest| rest.starts_with("@0.2."))
}

fn invalid(error: &wasmtime::Error) -> PrepareError {
    let text = format!("{error:#}");
    // The validator's words for every such feature: ``… requires the component model async feature``, and more.
    if text.contains("requires the component model") && text.contains("async") {
        return PrepareError::Async(text);
    }
    PrepareError::Invalid(text)
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
    fn entry_points_match_by_semantic_version() {
        for (name, expected) in [
            ("wasi:cli/run@0.2.0", true),
            ("wasi:cli/run@0.2.12", true),
            ("wasi:cli/run@0.3.0", false),
            ("wasi:cli/run", false),
            ("wasi:cli/runner@0.2.0", false),
        ] {
            assert_eq!(is_interface(name, "wasi:cli/run"), expected, "{name}");
        }
    }

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
    fn async_features_are_named_as_the_reason() {
        let error = wasmtime::Error::msg("`task.cancel` requires the component model async feature");
        assert!(matches!(invalid(&error), PrepareError::Async(text) if text.contains("task.cancel")));
        let error = wasmtime::Error::msg("unexpected end of `async`");
        assert!(matches!(invalid(&error), PrepareError::Invalid(_)));
    }

    #[test]
    fn no_entry_point_says_what_there_is() {
        let found = |all: &[&str]| {
            let all = all.iter().map(|name| (*name).to_owned()).collect();
            Exported { names: Exports::default(), all }.others()
        };
        assert_eq!(found(&[]), "; it exports nothing");
        assert_eq!(found(&["init"]), "; it exports init");
        assert!(found(&["wasi:http/handler@0.3.0"]).ends_with("WASI 0.3 is not supported yet"));
    }
}
