//! `coracle apply` and `coracle delete`: one file becomes clusters, task definitions, routes and services, again and
//! again, and goes away.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::load::Load;
use support::{Server, coracle, free_port, http, text};

/// A shop of one service behind a rule of a listener, as a user would write it.
fn shop(port: u16, count: u32, version: &str) -> String {
    format!(
        "# The shop.
clusters:
  - clusterName: prod
    settings: [{{name: containerInsights, value: enabled}}]
    tags: [{{key: team, value: shop}}]
secrets:
  - {{Name: db-pass, SecretString: hunter2}}
parameters:
  - {{Name: /shop/colour, Type: String, Value: blue}}
taskDefinitions:
  - family: web
    networkMode: awsvpc
    requiresCompatibilities: [FARGATE]
    cpu: '256'
    memory: '128'
    containerDefinitions:
      - name: web
        image: ./web.wasm
        portMappings: [{{containerPort: 80}}]
        environment: [{{name: VERSION, value: {version}}}]
        secrets: [{{name: DB_PASSWORD, valueFrom: db-pass}}, {{name: COLOUR, valueFrom: /shop/colour}}]
---
targetGroups:
  - Name: web
    Protocol: HTTP
    Port: 80
    VpcId: vpc-1
    TargetType: ip
    HealthCheckPath: /hello
    HealthCheckIntervalSeconds: 5
    HealthyThresholdCount: 2
    Attributes: [{{Key: deregistration_delay.timeout_seconds, Value: '1'}}]
loadBalancers:
  - {{Name: shop, Subnets: [subnet-a, subnet-b]}}
listeners:
  - LoadBalancerArn: shop
    Port: {port}
    Protocol: HTTP
    DefaultActions: [{{Type: fixed-response, FixedResponseConfig: {{StatusCode: '404', MessageBody: nobody}}}}]
rules:
  - ListenerArn: shop:{port}
    Priority: 10
    Conditions: [{{Field: path-pattern, Values: ['/version', '/env']}}]
    Actions: [{{Type: forward, TargetGroupArn: web}}]
---
services:
  - serviceName: web
    cluster: prod
    taskDefinition: web
    desiredCount: {count}
    launchType: FARGATE
    networkConfiguration: {{awsvpcConfiguration: {{subnets: [subnet-a]}}}}
    loadBalancers: [{{targetGroupArn: web, containerName: web, containerPort: 80}}]
"
    )
}

/// A directory with a component, where the file is applied from.
struct Folder {
    dir: tempfile::TempDir,
    port: u16,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(fixtures::http(), dir.path().join("web.wasm")).unwrap();
        Self { dir, port: free_port() }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("shop.yaml"), text).unwrap();
    }

    fn run(&self, server: &Server, command: &str, more: &[&str]) -> Output {
        let file = self.dir.path().join("shop.yaml");
        let args = [&[command, "-f", file.to_str().unwrap()], more].concat();
        server.coracle(&args)
    }

    #[track_caller]
    fn works(&self, server: &Server, command: &str, more: &[&str]) -> String {
        let output = self.run(server, command, more);
        assert!(output.status.success(), "{}\n{}", text(&output), server.log());
        text(&output)
    }

    fn answer(&self, path: &str) -> String {
        http("GET", &format!("http://127.0.0.1:{}", self.port), path, &[], b"").text().trim().to_owned()
    }
}

