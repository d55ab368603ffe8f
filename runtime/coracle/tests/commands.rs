//! The command line: `run`, `push`, `images`, `ps`, `logs`, the demonstration, and friendly errors.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::{Server, coracle, http, run, text, wait_for};

fn run_component(args: &[&str]) -> std::process::Output {
    run(coracle().arg("run").args(args))
}

#[test]
fn run_passes_output_arguments_environment_and_exit_code() {
    let command = fixtures::command().to_str().unwrap();
    let output = run_component(&[command, "--", "echo", "a", "b c"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "a b c", "{}", text(&output));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output));
    assert_eq!(run_component(&[command, "--", "exit", "7"]).status.code(), Some(7));
    let output = run_component(&["--env", "COLOUR=blue", command, "--", "env"]);
    assert!(text(&output).contains("COLOUR=blue"), "{}", text(&output));
    assert!(!text(&output).contains("PATH="), "nothing is granted by default: {}", text(&output));
    let output = run_component(&[command, "--", "partial"]);
    assert!(!output.stdout.is_empty() && !output.stdout.ends_with(b"\n"), "{}", text(&output));
}

#[test]
fn run_grants_directories_as_told() {
    let command = fixtures::command().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "inside").unwrap();
    let mount = format!("{}::/data", dir.path().display());
    let read = |args: &[&str]| run_component(&[args, &[command, "--", "cat", "/data/a.txt"]].concat());
    assert!(!read(&[]).status.success());
    assert_eq!(String::from_utf8_lossy(&read(&["--dir", &mount]).stdout).trim(), "inside");
    let read_only = format!("{mount}:ro");
    let write = |mount: &str| run_component(&["--dir", mount, command, "--", "write", "/data/b.txt", "new"]);
    assert!(!write(&read_only).status.success());
    assert!(!dir.path().join("b.txt").exists());
    assert!(write(&mount).status.success());
    assert!(dir.path().join("b.txt").exists());
}

#[test]
fn run_enforces_its_limits() {
    let command = fixtures::command().to_str().unwrap();
    let output = run_component(&["--timeout", "300ms", command, "--", "spin"]);
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
    let output = run_component(&["--memory", "32", command, "--", "hog"]);
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
    assert!(text(&output).contains("OutOfMemoryError"), "{}", text(&output));
    let output = run_component(&["--fuel", "1000000", command, "--", "spin"]);
    assert!(!output.status.success() && text(&output).contains("fuel"), "{}", text(&output));
    let output = run_component(&[command, "--", "trap"]);
    assert!(!output.status.success() && text(&output).contains("unreachable"), "{}", text(&output));
}

#[test]
fn run_serves_an_http_component() {
    let mut child = coracle()
        .args(["run", "--listen", "127.0.0.1:0"])
        .arg(fixtures::example_hello())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let answer = http("GET", &url, "/", &[], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Coracle!\n"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = wait_for("coracle run to stop", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn errors_say_what_to_do() {
    let output = run_component(&["/surely/not/there.wasm"]);
    assert!(
        !output.status.success() && text(&output).contains("/surely/not/there.wasm"),
        "{}",
        text(&output)
    );
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("x.wasm");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let output = run_component(&[script.to_str().unwrap()]);
    assert!(text(&output).contains("WebAssembly"), "{}", text(&output));
    let output = run_component(&[fixtures::exotic().to_str().unwrap()]);
    assert!(text(&output).contains("acme:missing/thing"), "{}", text(&output));
    let output = run(coracle().args(["ps", "--api", "http://127.0.0.1:1"]));
    assert!(!output.status.success() && text(&output).contains("coracle up"), "{}", text(&output));
}

#[test]
fn push_images_ps_and_logs_are_readable() {
    let server = Server::start(&[]);
    let output = server.coracle(&["images"]);
    assert!(text(&output).contains("no images yet"), "{}", text(&output));
    server.push(fixtures::http(), "shop/http:1.0");
    let listed = text(&server.coracle(&["images"]));
    assert!(listed.contains("shop/http") && listed.contains("1.0") && listed.contains("sha256:"), "{listed}");
    let refused = server.coracle(&["push", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "x:1"]);
    assert!(!refused.status.success() && text(&refused).contains("WebAssembly"), "{}", text(&refused));

    let definition = server.register("web", json!({ "image": "shop/http:1.0" }));
    server.create_service("web", &definition, 2);
    let table = text(&server.coracle(&["ps"]));
    assert!(
        table.contains("service:web") && table.contains("RUNNING") && table.lines().count() == 3,
        "{table}"
    );
    let tasks: Value = serde_json::from_slice(&server.coracle(&["ps", "--json"]).stdout).unwrap();
    let id = tasks[0]["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();

    for _ in 0..4 {
        assert_eq!(server.get("web", "/log?n=2").status, 200);
    }
    wait_for("the log of the service", || {
        let output = text(&server.coracle(&["logs", "web"]));
        (output.lines().count() >= 8).then_some(())
    });
    let one = server.coracle(&["logs", &id[..12]]);
    assert!(one.status.success(), "{}", text(&one));
    let nobody = server.coracle(&["logs", "nobody"]);
    assert!(!nobody.status.success() && text(&nobody).contains("coracle ps --all"), "{}", text(&nobody));
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let definition = server.register("web", json!({ "image": "http:1" }));
    server.create_service("web", &definition, 1);
    for _ in 0..5 {
        server.get("web", "/hello");
    }
    assert_eq!(server.get("nobody", "/").status, 404);
    let metrics = wait_for("the requests to be counted", || {
        let metrics = http("GET", &server.api, "/metrics", &[], b"").text();
        metrics.contains("cluster=\"default\",code=\"200\",service=\"web\"} 5").then_some(metrics)
    });
    for expected in [
        "coracle_tasks{cluster=\"default\",status=\"RUNNING\"} 1",
        "# TYPE coracle_router_request_duration_seconds histogram",
        "# TYPE coracle_fuel_used_total counter",
        "coracle_cold_starts_total{cluster=\"default\",group=\"service:web\"} 5",
        "coracle_memory_peak_bytes{",
        "coracle_artifacts_total{from=\"compiler\"} 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is missing:\n{metrics}");
    }
    assert!(!metrics.contains("nobody"), "an unknown name must not become a label");
}

#[test]
fn the_demonstration_works() {
    let mut child = coracle()
        .args(["demo", "--exit", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{out}\n{err}");
    assert!(out.contains("9 requests, a fresh instance each, answered by 3 tasks"), "{out}");
}
