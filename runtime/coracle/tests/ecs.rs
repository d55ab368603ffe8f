//! The ECS walk with the official clients: the `aws` CLI (version 1) and boto3, unmodified, against
//! the real binary.

mod support;

use std::ffi::OsStr;

use coracle_fixtures as fixtures;
use serde_json::json;
use support::{Server, http, wait_for};

#[test]
fn the_walk_with_the_aws_cli() {
    let server = Server::start(&[]);
    server.push(fixtures::example_hello(), "hello:latest");

    let clusters = server.aws(&["ecs", "list-clusters"]);
    assert_eq!(clusters["clusterArns"], json!(["arn:aws:ecs:us-east-1:123456789012:cluster/default"]));
    let made =
        server.aws(&["ecs", "create-cluster", "--cluster-name", "prod", "--tags", "key=team,value=shop"]);
    assert_eq!(made["cluster"]["status"], "ACTIVE");

    let file = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/task-definition.json");
    let registered = server.aws(&["ecs", "register-task-definition", "--cli-input-json", file]);
    assert_eq!(registered["taskDefinition"]["revision"], 1);
    assert_eq!(registered["taskDefinition"]["status"], "ACTIVE");

    let service = server.aws(&[
        "ecs",
        "create-service",
        "--cluster",
        "prod",
        "--service-name",
        "web",
        "--task-definition",
        "hello:1",
        "--desired-count",
        "2",
        "--launch-type",
        "FARGATE",
        "--network-configuration",
        "awsvpcConfiguration={subnets=[subnet-a],securityGroups=[sg-1],assignPublicIp=DISABLED}",
        "--deployment-configuration",
        "maximumPercent=200,minimumHealthyPercent=100,deploymentCircuitBreaker={enable=true,rollback=true}",
    ]);
    assert_eq!(service["service"]["desiredCount"], 2);
    assert_eq!(service["service"]["deployments"][0]["status"], "PRIMARY");
    let running = || {
        let found = server.ecs("DescribeServices", &json!({ "cluster": "prod", "services": ["web"] }));
        (found["services"][0]["runningCount"] == 2).then_some(())
    };
    wait_for("two running tasks", running);
    server.aws(&["ecs", "wait", "services-stable", "--cluster", "prod", "--services", "web"]);

    let described =
        server.aws(&["ecs", "describe-services", "--cluster", "prod", "--services", "web", "nobody"]);
    assert_eq!(described["failures"][0]["reason"], "MISSING");
    let events = described["services"][0]["events"].as_array().unwrap();
    let says = |text: &str| events.iter().any(|event| event["message"].as_str().unwrap().contains(text));
    assert!(
        says("(service web) has started 2 tasks: (task ") && says("has reached a steady state."),
        "{events:?}"
    );

    let answer = http("GET", &server.router, "/", &[("host", "web.prod.localhost:8080")], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Coracle!\n"));
    let tasks = server.aws(&["ecs", "list-tasks", "--cluster", "prod", "--service-name", "web"]);
    let arns = tasks["taskArns"].as_array().unwrap();
    assert_eq!(arns.len(), 2);
    let answered_by = answer.header("x-coracle-task").unwrap();
    assert!(arns.iter().any(|arn| arn.as_str().unwrap().ends_with(answered_by)), "{answered_by}");

    server.aws(&["ecs", "update-service", "--cluster", "prod", "--service", "web", "--desired-count", "1"]);
    wait_for("one running task", || {
        let found = server.aws(&["ecs", "list-tasks", "--cluster", "prod", "--service-name", "web"]);
        (found["taskArns"].as_array().unwrap().len() == 1).then_some(())
    });
    let error = server.aws_fails(&["ecs", "delete-service", "--cluster", "prod", "--service", "web"]);
    assert!(error.contains("InvalidParameterException"), "{error}");
    let error = server.aws_fails(&["ecs", "delete-cluster", "--cluster", "prod"]);
    assert!(error.contains("ClusterContainsServicesException"), "{error}");
    server.aws(&["ecs", "delete-service", "--cluster", "prod", "--service", "web", "--force"]);
    wait_for("the service to be inactive", || {
        let found = server.ecs("DescribeServices", &json!({ "cluster": "prod", "services": ["web"] }));
        (found["services"][0]["status"] == "INACTIVE").then_some(())
    });
    server.aws(&["ecs", "wait", "services-inactive", "--cluster", "prod", "--services", "web"]);
    wait_for("the cluster to be deletable", || {
        let found = server.ecs("DescribeClusters", &json!({ "clusters": ["prod"] }));
        (found["clusters"][0]["runningTasksCount"] == 0).then_some(())
    });
    let deleted = server.aws(&["ecs", "delete-cluster", "--cluster", "prod"]);
    assert_eq!(deleted["cluster"]["status"], "INACTIVE");

    let identity = server.aws(&["sts", "get-caller-identity"]);
    assert_eq!(identity["Account"], "123456789012");
    let error = server.aws_fails(&["ecs", "describe-tasks", "--cluster", "nowhere", "--tasks", "a"]);
    assert!(error.contains("ClusterNotFoundException"), "{error}");
    let error = server.aws_fails(&["ecs", "delete-attributes", "--attributes", "name=a,value=b"]);
    assert!(!error.contains("404") && error.contains("An error occurred"), "{error}");
}

#[test]
fn a_batch_task_with_overrides_runs_to_its_exit_code_and_its_log_is_whole() {
    let server = Server::start(&[]);
    server.push(fixtures::example_batch(), "batch:latest");
    let file = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/../../examples/batch/task-definition.json");
    server.aws(&["ecs", "register-task-definition", "--cli-input-json", file]);
    let answer = server.aws(&[
        "ecs",
        "run-task",
        "--task-definition",
        "batch",
        "--launch-type",
        "FARGATE",
        "--started-by",
        "ci-42",
        "--overrides",
        r#"{"containerOverrides":[{"name":"batch","command":["primes","100"]}]}"#,
        "--network-configuration",
        "awsvpcConfiguration={subnets=[subnet-a]}",
    ]);
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    server.wait_task(&arn, "STOPPED");
    server.aws(&["ecs", "wait", "tasks-stopped", "--tasks", &arn]);
    let task = server.aws(&["ecs", "describe-tasks", "--tasks", &arn])["tasks"][0].take();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{task:#}");
    assert_eq!(task["stopCode"], "EssentialContainerExited");
    assert_eq!(task["stoppedReason"], "Essential container in task exited");
    assert_eq!((&task["startedBy"], &task["group"]), (&json!("ci-42"), &json!("family:batch")));
    for member in [
        "createdAt",
        "pullStartedAt",
        "pullStoppedAt",
        "startedAt",
        "stoppingAt",
        "executionStoppedAt",
        "stoppedAt",
    ] {
        assert!(!task[member].is_null(), "{member} is missing: {task:#}");
    }
    let groups = server.aws(&["logs", "describe-log-groups", "--log-group-name-prefix", "/ecs/"]);
    assert_eq!(groups["logGroups"][0]["logGroupName"], "/ecs/batch");
    let streams = server.aws(&["logs", "describe-log-streams", "--log-group-name", "/ecs/batch"]);
    let stream = streams["logStreams"][0]["logStreamName"].as_str().unwrap();
    assert_eq!(stream, format!("batch/batch/{}", arn.rsplit('/').next().unwrap()));
    let events = server.aws(&[
        "logs",
        "get-log-events",
        "--log-group-name",
        "/ecs/batch",
        "--log-stream-name",
        stream,
    ]);
    let first = events["events"][0]["message"].as_str().unwrap();
    assert!(first.contains("25"), "there are 25 primes up to 100: {first}");

    let wrong = server
        .run_task("batch", &json!({ "containerOverrides": [{ "name": "batch", "command": ["nonsense"] }] }));
    let task = server.wait_task(&wrong, "STOPPED");
    assert_eq!(task["containers"][0]["exitCode"], 2, "{task:#}");
}

#[test]
fn a_sidecar_runs_before_the_container_that_waits_for_it() {
    let server = Server::start(&[]);
    server.push(fixtures::example_sidecar_web(), "sidecar-web:latest");
    server.push(fixtures::example_sidecar_greeter(), "sidecar-greeter:latest");
    let file = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/../../examples/sidecar/task-definition.json");
    server.aws(&["ecs", "register-task-definition", "--cli-input-json", file]);
    server.create_service("sidecar", "sidecar", 1);
    let answer = server.get("sidecar", "/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("Ahoy"), "{}", answer.text());
}

#[test]
fn boto3_walks_waits_pages_and_gets_typed_errors() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "shop/http:1");
    server.push(fixtures::command(), "command:latest");
    server.boto3("boto3_walk.py", &[OsStr::new("shop/http:1"), OsStr::new("command")]);
}

#[test]
fn boto3_calls_every_operation_and_checks_every_answer_against_the_model() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "shop/http:1");
    server.push(fixtures::command(), "command:latest");
    server.boto3("boto3_every_operation.py", &[OsStr::new("shop/http:1"), OsStr::new("command")]);
}