#[test]
fn a_file_is_applied_again_and_again_and_deleted() {
    let server = Server::start(&[]);
    let folder = Folder::new();
    folder.write(&shop(folder.port, 1, "one"));

    let said = folder.works(&server, "apply", &["--dry-run"]);
    assert!(said.contains("+ image            web/web  from "), "{said}");
    assert!(said.contains("1 to push, 9 to create, 0 to update, 0 unchanged."), "{said}");
    assert_eq!(server.ecs("ListClusters", &json!({}))["clusterArns"].as_array().unwrap().len(), 1);

    let said = folder.works(&server, "apply", &[]);
    for expected in [
        "pushed ",
        "created cluster prod",
        "registered task definition web:1",
        "created listener shop:",
        "created service prod/web",
        "(service web) has started 1 tasks: (task ",
        "service prod/web is steady after ",
        "1 task running, web:1",
    ] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
    assert_eq!(folder.answer("/version"), "one");
    assert_eq!(folder.answer("/elsewhere"), "nobody");
    let environment = folder.answer("/env");
    assert!(environment.contains("hunter2") && environment.contains("blue"), "{environment}");

    let said = folder.works(&server, "apply", &[]);
    assert!(said.contains("0 to create, 0 to update, 9 unchanged."), "{said}");
    assert!(!said.contains("registered") && !said.contains("pushed"), "{said}");

    // Everything changes at once, under load.
    let load = Load::start(&format!("http://127.0.0.1:{}", folder.port), "shop.example.com");
    load.wait_more(50);
    let changed = shop(folder.port, 2, "two")
        .replace("hunter2", "hunter3")
        .replace("Value: blue", "Value: green")
        .replace("value: enabled", "value: disabled")
        .replace("value: shop}", "value: sales}")
        .replace("HealthyThresholdCount: 2", "HealthyThresholdCount: 3")
        .replace("Value: '1'", "Value: '2'")
        .replace("MessageBody: nobody", "MessageBody: somebody")
        .replace("'/env']", "'/env', '/hello']");
    folder.write(&changed);
    let said = folder.works(&server, "apply", &[]);
    for expected in [
        "~ cluster          prod",
        "settings[containerInsights].value: enabled → disabled",
        "tags.team: shop → sales",
        "SecretString: (another value)",
        "Value: blue → green",
        "~ task definition  web  (a new revision)",
        "containerDefinitions[web].environment[VERSION].value: one → two",
        "HealthyThresholdCount: 2 → 3",
        "Attributes[deregistration_delay.timeout_seconds].Value: 1 → 2",
        "DefaultActions[0].FixedResponseConfig.MessageBody: nobody → somebody",
        "Conditions[0].Values: [\"/version\",\"/env\"] → [\"/version\",\"/env\",\"/hello\"]",
        "desiredCount: 1 → 2",
        "taskDefinition: web:1 → web (the new revision)",
        "0 to create, 8 to update, 1 unchanged.",
        "2 tasks running, web:2",
    ] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
    assert!(!said.contains("hunter3"), "{said}");
    load.wait_more(50);
    let (answers, failures) = load.finish();
    assert!(failures.is_empty() && answers.contains_key("two"), "{answers:?} {failures:?}\n{}", server.log());
    let said = folder.works(&server, "apply", &[]);
    assert!(said.contains("0 to create, 0 to update, 9 unchanged."), "{said}");

    let said = folder.works(&server, "delete", &["--dry-run"]);
    assert!(said.contains("- service          prod/web") && said.contains("9 to delete."), "{said}");
    let said = folder.works(&server, "delete", &[]);
    assert!(said.contains("deleted service prod/web") && said.contains("deleted cluster prod"), "{said}");
    let said = folder.works(&server, "delete", &[]);
    assert!(said.contains("0 to delete.") && said.contains("(not there)"), "{said}");
    // A secret that was deleted can be had back, and is.
    let said = folder.works(&server, "apply", &["--json"]);
    let applied: Value = serde_json::from_slice(&folder.run(&server, "apply", &["--json"]).stdout).unwrap();
    assert_eq!(applied["services"][0]["steady"], true, "{said}");
    assert!(
        applied["resources"].as_array().unwrap().iter().all(|one| one["action"] == "unchanged"),
        "{applied:#}"
    );
}

