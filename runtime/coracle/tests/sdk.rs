//! What components made with the SDK meet in a real Coracle.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use coracle_fixtures as fixtures;
use serde_json::json;
use support::{Server, http, wait_for};

#[test]
fn a_service_counts_and_learns_what_it_is() {
    let server = Server::start(&[]);
    server.push(fixtures::sdk_http(), "sdk:1");
    let definition = server.register("shop", json!({ "name": "web", "image": "sdk:1" }));
    server.create_service("shop", &definition, 2);

    assert_eq!(server.get("shop", "/count").text(), "1");
    assert_eq!(server.get("shop", "/count").text(), "2", "all tasks of a service have the same values");
    let metrics = http("GET", &server.api, "/metrics", &[], b"").text();
    for line in [
        "# TYPE counted_total counter",
        r#"counted_total{cluster="default",group="service:shop",by="sdk"} 2"#,
        r#"count_size_sum{cluster="default",group="service:shop"} 3"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }

    assert_eq!(server.get("shop", "/task").text(), "shop Some(256) web");
    assert_eq!(server.get("shop", "/limits").text(), "Some(268435456) true false");
}

#[test]
fn a_task_that_listens_puts_its_things_away() {
    let server = Server::start(&[]);
    server.push(fixtures::sdk_task(), "task:1");
    let container = |command: &str| {
        let log = json!({ "logDriver": "awslogs", "options": {
            "awslogs-group": "/ecs/stop", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "s",
            "awslogs-create-group": "true",
        }});
        json!({ "image": "task:1", "command": [command], "logConfiguration": log })
    };
    let task = server.run_task(&server.register("listens", container("stop")), &json!({}));
    server.wait_task(&task, "RUNNING");
    wait_for("the task to wait", || (server.log_messages("/ecs/stop") == ["waiting"]).then_some(()));
    server.ecs("StopTask", &json!({ "task": task }));
    let stopped = server.wait_task(&task, "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 7, "{stopped:#}");
    assert_eq!(server.log_messages("/ecs/stop"), ["waiting", "putting things away"]);
}
