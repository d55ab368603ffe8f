//! Any bytes in the place of an artifact, of its tag and of the cache's key: nothing is loaded that the cache did not
//! write, and a component that is not there is said not to be there.
#![no_main]

use coracle_sandbox::{ArtifactCache, Engine, EngineConfig, PrepareError};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// `(module)` as a component's core module: the smallest that compiles. It exports nothing, so it is never linked.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0\x01\x08\0asm\x01\0\0\0";

struct Setting {
    runtime: Runtime,
    engine: Engine,
    dir: TempDir,
}

static SETTING: LazyLock<Setting> = LazyLock::new(|| {
    let config = EngineConfig { max_instances: 16, ..EngineConfig::default() };
    Setting {
        runtime: Builder::new_current_thread().enable_all().build().expect("threads can be made"),
        engine: Engine::new(&config).expect("a small pool fits"),
        dir: tempfile::tempdir().expect("there is a place for temporary files"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    let Setting { runtime, engine, dir } = &*SETTING;
    // A real artifact first: its names are what the bytes will stand under.
    let component = dir.path().join("component.wasm");
    fs::write(&component, COMPONENT).expect("it can be written");
    let cache = || ArtifactCache::open(engine.clone(), dir.path()).expect("the directory is ours");
    let _ = runtime.block_on(cache().prepare("sha256:fuzz", &component));

    let (what, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let (tag, artifact) = rest.split_at(rest.len().min(32));
    let mut untouched = true;
    for entry in fs::read_dir(dir.path()).expect("it can be listed").flatten() {
        let path = entry.path();
        // What is there may be the same already: a key stays from one run to the next.
        let mut replace = |content: &[u8]| {
            untouched &= fs::read(&path).expect("it can be read") == content;
            fs::write(&path, content).expect("it can be written");
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("cwasm") if what & 1 == 0 => replace(artifact),
            Some("tag") if what & 2 == 0 => replace(tag),
            None if what & 4 == 0 && path.ends_with("key") => replace(tag),
            _ => {}
        }
    }
    let cache = cache();
    let found = runtime.block_on(cache.prepare("sha256:fuzz", Path::new("/nowhere")));
    // With all three as they were, it is the real artifact that is found, and it has no way in.
    match found.err().expect("it exports nothing") {
        PrepareError::NoEntryPoint(_) => assert!(untouched, "a foreign artifact was loaded"),
        PrepareError::Io(_) => assert!(!untouched, "its own artifact was not loaded"),
        other => panic!("{other}"),
    }
});