#[test]
fn what_cannot_run_fails_with_the_reason_and_in_time() {
    let server = Server::start(&[]);
    let folder = Folder::new();
    let file = |image: &str, more: &str| {
        format!(
            "{{\"taskDefinitions\": [{{\"family\": \"bad\", \"containerDefinitions\": [{{\"name\": \"main\", \
             \"image\": {image}, \"memory\": 64}}]}}],\n \"services\": [{{\"serviceName\": \"bad\", \
             \"taskDefinition\": \"bad\", \"desiredCount\": 1{more}}}]}}"
        )
    };
    let breaker = ", \"deploymentConfiguration\": {\"deploymentCircuitBreaker\": {\"enable\": true, \"rollback\": true}}";
    folder.write(&file("\"nobody/pushed:this\"", breaker));
    let output = folder.run(&server, "apply", &[]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("service default/bad: ") && said.contains("CannotPullContainerError"), "{said}");

    // A node has no such memory: ECS goes on trying, and this does not wait for ever.
    folder.write(&file("\"./web.wasm\"", "").replace("\"memory\": 64", "\"memory\": 10000000"));
    let output = folder.run(&server, "apply", &["--timeout", "1s"]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("was unable to place a task because"), "{said}");
    assert!(said.contains("not steady within 1 s: 0 of 1 task running"), "{said}");

    folder.write(&file("\"./web.wasm\"", ", \"launchType\": \"FARGATE\""));
    let output = folder.run(&server, "apply", &["--no-wait"]);
    assert!(!output.status.success());
    assert!(
        text(&output).contains("cannot change launchType from \"EC2\" to \"FARGATE\""),
        "{}",
        text(&output)
    );

    folder.write(&file("7", ", \"desiredCounts\": 1"));
    let said = text(&folder.run(&server, "apply", &[]));
    assert!(said.contains("taskDefinitions[0].containerDefinitions[0].image must be a string"), "{said}");
    assert!(said.contains("services[0].desiredCounts is not known; did you mean desiredCount?"), "{said}");
    folder.write(&file("\"./missing.wasm\"", ""));
    let said = text(&folder.run(&server, "apply", &[]));
    assert!(said.contains("containerDefinitions[0].image: ") && said.contains("missing.wasm"), "{said}");
    folder.write("rules: [{ListenerArn: 'shop:1', Priority: 1, Conditions: [], Actions: []}]");
    let said = text(&folder.run(&server, "apply", &[]));
    assert!(said.contains("rules[0].ListenerArn: there is no listener \"shop:1\""), "{said}");
}

#[test]
fn standard_input_and_files_for_cli_input_json_will_do() {
    let server = Server::start(&[]);
    server.push(fixtures::example_hello(), "hello:latest");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let definition = examples.join("hello/task-definition.json");
    let mut child = coracle()
        .args(["apply", "--api", &server.api, "-f", definition.to_str().unwrap(), "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let service = "serviceName: hello\ntaskDefinition: hello\nlaunchType: FARGATE\n\
                   networkConfiguration: {awsvpcConfiguration: {subnets: [subnet-local]}}\n";
    child.stdin.take().unwrap().write_all(service.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("2 to create") && text(&output).contains("is steady"),
        "{}",
        text(&output)
    );
    assert_eq!(server.get("hello", "/").text(), "Hello from Coracle!\n");
}

#[test]
fn requests_are_signed_as_the_environment_says() {
    let server = Server::start(&["--access-key", "AKIATEST:secret"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.yaml");
    std::fs::write(
        &file,
        "clusters: [{clusterName: prod}]\nloadBalancers: [{Name: shop, Subnets: [a, b], Tags: [{Key: a, Value: b}]}]\n",
    )
    .unwrap();
    let apply = |id: &str, secret: &str| {
        let mut command = coracle();
        command.args(["apply", "--api", &server.api, "-f", file.to_str().unwrap()]);
        support::run(command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret))
    };
    assert!(!apply("AKIATEST", "wrong").status.success());
    let output = apply("AKIATEST", "secret");
    assert!(output.status.success(), "{}", text(&output));
    let again = apply("AKIATEST", "secret");
    assert!(text(&again).contains("0 to update, 2 unchanged."), "{}", text(&again));
}
