//! JSON in, component values to a guest and back, JSON out. The first byte chooses a function that gives back what it
//! got, the rest is its arguments, as text. What does not fit is refused in words; what the guest answers is understood
//! when it is sent in again, and comes back the same.
#![no_main]

use coracle_sandbox::{
    CallError, CallLimits, ContainerSpec, Engine, EngineConfig, HostFunctions, MemoryBudget, Plugin,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| {
    let config = EngineConfig { max_instances: 16, ..EngineConfig::default() };
    let engine = Engine::new(&config).expect("a small pool fits");
    let host = HostFunctions::new(
        || (),
        |linker| {
            let mut root = linker.root();
            root.func_wrap("greet", |_, (name,): (String,)| Ok((name,)))?;
            root.func_wrap("fail", |_, (): ()| Ok(()))
        },
    );
    let wasm = std::fs::read(coracle_fixtures::plugin()).expect("it has been built");
    let prepared = engine.prepare_with(&wasm, &host).expect("it is a plugin");
    let spec = ContainerSpec { memory: MemoryBudget::new(64 << 20), ..ContainerSpec::default() };
    Plugin::new(&prepared, spec).expect("nothing is mounted")
});
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("threads can be made"));

/// Functions of one argument, which they give back, and two that give back all of theirs.
const ONE: [&str; 9] =
    ["text", "bytes", "points", "shapes", "colours", "allow", "maybe", "outcome", "done"];
const ALL: [&str; 2] = ["small", "large"];

fn call(function: &str, arguments: &Value) -> Result<Value, CallError> {
    let limits = CallLimits { fuel: Some(50_000_000), ..CallLimits::default() };
    RUNTIME.block_on(PLUGIN.call_with(limits, function, arguments))
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let Ok(arguments) = serde_json::from_slice::<Value>(text) else { return };
    let choice = usize::from(*choice) % (ONE.len() + ALL.len());
    let function = ONE.iter().chain(&ALL).nth(choice).expect("it is one of them");
    match call(function, &arguments) {
        Ok(answer) => {
            let again = if choice < ONE.len() { json!([answer]) } else { answer.clone() };
            assert_eq!(call(function, &again), Ok(answer), "{function} {again}");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!matches!(error, CallError::Host(_)), "{function} {arguments}: {error}");
        }
    }
});