#[test]
fn the_commands_people_write_work_letter_by_letter() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "shop/http:1");
    server.push(fixtures::command(), "command:latest");
    server.boto3("cli_as_people_write_it.py", &[OsStr::new("shop/http:1"), OsStr::new("command")]);
}

#[test]
fn images_that_cannot_run_say_why() {
    let server = Server::start(&[]);
    let reason = |image: &str| {
        let definition = server.register("bad", json!({ "image": image }));
        let task = server.wait_task(&server.run_task(&definition, &json!({})), "STOPPED");
        assert_eq!(task["stopCode"], "TaskFailedToStart", "{task:#}");
        assert!(task["containers"][0]["exitCode"].is_null(), "{task:#}");
        task["stoppedReason"].as_str().unwrap().to_owned()
    };
    let missing = reason("nginx:latest");
    assert!(missing.starts_with("CannotPullContainerError: ") && missing.contains("nginx"), "{missing}");
    let no_file = reason("file:///surely/not/there.wasm");
    assert!(
        no_file.starts_with("CannotPullContainerError: ") && no_file.contains("/surely/not/there.wasm"),
        "{no_file}"
    );
    let archive = server.path().join("image.tar.gz");
    std::fs::write(&archive, b"\x1f\x8b\x08\0\0\0\0\0\0\x03 and so on").unwrap();
    let archive = reason(&format!("file://{}", archive.display()));
    assert!(archive.starts_with("CannotPullContainerError: ") && archive.contains("gzip"), "{archive}");
    let broken = server.path().join("broken.wasm");
    std::fs::write(&broken, b"\0asm\x0d\0\x01\0 and then nonsense").unwrap();
    let broken = reason(&format!("file://{}", broken.display()));
    assert!(broken.starts_with("CannotPullContainerError: "), "{broken}");
    let exotic = reason(&format!("file://{}", fixtures::exotic().display()));
    assert!(exotic.contains("acme:missing/thing"), "{exotic}");
}

#[test]
fn requests_are_signed_when_access_keys_are_configured() {
    let server = Server::start(&["--access-key", "test:test"]);
    server.aws(&["ecs", "list-clusters"]);
    drop(server);
    let server = Server::start(&["--access-key", "somebody:else"]);
    let error = server.aws_fails(&["ecs", "list-clusters"]);
    assert!(error.contains("UnrecognizedClientException"), "{error}");
    drop(server);
    let server = Server::start(&["--access-key", "test:other-secret"]);
    let error = server.aws_fails(&["ecs", "list-clusters"]);
    assert!(error.contains("Signature"), "{error}");
    let unsigned = http(
        "POST",
        &server.api,
        "/",
        &[("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListClusters")],
        b"{}",
    );
    assert!(
        unsigned.status >= 400 && unsigned.text().contains("MissingAuthenticationToken"),
        "{}",
        unsigned.text()
    );
}
