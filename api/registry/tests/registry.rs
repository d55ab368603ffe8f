//! Push, resolve, list and clear on a real directory.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coracle_registry::{ImageReference, PullError, Registry, RegistryError};

const ONE: &[u8] = b"\0asm\x0d\0\x01\0one";
const TWO: &[u8] = b"\0asm\x0d\0\x01\0two";

fn reference(text: &str) -> ImageReference {
    ImageReference::parse(text).unwrap()
}

fn open(dir: &Path) -> Registry {
    Registry::open(&dir.join("registry")).unwrap()
}

#[track_caller]
fn check_refused(registry: &Registry, image: &str, expected: &[&str]) -> PullError {
    let error = registry.resolve(image).unwrap_err();
    let text = error.to_string();
    for expected in expected {
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
    }
    error
}

#[test]
fn a_pushed_image_is_found_by_tag_and_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let pushed = registry.push(&reference("acme/web:1.4"), ONE).unwrap();
    assert_eq!(pushed.size, 11);
    let by_tag = registry.resolve("acme/web:1.4").unwrap();
    assert_eq!(by_tag.digest, pushed.digest);
    assert_eq!(by_tag.size, pushed.size);
    assert_eq!(fs::read(&by_tag.path).unwrap(), ONE);
    assert_eq!(registry.resolve(&format!("acme/web@{}", pushed.digest)).unwrap(), by_tag);
    assert_eq!(registry.resolve(&format!("acme/web:1.4@{}", pushed.digest)).unwrap(), by_tag);
}

#[test]
fn no_tag_means_latest() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.push(&reference("web"), ONE).unwrap();
    assert_eq!(registry.resolve("web").unwrap(), registry.resolve("web:latest").unwrap());
}

#[test]
fn a_moved_tag_leaves_the_old_digest_reachable() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let one = registry.push(&reference("web:1"), ONE).unwrap().digest;
    let two = registry.push(&reference("web:1"), TWO).unwrap().digest;
    assert_eq!(registry.resolve("web:1").unwrap().digest, two);
    assert_eq!(registry.resolve(&format!("web@{one}")).unwrap().digest, one);
    let error = check_refused(&registry, &format!("web:1@{one}"), &["the tag was moved"]);
    assert!(matches!(error, PullError::TagMoved { .. }));

    let listed: Vec<_> =
        registry.list().unwrap().into_iter().map(|entry| (entry.tag, entry.digest)).collect();
    assert_eq!(listed, [(Some("1".to_owned()), two), (None, one)]);
}

#[test]
fn images_survive_a_reopen_and_half_written_files_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let pushed = open(dir.path()).push(&reference("a.example:5000/x/y:1"), ONE).unwrap();
    let leftover = dir.path().join("registry/tmp/17");
    fs::write(&leftover, "half").unwrap();
    let registry = open(dir.path());
    assert!(!leftover.exists());
    assert_eq!(registry.resolve("a.example:5000/x/y:1").unwrap().digest, pushed.digest);
    let entries = registry.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].name, "a.example:5000/x/y");
    assert!(entries[0].pushed_at_ms > 1_600_000_000_000);
}

#[test]
fn list_is_sorted_and_clear_empties() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for name in ["b:2", "b:1", "a/c", "a"] {
        registry.push(&reference(name), ONE).unwrap();
    }
    let listed: Vec<_> = registry
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| format!("{}:{}", entry.name, entry.tag.unwrap()))
        .collect();
    assert_eq!(listed, ["a:latest", "a/c:latest", "b:1", "b:2"]);
    registry.clear().unwrap();
    assert_eq!(registry.list().unwrap(), []);
    assert!(matches!(registry.resolve("b:1").unwrap_err(), PullError::NotInRegistry { .. }));
    assert_eq!(fs::read_dir(dir.path().join("registry/blobs/sha256")).unwrap().count(), 0);
    registry.push(&reference("b:1"), ONE).unwrap();
    registry.resolve("b:1").unwrap();
}

