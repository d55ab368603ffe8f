//! From bytes to machine code: which of the two kinds of WebAssembly it is, and which flavour of the engine it needs.

use crate::engine::{Engine, Flavour};
use crate::prepare::PrepareError;
use crate::sniff::{Sniffed, sniff};
use wasmtime::component::Component;
use wasmtime::{Module, ResourcesRequired};

/// Machine code, in this process.
pub(crate) enum Code {
    Component(Component),
    /// A core module, for `wasi_snapshot_preview1`.
    Module(Module),
}

/// The two kinds of WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Component,
    Module,
}

impl Kind {
    pub(crate) fn of(wasm: &[u8]) -> Result<Kind, PrepareError> {
        match sniff(wasm) {
            Sniffed::Component => Ok(Kind::Component),
            Sniffed::CoreModule => Ok(Kind::Module),
            Sniffed::Other(what) => Err(PrepareError::NotWasm { what }),
        }
    }
}

impl Code {
    /// Compiles into this process.
    pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> Result<(Flavour, Code), PrepareError> {
        let kind = Kind::of(wasm)?;
        in_flavour(engine, |wasmtime| match kind {
            Kind::Component => Component::from_binary(wasmtime, wasm).map(Code::Component),
            Kind::Module => Module::from_binary(wasmtime, wasm).map(Code::Module),
        })
    }

    /// Compiles to an artifact instead. This is the place for a child process with limits.
    pub(crate) fn precompile(engine: &Engine, wasm: &[u8]) -> Result<(Flavour, Vec<u8>), PrepareError> {
        let kind = Kind::of(wasm)?;
        in_flavour(engine, |wasmtime| match kind {
            Kind::Component => wasmtime.precompile_component(wasm),
            Kind::Module => wasmtime.precompile_module(wasm),
        })
    }

    /// Memories, tables and so on of one instance, if that is known beforehand.
    pub(crate) fn resources_required(&self) -> Option<ResourcesRequired> {
        match self {
            Code::Component(component) => component.resources_required(),
            Code::Module(module) => Some(module.resources_required()),
        }
    }
}

/// Compiles in the plain flavour, and where validation stumbles over asynchrony in the other. Validation goes before
/// compilation, so the first attempt costs little.
fn in_flavour<T>(
    engine: &Engine,
    compile: impl Fn(&wasmtime::Engine) -> wasmtime::Result<T>,
) -> Result<(Flavour, T), PrepareError> {
    let runtime = engine.runtime(Flavour::Plain)?;
    match compile(&runtime.wasmtime) {
        Ok(code) => Ok((Flavour::Plain, code)),
        Err(error) if needs_concurrency(&error) => {
            let runtime = engine.runtime(Flavour::Concurrent)?;
            let code = compile(&runtime.wasmtime).map_err(|error| invalid(&error))?;
            Ok((Flavour::Concurrent, code))
        }
        Err(error) => Err(invalid(&error)),
    }
}

/// The validator's words for every such feature: ``… requires the component model async feature``, and more.
fn needs_concurrency(error: &wasmtime::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("requires the component model") && text.contains("async")
}

fn invalid(error: &wasmtime::Error) -> PrepareError {
    PrepareError::Invalid(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchrony_is_told_from_other_faults() {
        let error = |text| wasmtime::Error::msg(text);
        assert!(needs_concurrency(&error("`task.cancel` requires the component model async feature")));
        assert!(!needs_concurrency(&error("unexpected end of `async`")));
    }
}
