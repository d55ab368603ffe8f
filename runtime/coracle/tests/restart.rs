//! Crashes and stops: what was acknowledged is there afterwards, what ran is replaced.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::{Server, text, wait_for};

fn tasks(server: &Server, status: &str) -> Vec<String> {
    let found = server.ecs("ListTasks", &json!({ "desiredStatus": status }));
    found["taskArns"].as_array().unwrap().iter().map(|arn| arn.as_str().unwrap().to_owned()).collect()
}

#[test]
fn after_kill_9_everything_acknowledged_is_there_and_services_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]);
    server.push(fixtures::http(), "http:1");
    server.push(fixtures::command(), "command:1");
    let web = server.register("web", json!({ "image": "http:1", "portMappings": [{ "containerPort": 80 }] }));
    server.create_service("web", &web, 3);
    server.ecs("CreateCluster", &json!({ "clusterName": "other", "tags": [{ "key": "a", "value": "b" }] }));
    let job = server.register("job", json!({ "image": "command:1", "command": ["sleep-forever"] }));
    let lonely = server.run_task(&job, &json!({}));
    server.wait_task(&lonely, "RUNNING");
    let before = tasks(&server, "RUNNING");
    assert_eq!(before.len(), 4);
    server.kill_9();

    let server = Server::start_in(dir.path(), &[]);
    let service = server.wait_stable("web");
    assert_eq!((&service["runningCount"], &service["taskDefinition"]), (&json!(3), &json!(web)));
    assert_eq!(server.get("web", "/hello").status, 200);
    // Those that died with the process are over, with a reason, and others took their place.
    let described = server.ecs("DescribeTasks", &json!({ "tasks": before }));
    assert_eq!(described["failures"], json!([]));
    for task in described["tasks"].as_array().unwrap() {
        assert_eq!(task["lastStatus"], "STOPPED", "{task:#}");
        assert!(
            !task["stoppedReason"].as_str().unwrap().is_empty() && !task["stopCode"].is_null(),
            "{task:#}"
        );
    }
    let after = tasks(&server, "RUNNING");
    assert!(after.len() == 3 && after.iter().all(|arn| !before.contains(arn)), "{after:?}");
    let clusters = server.ecs("DescribeClusters", &json!({ "clusters": ["other"], "include": ["TAGS"] }));
    assert_eq!(clusters["clusters"][0]["tags"][0]["value"], "b");
    // Nothing was compiled a second time.
    let metrics = support::http("GET", &server.api, "/metrics", &[], b"").text();
    assert!(metrics.contains("coracle_artifacts_total{from=\"compiler\"} 0"), "{metrics}");
}

#[test]
fn a_crash_in_the_middle_of_work_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..3 {
        let server = Server::start_in(dir.path(), &[]);
        for n in 0..20 {
            let family = format!("family-{round}-{n}");
            acknowledged.push(server.register(&family, json!({ "image": "x" })));
        }
        server.kill_9();
    }
    let server = Server::start_in(dir.path(), &[]);
    for arn in &acknowledged {
        let found = server.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": arn }));
        assert_eq!(found["taskDefinition"]["taskDefinitionArn"], json!(arn));
    }
}

#[test]
fn sigterm_answers_requests_in_flight_stops_tasks_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]);
    server.push(fixtures::http(), "http:1");
    let web = server.register("web", json!({ "image": "http:1" }));
    server.create_service("web", &web, 1);
    let running = tasks(&server, "RUNNING");
    let router = server.router.clone();
    let slow = std::thread::spawn(move || {
        support::http("GET", &router, "/slow?ms=1500", &[("host", "web.default.localhost")], b"")
    });
    wait_for("the request to be in flight", || {
        let metrics = support::http("GET", &server.api, "/metrics", &[], b"").text();
        let in_flight = |line: &&str| line.starts_with("coracle_instances{") && !line.ends_with(" 0");
        metrics.lines().find(in_flight).map(|_| ())
    });
    let status = server.terminate();
    assert!(status.success(), "{status}");
    let answer = slow.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    let server = Server::start_in(dir.path(), &[]);
    let task = server.ecs("DescribeTasks", &json!({ "tasks": running }))["tasks"][0].take();
    assert_eq!(
        (&task["lastStatus"], &task["containers"][0]["exitCode"]),
        (&json!("STOPPED"), &json!(0)),
        "{task:#}"
    );
    server.wait_stable("web");
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]);
    let data = dir.path().join("data");
    let output = support::run(
        support::coracle()
            .args(["up", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0", "--data-dir"])
            .arg(&data),
    );
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("in use by process") && said.contains("--data-dir"), "{said}");
    drop(server);
}

#[test]
fn reset_exists_only_when_allowed_and_empties_everything() {
    let reset = |server: &Server| support::http("POST", &server.api, "/_coracle/reset", &[], b"");
    let server = Server::start(&[]);
    assert_eq!(reset(&server).status, 404);
    drop(server);
    let server = Server::start(&["--allow-reset"]);
    server.push(fixtures::http(), "http:1");
    let web = server.register("web", json!({ "image": "http:1" }));
    server.create_service("web", &web, 2);
    assert_eq!(server.get("web", "/log?n=1").status, 200);
    let answer = reset(&server);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let empty = |operation: &str, member: &str| {
        assert_eq!(server.ecs(operation, &json!({}))[member], json!([]), "{operation}");
    };
    empty("ListServices", "serviceArns");
    empty("ListTasks", "taskArns");
    empty("ListTaskDefinitions", "taskDefinitionArns");
    let images: Value = serde_json::from_slice(&server.coracle(&["images", "--json"]).stdout).unwrap();
    assert_eq!(images["images"], json!([]));
    assert_eq!(server.get("web", "/hello").status, 404);
    // Numbers begin again, and everything works as on the first day.
    server.push(fixtures::http(), "http:1");
    assert!(server.register("web", json!({ "image": "http:1" })).ends_with("web:1"));
    server.create_service("web", "web", 1);
    assert_eq!(server.get("web", "/hello").status, 200);
}
