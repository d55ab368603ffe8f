//! The artifact cache.

use crate::ENGINE;
use coracle_sandbox::{
    ArtifactCache, ArtifactCacheConfig, ArtifactStats, Container, ContainerSpec, Exit, PrepareError,
};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DIGEST: &str = "sha256:feed";

async fn runs(cache: &ArtifactCache) {
    let prepared = cache.prepare(DIGEST, coracle_fixtures::command()).await.unwrap();
    let args = ["guest", "exit", "7"].map(str::to_owned).to_vec();
    let container = Container::new(&prepared, ContainerSpec { args, ..ContainerSpec::default() }).unwrap();
    assert_eq!(container.run().await, Exit::Code(7));
}

fn open(dir: &Path) -> ArtifactCache {
    ArtifactCache::open(ENGINE.clone(), dir).unwrap()
}

fn artifact(dir: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|extension| extension == "cwasm")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_compiled_once_and_loaded_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    // Many at once make one compilation.
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.prepare(DIGEST, coracle_fixtures::command()).await.unwrap() })
        })
        .collect();
    let mut held = Vec::new();
    for call in calls {
        held.push(call.await.unwrap());
    }
    assert_eq!(
        cache.stats(),
        ArtifactStats { memory_hits: 7, disk_hits: 0, compiles: 1, ..ArtifactStats::default() }
    );
    // When nobody uses it any more it is loaded again, from disk, and the component's file is not needed.
    drop(held);
    assert!(cache.prepare(DIGEST, Path::new("/does/not/exist")).await.is_ok());
    assert_eq!(
        cache.stats(),
        ArtifactStats { memory_hits: 7, disk_hits: 1, compiles: 1, ..ArtifactStats::default() }
    );
    // So it is by the next process.
    let next = open(dir.path());
    runs(&next).await;
    assert_eq!(
        next.stats(),
        ArtifactStats { memory_hits: 0, disk_hits: 1, compiles: 0, ..ArtifactStats::default() }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_foreign_artifacts_are_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    runs(&open(dir.path())).await;
    let artifact = artifact(dir.path());

    let mut bytes = std::fs::read(&artifact).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&artifact).unwrap();
    std::fs::write(&artifact, &bytes).unwrap();
    let cache = open(dir.path());
    runs(&cache).await;
    assert_eq!(cache.stats().compiles, 1, "one flipped bit");

    std::fs::write(dir.path().join("key"), [0; 32]).unwrap();
    let cache = open(dir.path());
    runs(&cache).await;
    assert_eq!(cache.stats().compiles, 1, "another key");

    std::fs::write(dir.path().join("key"), b"short").unwrap();
    let cache = open(dir.path());
    runs(&cache).await;
    assert_eq!(cache.stats().compiles, 1, "a broken key");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_used_for_longest_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = ArtifactCacheConfig { max_bytes: 1, ..ArtifactCacheConfig::default() };
    let cache = ArtifactCache::with_config(ENGINE.clone(), dir.path(), config).unwrap();
    let held = cache.prepare("sha256:one", coracle_fixtures::link_resource()).await;
    assert!(held.is_err(), "it can't be linked, but has been compiled");
    let held = cache.prepare("sha256:two", coracle_fixtures::command()).await.unwrap();
    assert_eq!(cache.stats().evictions, 1);
    // What is in use stays, whatever its size.
    assert!(cache.prepare("sha256:three", coracle_fixtures::link_resource()).await.is_err());
    drop(held);
    assert!(cache.prepare("sha256:two", Path::new("/does/not/exist")).await.is_ok());
}

#[test]
fn the_directory_is_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b");
    open(&below);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&below), mode(&below.join("key"))), (0o700, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path()).prepare(DIGEST, Path::new("/does/not/exist")).await.err().unwrap();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_not_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&dir.path().join("artifacts"));
    let wasm = dir.path().join("guest.wasm");
    let bytes = std::fs::read(coracle_fixtures::command()).unwrap();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));

    std::fs::write(&wasm, b"\0asm, but another").unwrap();
    let error = cache.prepare(&digest, &wasm).await.err().unwrap();
    assert!(matches!(&error, PrepareError::Changed { expected, .. } if *expected == digest), "{error}");
    assert!(error.to_string().contains("guest.wasm has changed"), "{error}");
    assert_eq!(cache.stats().compiles, 0);

    std::fs::write(&wasm, &bytes).unwrap();
    assert!(cache.prepare(&digest, &wasm).await.is_ok());
}
