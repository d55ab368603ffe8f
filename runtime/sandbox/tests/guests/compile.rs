//! Compiling in a child process: this test program, started again.

use crate::ENGINE;
use coracle_fixtures::binaries;
use coracle_sandbox::{
    ArtifactCache, ArtifactCacheConfig, CompileLimit, CompileLimits, Compiler, CompilerProcess, Container,
    ContainerSpec, Exit, PrepareError, Prepared, compile_child,
};
use std::path::Path;
use std::time::Duration;

/// Runs nothing but [`the_child`].
const CHILD: [&str; 3] = ["--exact", "compile::the_child", "--nocapture"];

/// No test of its own, but where [`CHILD`] ends up.
#[test]
fn the_child() {
    // The parent clears the environment, and cargo fills it.
    if std::env::var_os("CARGO_MANIFEST_DIR").is_none() {
        compile_child();
    }
}

fn cache(dir: &Path, limits: CompileLimits) -> ArtifactCache {
    let compiler = Compiler::Child(CompilerProcess::this_program(CHILD, limits));
    let config = ArtifactCacheConfig { compiler, ..ArtifactCacheConfig::default() };
    ArtifactCache::with_config(ENGINE.clone(), dir, config).unwrap()
}

async fn prepare(wasm: &[u8], limits: CompileLimits) -> Result<Prepared, PrepareError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.wasm");
    std::fs::write(&file, wasm).unwrap();
    cache(dir.path(), limits).prepare("sha256:feed", &file).await
}

/// For files that may not be compiled to the end.
async fn refused(wasm: &[u8], limits: CompileLimits) -> PrepareError {
    prepare(wasm, limits).await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_compiles_runs_here() {
    let wasm = std::fs::read(coracle_fixtures::command()).unwrap();
    let prepared = prepare(&wasm, CompileLimits::default()).await.unwrap();
    let args = ["guest", "exit", "7"].map(str::to_owned).to_vec();
    let container = Container::new(&prepared, ContainerSpec { args, ..ContainerSpec::default() }).unwrap();
    assert_eq!(container.run().await, Exit::Code(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_refuses_is_refused_here() {
    let wasm = std::fs::read(coracle_fixtures::command()).unwrap();
    let error = refused(&wasm[..wasm.len() / 2], CompileLimits::default()).await;
    assert!(matches!(&error, PrepareError::Invalid(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_may_not_take_long() {
    let limits = CompileLimits { cpu_time: Duration::from_secs(1), ..CompileLimits::default() };
    let error = refused(&binaries::enormous(800), limits).await;
    assert_eq!(error, PrepareError::CompileLimit(CompileLimit::CpuTime(limits.cpu_time)));
    assert!(error.to_string().contains("takes more than 1 s of CPU time"), "{error}");

    let limits = CompileLimits { wall_time: Duration::from_millis(50), ..CompileLimits::default() };
    let error = refused(&binaries::enormous(800), limits).await;
    assert_eq!(error, PrepareError::CompileLimit(CompileLimit::WallTime(limits.wall_time)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_may_not_take_much() {
    let limits = CompileLimits { memory: 32 << 20, ..CompileLimits::default() };
    let error = refused(&binaries::enormous(800), limits).await;
    assert_eq!(error, PrepareError::CompileLimit(CompileLimit::Memory(32 << 20)));

    let limits = CompileLimits { artifact: 64 << 10, ..CompileLimits::default() };
    let wasm = std::fs::read(coracle_fixtures::command()).unwrap();
    let error = refused(&wasm, limits).await;
    assert_eq!(error, PrepareError::CompileLimit(CompileLimit::Artifact(64 << 10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cost_too_much_is_not_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.wasm");
    std::fs::write(&file, binaries::enormous(800)).unwrap();
    let cache =
        cache(dir.path(), CompileLimits { wall_time: Duration::from_millis(50), ..CompileLimits::default() });
    let first = cache.prepare("sha256:feed", &file).await.err().unwrap();
    // The file would have to be read for a second attempt.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cache.prepare("sha256:feed", &file).await.err().unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = |program: &str| {
        let process =
            CompilerProcess { program: program.into(), args: Vec::new(), limits: CompileLimits::default() };
        let config =
            ArtifactCacheConfig { compiler: Compiler::Child(process), ..ArtifactCacheConfig::default() };
        ArtifactCache::with_config(ENGINE.clone(), dir.path(), config).unwrap()
    };
    let missing =
        compiler("/not/there").prepare("sha256:feed", coracle_fixtures::command()).await.err().unwrap();
    assert!(
        matches!(&missing, PrepareError::CompilerFailed(text) if text.contains("/not/there")),
        "{missing}"
    );
    let other =
        compiler("/bin/false").prepare("sha256:feed", coracle_fixtures::command()).await.err().unwrap();
    assert!(
        matches!(&other, PrepareError::CompilerFailed(text) if text.contains("exit status: 1")),
        "{other}"
    );
    let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["key"], "what failed leaves nothing behind");
}
