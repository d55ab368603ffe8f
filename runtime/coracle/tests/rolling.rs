//! A rolling update, a scale-in and a task's replacement under constant load: no request fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use coracle_fixtures as fixtures;
use serde_json::json;
use support::load::Load;
use support::{Server, wait_for};

#[test]
fn no_request_fails_during_a_rolling_update() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let definition = |version: &str| {
        let environment = json!([{ "name": "VERSION", "value": version }]);
        let ports = json!([{ "containerPort": 80 }]);
        server
            .register("web", json!({ "image": "http:1", "environment": environment, "portMappings": ports }))
    };
    let (one, two) = (definition("one"), definition("two"));
    server.create_service("web", &one, 3);
    let load = Load::start(&server.router, "web.default.localhost");
    load.wait_more(100);

    server.ecs("UpdateService", &json!({ "service": "web", "taskDefinition": two }));
    let service = server.wait_stable("web");
    assert_eq!(service["taskDefinition"], json!(two));
    load.wait_more(100);
    server.ecs("UpdateService", &json!({ "service": "web", "forceNewDeployment": true }));
    server.wait_stable("web");
    server.ecs("UpdateService", &json!({ "service": "web", "desiredCount": 1 }));
    server.wait_stable("web");
    load.wait_more(100);
    // With one task at 0/100 percent the old one must go first: requests wait for the new one.
    let tight = json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
    let update = json!({ "service": "web", "deploymentConfiguration": tight, "forceNewDeployment": true });
    server.ecs("UpdateService", &update);
    server.wait_stable("web");
    load.wait_more(100);

    let (answers, failures) = load.finish();
    assert!(
        failures.is_empty(),
        "{} failed: {:?}\n{}",
        failures.len(),
        &failures[..failures.len().min(5)],
        server.log()
    );
    assert!(answers.contains_key("one") && answers.contains_key("two"), "{answers:?}");
}

#[test]
fn a_broken_revision_never_replaces_a_working_one() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let good = server.register("web", json!({ "image": "http:1" }));
    let bad = server.register("web", json!({ "image": "no-such-image:1" }));
    server.create_service("web", &good, 2);
    // Its tasks run; only a deployment that has completed as well is gone back to, in ECS too.
    wait_for("the end of the first deployment", || {
        let service = server.ecs("DescribeServices", &json!({ "services": ["web"] }))["services"][0].take();
        (service["deployments"][0]["rolloutState"] == "COMPLETED").then_some(())
    });
    server.ecs(
        "UpdateService",
        &json!({
            "service": "web", "taskDefinition": bad,
            "deploymentConfiguration": { "deploymentCircuitBreaker": { "enable": true, "rollback": true } },
        }),
    );
    let rolled_back = || {
        let service = server.ecs("DescribeServices", &json!({ "services": ["web"] }))["services"][0].take();
        assert!(service["runningCount"].as_u64().unwrap() >= 2, "{service:#}");
        let back = service["taskDefinition"] == good.as_str()
            && service["deployments"].as_array().unwrap().len() == 1;
        back.then_some(service)
    };
    let service = wait_for("the rollback", rolled_back);
    let events = service["events"].to_string();
    assert!(
        events.contains("rolling back to deployment")
            && events.contains("deployment failed: tasks failed to start."),
        "{events}"
    );
    assert_eq!(server.get("web", "/hello").status, 200);
}
