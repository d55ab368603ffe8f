//! Programs from crates.io, unchanged, as a task over a mounted volume: the example `pipeline`.
//!
//! They are built once for each target folder. Where they can't be fetched the test says so on standard error and passes;
//! with `CORACLE_REQUIRE_TOOLCHAINS` set it fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::Server;
use support::built::{self, skip};

#[test]
fn markdown_is_rendered_and_compressed() {
    let programs = match built::pipeline() {
        Ok(programs) => programs,
        Err(reason) => return skip("no programs from crates.io", &reason),
    };
    let server = Server::start(&[]);
    server.push(&programs.join("bin/comrak.wasm"), "comrak:0.59.0");
    server.push(&programs.join("bin/brotli.wasm"), "brotli:latest");

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
