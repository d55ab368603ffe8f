//! Programs from crates.io, unchanged, as a task over a mounted volume: the example `pipeline`.
//!
//! They are built once for each target folder. Where they can't be fetched the test says so on standard error and passes;
//! with `CORACLE_REQUIRE_TOOLCHAINS` set it fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::built::{self, skip};
use support::{Server, run, text};

/// Writes a picture of 200 × 200 pixels that is not compressed.
const DRAW: &str = r#"
import struct, sys, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

rows = b"".join(b"\0" + b"".join(bytes([x, y, x ^ y]) for x in range(200)) for y in range(200))
head = struct.pack(">IIBBBBB", 200, 200, 8, 2, 0, 0, 0)
chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")
open(sys.argv[1], "wb").write(b"\x89PNG\r\n\x1a\n" + chunks)
"#;

/// Prints the sums of files, as `sha256sum` does.
const SUMS: &str = r#"
import hashlib, os, sys

for path in sys.argv[1:]:
    print(hashlib.sha256(open(path, "rb").read()).hexdigest() + "  /data/" + os.path.basename(path))
"#;

fn python(script: &str, arguments: &[PathBuf]) -> String {
    let output = run(Command::new("python3").args(["-c", script]).args(arguments));
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn five_programs_do_their_part() {
    let programs = match built::pipeline() {
        Ok(programs) => programs.root,
        Err(reason) => return skip("no programs from crates.io", &reason),
    };
    let server = Server::start(&[]);
    for program in ["comrak", "brotli", "rg", "oxipng", "coreutils"] {
        server.push(&programs.join(format!("bin/{program}.wasm")), &format!("{program}:latest"));
    }

    let data = server.path().join("pipeline");
    fs::create_dir(&data).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipeline");
    fs::copy(example.join("README.md"), data.join("page.md")).unwrap();
    let (picture, small) = (data.join("picture.png"), data.join("small.png"));
    python(DRAW, std::slice::from_ref(&picture));
    let definition = fs::read_to_string(example.join("task-definition.json")).unwrap();
    let mut definition: Value = serde_json::from_str(&definition).unwrap();
    definition["volumes"][0]["host"]["sourcePath"] = data.to_str().unwrap().into();
    let registered = server.ecs("RegisterTaskDefinition", &definition);
    let definition = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap();

    let task = server.run_task(definition, &json!({}));
    let stopped = server.wait_task(&task, "STOPPED");
    let codes: Vec<_> =
        stopped["containers"].as_array().unwrap().iter().map(|one| one["exitCode"].clone()).collect();
    assert_eq!(codes, vec![json!(0); 5], "{stopped:#}");

    let html = fs::read(data.join("page.html")).unwrap();
    assert!(String::from_utf8_lossy(&html).contains("<h1>pipeline: programs from crates.io</h1>"));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&data.join("page.html.br")) * 2 < html.len() as u64);
    assert!(size(&small) * 2 < size(&picture), "{} of {}", size(&small), size(&picture));
    assert!(fs::read(&small).unwrap().starts_with(b"\x89PNG\r\n"));
    let log = server.log_messages("/ecs/pipeline");
    assert_eq!(log[..3], ["pipeline: programs from crates.io", "As a task", "Which programs work"]);
    assert_eq!(log[3..].join("\n") + "\n", python(SUMS, &[data.join("page.html.br"), small]));

    // And back: what was compressed is what was rendered.
    let command = json!([{ "name": "compress", "command": ["/data/page.html.br", "/data/back.html"] }]);
    let task = server.run_task(definition, &json!({ "containerOverrides": command }));
    assert_eq!(server.wait_task(&task, "STOPPED")["containers"][1]["exitCode"], 0);
    assert!(fs::read(data.join("back.html")).unwrap() == html);
}
