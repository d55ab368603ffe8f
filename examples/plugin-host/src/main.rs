//! A program with plugins. Each argument is a component of the world `wit/plugin.wit`; the first is loaded, and each
//! further one takes the place of the one before it.

use anyhow::Context as _;
use coracle_sandbox::wasmtime::StoreContextMut;
use coracle_sandbox::{
    CallError, ContainerSpec, Engine, EngineConfig, HostFunctions, HostState, MemoryBudget, Plugin,
};
use serde_json::json;
use std::time::Duration;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let (first, newer) = files.split_first().context("usage: plugin-host PLUGIN.wasm [NEWER.wasm …]")?;

    let engine = Engine::new(&EngineConfig::default())?;
    // What plugins may call. The first function makes what it works on, for each instance; here that is nothing.
    let host = HostFunctions::new(
        || (),
        |linker| {
            linker.root().func_wrap("log", |_: StoreContextMut<'_, HostState>, (line,): (String,)| {
                println!("  the plugin says: {line}");
                Ok(())
            })
        },
    );
    let load = |file: &String| {
        let component = std::fs::read(file).with_context(|| format!("could not read {file}"))?;
        engine.prepare_with(&component, &host).with_context(|| format!("could not load {file}"))
    };

    let spec = ContainerSpec {
        env: vec![("IGNORE".to_owned(), "the of".to_owned())], // granted: this, and nothing else
        memory: MemoryBudget::new(128 << 20),                  // 128 MiB over all instances
        fuel_per_run: Some(100_000_000),                       // for each call, about one per instruction
        run_timeout: Some(Duration::from_secs(10)),            // likewise
        max_concurrency: 4,                                    // instances; further calls wait
        ..ContainerSpec::default()
    };
    let plugin = Plugin::new(&load(first)?, spec)?;
    demonstrate(first, &plugin).await;
    for file in newer {
        plugin.reload(&load(file)?)?;
        demonstrate(file, &plugin).await;
    }
    Ok(())
}

async fn demonstrate(file: &str, plugin: &Plugin) {
    println!("{file}");
    for (function, arguments) in [
        ("summarize", json!(["the origin of species"])),
        ("summarize", json!({"text": 7})),
        ("crash", json!([])),
        ("spin", json!([])),
        ("summarize", json!({"text": "still here"})),
    ] {
        match plugin.call(function, &arguments).await {
            Ok(answer) => println!("{function} answers {answer}"),
            Err(CallError::Call(reason)) => println!("{function} was called wrongly: {reason}"),
            Err(CallError::Guest(exit)) => println!("{function} failed: {exit}"),
            Err(CallError::Limit(exit)) => println!("{function} reached a limit: {exit}"),
            Err(other) => println!("{function} has no answer: {other}"),
        }
    }
}
