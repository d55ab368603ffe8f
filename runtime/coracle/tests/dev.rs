//! `coracle dev`, in a terminal: built, served, swapped under load, broken and mended.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use coracle_fixtures as fixtures;
use support::{run, text};

#[track_caller]
fn drive(case: &str, guests: &[&Path]) {
    let output = run(Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev.py"))
        .args([OsStr::new(case), OsStr::new(env!("CARGO_BIN_EXE_coracle"))])
        .args(guests));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_version_is_swapped_for_another_and_no_request_fails() {
    drive("swap", &[fixtures::example_hello(), fixtures::http(), fixtures::exotic()]);
}

#[test]
fn a_cargo_project_needs_no_settings() {
    drive("cargo", &[]);
}
