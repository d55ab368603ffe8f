//! Runs the platform and two tenants on it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Platform {
    child: Child,
    address: String,
}

impl Platform {
    fn start(tenants: &[&str]) -> Platform {
        let mut child = Command::new(env!("CARGO_BIN_EXE_functions"))
            .arg("127.0.0.1:0")
            .args(tenants)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("listening on http://").trim_end_matches('/').to_owned();
        Platform { child, address }
    }

    /// The status and body of an answer.
    fn send(&self, method: &str, path: &str, key: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: functions\r\nconnection: close\r\nx-key: {key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send("GET", path, "", b"")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tenants_deploy_functions_and_do_not_feel_each_other() {
    let platform = Platform::start(&["alice=sesame", "bob=hunter2"]);
    let hello = std::fs::read(coracle_fixtures::example_hello()).unwrap();
    assert_eq!(
        platform.send("PUT", "/-/alice/hello", "sesame", &hello),
        (201, "hello is deployed\n".to_owned())
    );
    assert_eq!(platform.send("PUT", "/-/bob/hello", "hunter2", &hello).0, 201);

    assert_eq!(platform.get("/alice/hello"), (200, "Hello from Coracle!\n".to_owned()));
    assert_eq!(platform.get("/alice/hello/health"), (200, "ok\n".to_owned()));
    let (status, echoed) = platform.send("POST", "/bob/hello/echo", "", b"and back");
    assert!(status == 200 && echoed.contains("and back"), "{status} {echoed}");

    // Limits hold, and only for who reached them.
    let (status, why) = platform.get("/bob/hello/spin");
    assert_eq!(status, 502);
    assert!(why.contains("out of fuel"), "{why}");
    let (status, why) = platform.get("/bob/hello/hog");
    assert!(status == 502 && why.contains("OutOfMemoryError"), "{status} {why}");
    assert_eq!(platform.get("/alice/hello").0, 200);
    assert_eq!(platform.get("/bob/hello").0, 200);

    let (status, usage) = platform.send("GET", "/-/bob", "hunter2", b"");
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
    assert_eq!((status, &usage["functions"]["hello"]["failed"]), (200, &2.into()), "{usage}");
    assert!(
        usage["cpuSeconds"].as_f64().unwrap() > 0.0 && usage["memoryPeakBytes"].as_u64().unwrap() > 64 << 20
    );

    assert_eq!(platform.send("DELETE", "/-/bob/hello", "hunter2", b"").0, 200);
    assert_eq!(platform.get("/bob/hello").0, 404);
    assert_eq!(platform.get("/alice/hello").0, 200);
}

#[test]
fn nobody_deploys_for_another_and_nothing_that_is_no_function() {
    let platform = Platform::start(&["alice=sesame", "bob=hunter2"]);
    assert_eq!(platform.send("PUT", "/-/alice/hello", "hunter2", b"").0, 403);
    assert_eq!(platform.send("PUT", "/-/carol/hello", "", b"").0, 403);
    let (status, why) = platform.send("PUT", "/-/alice/hello", "sesame", b"#!/bin/sh\n");
    assert!(status == 400 && why.contains("WebAssembly"), "{why}");
    let batch = std::fs::read(coracle_fixtures::example_batch()).unwrap();
    let (status, why) = platform.send("PUT", "/-/alice/hello", "sesame", &batch);
    assert!(status == 400 && why.contains("no wasi:http handler"), "{why}");
    assert_eq!(platform.get("/alice/hello").0, 404);
}
