//! Documents tell the truth: every command in them is run, and prints what they say it prints.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_fixtures as fixtures;
use support::{python, run, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What documents refer to, in a directory of its own: nothing that is run in it changes the repository.
fn working_copy(dir: &Path) {
    copy(&root().join("examples"), &dir.join("examples"));
    std::fs::copy(root().join("README.md"), dir.join("README.md")).unwrap();
    std::fs::create_dir(dir.join("tmp")).unwrap();
    let built = dir.join("examples/target/wasm32-wasip2/release");
    std::fs::create_dir_all(&built).unwrap();
    // In the folder of one of them are all of them.
    for entry in std::fs::read_dir(fixtures::example_hello().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            std::fs::copy(&path, built.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != "node_modules" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[track_caller]
fn tells_the_truth(document: &str) {
    let work = tempfile::tempdir().unwrap();
    working_copy(work.path());
    let output = run(Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docs.py"))
        .arg(root())
        .arg(document)
        .arg(work.path())
        .arg(env!("CARGO_BIN_EXE_coracle"))
        .arg(python().parent().unwrap()));
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

#[test]
fn the_front_page() {
    tells_the_truth("README.md");
}

#[test]
fn listeners_rules_and_target_groups() {
    tells_the_truth("runtime/router/docs/listeners.md");
}

#[test]
fn the_example_batch() {
    tells_the_truth("examples/batch/README.md");
}

#[test]
fn the_example_hello() {
    tells_the_truth("examples/hello/README.md");
}

#[test]
fn the_example_sidecar() {
    tells_the_truth("examples/sidecar/README.md");
}

#[test]
fn the_quick_start() {
    tells_the_truth("runtime/coracle/docs/quick-start.md");
}

#[test]
fn files_for_apply() {
    tells_the_truth("runtime/coracle/docs/apply.md");
}

#[test]
fn from_ecs_in_five_steps() {
    tells_the_truth("runtime/coracle/docs/from-ecs.md");
}

#[test]
fn limits_explained() {
    tells_the_truth("runtime/coracle/docs/limits.md");
}
