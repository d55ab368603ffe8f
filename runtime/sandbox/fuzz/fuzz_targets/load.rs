//! Any bytes as a component: refused in words, or prepared; what is prepared can be instantiated under limits.
#![no_main]

use coracle_sandbox::{Container, ContainerSpec, Engine, EngineConfig, MemoryBudget};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let config = EngineConfig { max_instances: 16, ..EngineConfig::default() };
    Engine::new(&config).expect("a small pool fits")
});
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("threads can be made"));

fuzz_target!(|bytes: &[u8]| {
    match ENGINE.prepare_bytes(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(prepared) => {
            let spec = ContainerSpec {
                memory: MemoryBudget::new(16 << 20),
                fuel_per_run: Some(1_000_000),
                fuel_per_request: Some(1_000_000),
                ..ContainerSpec::default()
            };
            let container = Container::new(&prepared, spec).expect("nothing is mounted");
            // How it ends is the guest's business; that nothing is left of it is ours.
            let _ = RUNTIME.block_on(container.instantiate());
            assert_eq!(container.stats().memory_current, 0);
        }
    }
});
