//! Services that call one another by name.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use coracle_fixtures as fixtures;
use serde_json::json;
use support::Server;

#[test]
fn services_call_one_another_by_name_as_far_as_their_egress_says() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let back = server.register("back", json!({ "image": "http:1" }));
    server.create_service("back", &back, 1);
    let closed = server.register("closed", json!({ "image": "http:1" }));
    server.create_service("closed", &closed, 1);
    let labels = json!({ "coracle.egress": "*.internal" });
    let front = server.register("front", json!({ "image": "http:1", "dockerLabels": labels }));
    server.create_service("front", &front, 1);

    let answer = server.get("front", "/fetch?url=http://back.default.internal/hello");
    assert_eq!((answer.status, answer.text().lines().next().unwrap()), (200, "200"), "{}", answer.text());
    assert_eq!(answer.text().lines().nth(1), server.get("back", "/hello").text().lines().next());

    // Nothing is granted by default, and a grant for one name is none for another.
    let answer = server.get("closed", "/fetch?url=http://back.default.internal/hello");
    assert!(answer.status == 502 && answer.text().contains("Denied"), "{}", answer.text());
    let answer = server.get("front", "/fetch?url=http://back.default.localhost/hello");
    assert_eq!(answer.status, 502, "the task has a localhost of its own: {}", answer.text());

    // What a label grants, the policies of a task's role can grant, too.
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Action": "coracle:Connect", "Resource": "arn:coracle:egress:::back.default.internal",
        }],
    });
    let trust = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        }],
    });
    let role = server.aws(&[
        "iam",
        "create-role",
        "--role-name",
        "caller",
        "--assume-role-policy-document",
        &trust.to_string(),
    ]);
    let put =
        ["iam", "put-role-policy", "--role-name", "caller", "--policy-name", "out", "--policy-document"];
    server.aws(&[&put[..], &[&policy.to_string()]].concat());
    let definition = json!({
        "family": "by-role", "requiresCompatibilities": ["FARGATE"], "cpu": "1024", "memory": "256",
        "taskRoleArn": role["Role"]["Arn"], "containerDefinitions": [{"name": "main", "image": "http:1"}],
    });
    server.ecs("RegisterTaskDefinition", &definition);
    server.create_service("by-role", "by-role", 1);
    let answer = server.get("by-role", "/fetch?url=http://back.default.internal/hello");
    assert_eq!(answer.text().lines().next(), Some("200"), "{}", answer.text());
    let answer = server.get("by-role", "/fetch?url=http://front.default.internal/hello");
    assert!(answer.text().contains("Denied"), "{}", answer.text());

    let answer = server.get("front", "/fetch?url=http://nobody.default.internal/");
    assert!(answer.text().starts_with("404\n") && answer.text().contains("nobody"), "{}", answer.text());

    // Called by itself over and over, the way it came.
    let itself = "/fetch?url=http://front.default.internal";
    let path = (0..17).fold("/hello".to_owned(), |path, _| format!("{itself}{path}"));
    let answer = server.get("front", &path);
    assert!(answer.text().contains("508\n") && answer.text().contains("call itself"), "{}", answer.text());
}