#[test]
fn what_is_missing_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    check_refused(
        &registry,
        "nginx:latest",
        &["nginx:latest is not in this registry", "not Docker images", "coracle push FILE nginx:latest"],
    );
    check_refused(&registry, "nginx", &["coracle push FILE nginx:latest"]);
    registry.push(&reference("web:1"), ONE).unwrap();
    check_refused(&registry, "web:2", &["no tag \"2\"", "it has 1", "coracle push FILE web:2"]);
    let digest = format!("sha256:{}", "0".repeat(64));
    check_refused(&registry, &format!("web@{digest}"), &[&digest, "coracle images"]);
    check_refused(&registry, "Web", &["not an image reference", "lowercase"]);
    check_refused(&registry, "../../etc/passwd", &["not an image reference"]);
    for n in 10..20 {
        registry.push(&reference(&format!("web:{n}")), ONE).unwrap();
    }
    check_refused(&registry, "web:2", &["and 6 more"]);
}

#[test]
fn a_push_of_something_else_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let error = registry.push(&reference("web:1"), b"\x1f\x8b\x08").unwrap_err();
    assert!(error.to_string().contains("gzip archive (a container image?)"), "{error}");
    assert!(matches!(registry.push(&reference("web:1"), b"").unwrap_err(), RegistryError::NotWasm { .. }));
    let other = reference(&format!("web@sha256:{}", "0".repeat(64)));
    assert!(matches!(registry.push(&other, ONE).unwrap_err(), RegistryError::DigestMismatch { .. }));
    assert_eq!(registry.list().unwrap(), []);
}

#[test]
fn a_damaged_blob_is_noticed_and_repaired_by_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.push(&reference("web:1"), ONE).unwrap();
    let path = registry.resolve("web:1").unwrap().path;
    fs::write(&path, "short").unwrap();
    check_refused(&registry, "web:1", &["damaged", "push it again"]);
    registry.push(&reference("web:1"), ONE).unwrap();
    assert_eq!(fs::read(registry.resolve("web:1").unwrap().path).unwrap(), ONE);
}

#[test]
fn a_push_repairs_a_blob_whose_damage_does_not_show_in_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.push(&reference("web:1"), ONE).unwrap();
    let blob = registry.resolve("web:1").unwrap().path;
    fs::write(&blob, TWO).unwrap();
    registry.push(&reference("web:1"), ONE).unwrap();
    assert_eq!(fs::read(&blob).unwrap(), ONE);
}

#[test]
fn a_damaged_record_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    fs::write(dir.path().join("registry/names/web.json"), "{").unwrap();
    check_refused(&registry, "web:1", &["web.json is damaged"]);
    assert!(matches!(registry.list().unwrap_err(), RegistryError::DamagedRecord { .. }));
}

#[test]
fn file_images() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let at = |name: &str| format!("file://{}/{name}", dir.path().display());
    fs::write(dir.path().join("my app.wasm"), ONE).unwrap();
    fs::write(dir.path().join("image.tar.gz"), b"\x1f\x8b\x08\0").unwrap();

    let resolved = registry.resolve(&at("my%20app.wasm")).unwrap();
    assert_eq!(resolved.path, dir.path().join("my app.wasm"));
    assert_eq!(resolved.digest, registry.push(&reference("web:1"), ONE).unwrap().digest);
    assert_eq!(resolved.size, 11);

    check_refused(
        &registry,
        &at("image.tar.gz"),
        &["is a gzip archive (a container image?), not a WebAssembly component"],
    );
    check_refused(&registry, &at("none.wasm"), &["there is no file", "none.wasm"]);
    check_refused(&registry, &at(""), &["is a directory"]);
    check_refused(&registry, "file:///dev/null", &["device"]);
    check_refused(&registry, "file:x.wasm", &["not absolute"]);
}

#[test]
fn pushes_from_several_threads_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Arc::new(open(dir.path()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let registry = registry.clone();
            scope.spawn(move || {
                for n in 0..5 {
                    registry.push(&reference(&format!("web:{thread}-{n}")), ONE).unwrap();
                }
            });
        }
    });
    assert_eq!(registry.list().unwrap().len(), 20);
}
