//! What must hold when something around Coracle goes wrong: readers that leave, signals at bad moments,
//! requests that do not end, resets under load.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use coracle_fixtures as fixtures;
use serde_json::json;
use support::{Server, coracle, http, try_http, wait_for};

/// Starts a command whose output is read, or not, by the test.
fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Waits for a command's end, and gives how it ended and what it said on standard error.
#[track_caller]
fn end(child: &mut Child) -> (ExitStatus, String) {
    let status = wait_for("the command to end", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status, said)
}

/// Reads a line of a command's output, then closes it.
#[track_caller]
fn read_a_line_and_leave(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    let mut flood = spawn(coracle().arg("run").arg(fixtures::command()).args(["--", "flood"]));
    assert_eq!(read_a_line_and_leave(&mut flood), "flood line 0\n");
    let (status, said) = end(&mut flood);
    // As if SIGPIPE had ended it.
    assert_eq!((status.code(), said.as_str()), (Some(141), ""));

    let server = Server::start(&[]);
    server.push(fixtures::command(), "command:1");
    let definition = server.register("lines", json!({ "image": "command:1", "command": ["lines", "20000"] }));
    let task = server.run_task(&definition, &json!({}));
    server.wait_task(&task, "STOPPED");
    for args in [&["logs", task.as_str()][..], &["logs", "-f", task.as_str()], &["ps", "--all", "--json"]] {
        let mut command = spawn(coracle().args(args).args(["--api", &server.api]));
        read_a_line_and_leave(&mut command);
        let (status, said) = end(&mut command);
        assert!(status.success() && said.is_empty(), "{args:?}: {status}: {said}");
    }
}

#[test]
fn a_server_outlives_whoever_reads_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = coracle();
    up.args(["up", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"]).arg("--data-dir").arg(dir.path());
    let mut up = spawn(up.arg("--ready-file").arg(dir.path().join("ready.json")));
    drop(up.stdout.take());
    drop(up.stderr.take());
    wait_for("coracle to be ready", || dir.path().join("ready.json").exists().then_some(()));
    signal(&up, rustix::process::Signal::TERM);
    let status = wait_for("coracle to stop", || up.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn following_logs_ends_at_ctrl_c_whatever_it_is_doing() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let definition = server.register("web", json!({ "image": "http:1" }));
    server.create_service("web", &definition, 1);
    server.get("web", "/log?n=1");
    for round in 0..10 {
        let mut follow = spawn(coracle().args(["logs", "-f", "web", "--api", &server.api]));
        let mut line = String::new();
        let mut out = BufReader::new(follow.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.ends_with("line 0\n"), "{line}");
        if round == 0 {
            // A task that comes later is followed too.
            server.ecs("UpdateService", &json!({ "service": "web", "forceNewDeployment": true }));
            server.wait_stable("web");
            server.get("web", "/log?n=3");
            while !line.ends_with("line 2\n") {
                line.clear();
                assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended by itself");
            }
        }
        signal(&follow, rustix::process::Signal::INT);
        let (status, said) = end(&mut follow);
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
}

#[test]
fn at_sigterm_a_request_that_does_not_end_gets_its_tasks_stop_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]);
    server.push(fixtures::http(), "http:1");
    let web = server.register("web", json!({ "image": "http:1", "stopTimeout": 2 }));
    server.create_service("web", &web, 1);
    let task = server.ecs("ListTasks", &json!({}))["taskArns"][0].take();
    let router = server.router.clone();
    let endless = std::thread::spawn(move || {
        try_http("GET", &router, "/slow?ms=50000", &[("host", "web.default.localhost")], b"")
    });
    wait_for("the request to be in flight", || {
        let metrics = http("GET", &server.api, "/metrics", &[], b"").text();
        metrics.contains("coracle_pool_instances{state=\"used\"} 1").then_some(())
    });
    let begun = Instant::now();
    let status = server.terminate();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(25), "stopping took {:?}", begun.elapsed());
    assert!(endless.join().unwrap().is_ok_and(|answer| answer.status == 502));

    let server = Server::start_in(dir.path(), &[]);
    let task = server.ecs("DescribeTasks", &json!({ "tasks": [task] }))["tasks"][0].take();
    let container = &task["containers"][0];
    assert_eq!((&task["lastStatus"], &container["exitCode"]), (&json!("STOPPED"), &json!(137)), "{task:#}");
    assert!(container["reason"].as_str().unwrap().contains("stopTimeout"), "{container:#}");
}

#[test]
fn metrics_are_there_from_the_start_and_go_with_their_service() {
    let server = Server::start(&[]);
    let metrics = || http("GET", &server.api, "/metrics", &[], b"").text();
    // Before anything has run, too.
    assert!(metrics().contains("coracle_pool_instances{state=\"used\"} 0"), "{}", metrics());
    server.push(fixtures::http(), "http:1");
    let definition = server.register("web", json!({ "image": "http:1" }));
    server.create_service("web", &definition, 1);
    assert_eq!(server.get("web", "/hello").status, 200);
    assert!(metrics().contains("coracle_cold_starts_total{cluster=\"default\",group=\"service:web\"} 1"));
    server.ecs("DeleteService", &json!({ "service": "web", "force": true }));
    wait_for("its metrics to go", || (!metrics().contains("web")).then_some(()));
}

#[test]
fn resets_at_the_same_time_under_load_leave_nothing() {
    let server = Server::start(&["--allow-reset"]);
    server.push(fixtures::http(), "http:1");
    server.push(fixtures::command(), "command:1");
    let web = server.register("web", json!({ "image": "http:1", "stopTimeout": 2 }));
    server.create_service("web", &web, 2);
    let flood = server.register("flood", json!({ "image": "command:1", "command": ["flood"] }));
    server.wait_task(&server.run_task(&flood, &json!({})), "RUNNING");
    std::thread::scope(|scope| {
        let hanging = scope
            .spawn(|| try_http("GET", &server.router, "/spin", &[("host", "web.default.localhost")], b""));
        for _ in 0..2 {
            scope.spawn(|| {
                let answer = http("POST", &server.api, "/_coracle/reset", &[], b"");
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
        // It was cut off, in whatever way, or came too late.
        assert!(hanging.join().unwrap().is_ok_and(|answer| answer.status >= 400));
    });
    let headers =
        [("x-amz-target", "Logs_20140328.DescribeLogGroups"), ("content-type", "application/x-amz-json-1.1")];
    let groups: serde_json::Value =
        serde_json::from_slice(&http("POST", &server.api, "/", &headers, b"{}").body).unwrap();
    assert_eq!(groups["logGroups"], json!([]));
    assert_eq!(server.ecs("ListTasks", &json!({ "desiredStatus": "STOPPED" }))["taskArns"], json!([]));
}
