//! Runs the program on plugins in several languages, each built from its source.
//!
//! C and Python are built by wheels from PyPI, installed once below cargo's own folder for tests. Where they can't be
//! installed, and for Python unless `PLUGIN_HOST_PYTHON` is set (compiling its interpreter takes minutes in a debug
//! build), the test says so on standard error and passes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use coracle_fixtures::zig;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program's output for one plugin.
fn expected(file: &Path, language: &str) -> Vec<String> {
    let said = format!("  the plugin says: {language} counts words");
    vec![
        file.display().to_string(),
        said.clone(),
        r#"summarize answers {"longest":"species","words":2}"#.to_owned(),
        "summarize was called wrongly: argument text of summarize: a string is expected, not the number 7"
            .to_owned(),
        "crash failed: ".to_owned(),
        "spin reached a limit: ".to_owned(),
        said,
        r#"summarize answers {"longest":"still","words":2}"#.to_owned(),
    ]
}

#[test]
fn a_plugin_takes_the_place_of_one_in_another_language() {
    let mut plugins = vec![(coracle_fixtures::example_words().to_owned(), "Rust")];
    match c_plugin() {
        Ok(file) => plugins.push((file, "C")),
        Err(reason) => skip("C", &reason),
    }
    if std::env::var_os("PLUGIN_HOST_PYTHON").is_none() {
        skip("Python", "PLUGIN_HOST_PYTHON is not set");
    } else {
        match python_plugin() {
            Ok(file) => plugins.push((file, "Python")),
            Err(reason) => skip("Python", &reason),
        }
    }

    let output = Command::new(env!("CARGO_BIN_EXE_plugin-host"))
        .args(plugins.iter().map(|(file, _)| file))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    // How a trap is described is the guest's affair: what comes before it is compared.
    let mut lines = text.lines();
    for line in plugins.iter().flat_map(|(file, language)| expected(file, language)) {
        let found = lines.find(|found| !found.starts_with("    ")).unwrap_or_default();
        let is_open = line.ends_with(": ");
        assert!(found == line || is_open && found.starts_with(&line), "expected {line:?} in\n{text}");
    }
    assert_eq!(lines.next(), None, "{text}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_plugin-host")).arg("missing.wasm").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("could not read missing.wasm"), "{text}");
}

/// Not `eprintln`, which the test harness keeps to itself.
fn skip(language: &str, reason: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "SKIPPED: no plugin in {language}: {reason}").unwrap();
}

fn example() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn c_plugin() -> Result<PathBuf, String> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    zig::component(&example().join("plugins/c/words.c"), &example().join("wit/plugin.wit"), tmp)
}

fn python_plugin() -> Result<PathBuf, String> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let python = zig::python_with(zig::COMPONENTIZE_PY, tmp)?;
    let component = tmp.join("python.wasm");
    let mut build = Command::new(python.with_file_name("componentize-py"));
    build.args(["-d", "wit", "-w", "plugin", "componentize", "-p", "plugins/python", "words", "-o"]);
    build.arg(&component).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(example());
    let output = build.output().unwrap();
    // That it fails, although it is there, is a fault of the example.
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(component)
}
