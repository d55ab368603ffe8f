//! Programs from crates.io, unchanged, as a task over a mounted volume: the example `pipeline`.
//!
//! They are built once for each target folder. Where they can't be fetched the test says so on standard error and passes;
//! with `CORACLE_REQUIRE_TOOLCHAINS` set it fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Server, text};

/// A program of crates.io, built for WASI 0.2.
fn program(name: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    use rustix::fs::{FlockOperation, flock};

    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crates");
    fs::create_dir_all(&root).unwrap();
    let lock = fs::File::create(root.join(format!("{name}.lock"))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let built = root.join(format!("bin/{name}.wasm"));
    if built.exists() {
        return Ok(built);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["install", "--quiet", "--target", "wasm32-wasip2", name]).args(arguments);
    cargo.arg("--root").arg(&root).current_dir(&root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        // What the cargo that runs this test has set is not meant for it.
        if name.starts_with("CARGO_") && name != "CARGO_HOME"
            || name == "RUSTFLAGS"
            || name.starts_with("RUSTC")
        {
            cargo.env_remove(name);
        }
    }
    let cargo = cargo.env("CARGO_TARGET_DIR", root.join("target")).env("CARGO_PROFILE_RELEASE_STRIP", "true");
    let output = cargo.output().map_err(|error| error.to_string())?;
    if built.exists() { Ok(built) } else { Err(text(&output)) }
}

#[test]
fn markdown_is_rendered_and_compressed() {
    let built = program("comrak", &["--version", "0.59.0", "--no-default-features", "--features", "cli"])
        .and_then(|comrak| Ok((comrak, program("brotli", &["--version", "8.0.4"])?)));
    let (comrak, brotli) = match built {
        Ok(built) => built,
        Err(reason) => {
            assert!(std::env::var_os("CORACLE_REQUIRE_TOOLCHAINS").is_none(), "{reason}");
            writeln!(std::io::stderr().lock(), "SKIPPED: no programs from crates.io: {reason}").unwrap();
            return;
        }
    };
    let server = Server::start(&[]);
    server.push(&comrak, "comrak:0.59.0");
    server.push(&brotli, "brotli:latest");

    let data = server.path().join("pipeline");
    fs::create_dir(&data).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipeline");
    fs::copy(example.join("README.md"), data.join("page.md")).unwrap();
    let definition = fs::read_to_string(example.join("task-definition.json")).unwrap();
    let mut definition: Value = serde_json::from_str(&definition).unwrap();
    definition["volumes"][0]["host"]["sourcePath"] = data.to_str().unwrap().into();
    let registered = server.ecs("RegisterTaskDefinition", &definition);
    let definition = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap();

    let task = server.run_task(definition, &json!({}));
    let stopped = server.wait_task(&task, "STOPPED");
    let codes: Vec<_> =
        stopped["containers"].as_array().unwrap().iter().map(|one| one["exitCode"].clone()).collect();
    assert_eq!(codes, [json!(0), json!(0)], "{stopped:#}");

    let html = fs::read(data.join("page.html")).unwrap();
    assert!(String::from_utf8_lossy(&html).contains("<h1>pipeline: programs from crates.io</h1>"));
    assert!(fs::metadata(data.join("page.html.br")).unwrap().len() * 2 < html.len() as u64);

    // And back: what was compressed is what was rendered.
    let command = json!([{ "name": "compress", "command": ["/data/page.html.br", "/data/back.html"] }]);
    let task = server.run_task(definition, &json!({ "containerOverrides": command }));
    assert_eq!(server.wait_task(&task, "STOPPED")["containers"][1]["exitCode"], 0);
    assert!(fs::read(data.join("back.html")).unwrap() == html);
}
