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

    /// Compiles to an artifact instead, for engines with the same settings as `compiler`.
    pub(crate) fn precompile(compiler: &wasmtime::Engine, wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
        let compiled = match Kind::of(wasm).map_err(Refusal::Other)? {
            Kind::Component => compiler.precompile_component(wasm),
            Kind::Module => compiler.precompile_module(wasm),
        };
        compiled.map_err(|error| Refusal::from(&error))
    }

    /// Memories, tables and so on of one instance, if that is known beforehand.
    pub(crate) fn resources_required(&self) -> Option<ResourcesRequired> {
        match self {
            Code::Component(component) => component.resources_required(),
            Code::Module(module) => Some(module.resources_required()),
        }
    }
}

/// Why something was not compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Validation stumbled over asynchrony, which the other flavour has.
    NeedsConcurrency(String),
    Other(PrepareError),
}

impl From<&wasmtime::Error> for Refusal {
    fn from(error: &wasmtime::Error) -> Refusal {
        let text = format!("{error:#}");
        // The validator's words for every such feature: ``… requires the component model async feature``, or that
        // functions "require" it, and more.
        if text.contains("require") && text.contains("the component model") && text.contains("async") {
            Refusal::NeedsConcurrency(text)
        } else {
            Refusal::Other(PrepareError::Invalid(text))
        }
    }
}

impl From<Refusal> for PrepareError {
    fn from(refusal: Refusal) -> PrepareError {
        match refusal {
            Refusal::NeedsConcurrency(text) => PrepareError::Invalid(text),
            Refusal::Other(error) => error,
        }
    }
}

/// Compiles in the plain flavour, and where validation stumbles over asynchrony in the other. Validation goes before
/// compilation, so the first attempt costs little.
fn in_flavour<T>(
    engine: &Engine,
    compile: impl Fn(&wasmtime::Engine) -> wasmtime::Result<T>,
) -> Result<(Flavour, T), PrepareError> {
    let attempt = |flavour| -> Result<T, Refusal> {
        let runtime = engine.runtime(flavour).map_err(|error| Refusal::Other(error.into()))?;
        compile(&runtime.wasmtime).map_err(|error| Refusal::from(&error))
    };
    match attempt(Flavour::Plain) {
        Err(Refusal::NeedsConcurrency(_)) => {
            attempt(Flavour::Concurrent).map(|code| (Flavour::Concurrent, code)).map_err(PrepareError::from)
        }
        code => code.map(|code| (Flavour::Plain, code)).map_err(PrepareError::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchrony_is_told_from_other_faults() {
        let refusal = |text| Refusal::from(&wasmtime::Error::msg(text));
        for asynchrony in [
            "`task.cancel` requires the component model async feature",
            "async component functions require the component model async feature (at offset 0xb)",
        ] {
            assert!(matches!(refusal(asynchrony), Refusal::NeedsConcurrency(_)), "{asynchrony}");
        }
        assert!(matches!(refusal("unexpected end of `async`"), Refusal::Other(_)));
    }
}
