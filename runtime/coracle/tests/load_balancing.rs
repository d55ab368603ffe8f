//! Load balancers in front of services: traffic is shifted, tasks come and go, the process dies, and clients
//! notice nothing they should not.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::ffi::OsStr;

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::load::Load;
use support::{Server, free_port, http, try_http, wait_for};

/// A load balancer with one listener, made by the official CLI.
struct Balanced<'a> {
    server: &'a Server,
    port: u16,
    balancer: String,
}

impl<'a> Balanced<'a> {
    fn new(server: &'a Server) -> Self {
        let made = server.aws(&[
            "elbv2",
            "create-load-balancer",
            "--name",
            "web",
            "--subnets",
            "subnet-a",
            "subnet-b",
        ]);
        let balancer = made["LoadBalancers"][0]["LoadBalancerArn"].as_str().unwrap().to_owned();
        Self { server, port: free_port(), balancer }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn group(&self, name: &str, path: &str) -> String {
        let made = self.server.aws(&[
            "elbv2",
            "create-target-group",
            "--name",
            name,
            "--protocol",
            "HTTP",
            "--port",
            "80",
            "--target-type",
            "ip",
            "--vpc-id",
            "vpc-1",
            "--health-check-path",
            path,
            "--health-check-interval-seconds",
            "5",
        ]);
        made["TargetGroups"][0]["TargetGroupArn"].as_str().unwrap().to_owned()
    }

    fn listen(&self, actions: &str) -> String {
        let made = self.server.aws(&[
            "elbv2",
            "create-listener",
            "--load-balancer-arn",
            &self.balancer,
            "--protocol",
            "HTTP",
            "--port",
            &self.port.to_string(),
            "--default-actions",
            actions,
        ]);
        made["Listeners"][0]["ListenerArn"].as_str().unwrap().to_owned()
    }

    fn service(&self, name: &str, definition: &str, desired: u32, group: &str, more: &Value) {
        let mut body = json!({
            "serviceName": name, "taskDefinition": definition, "desiredCount": desired, "launchType": "FARGATE",
            "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-a"] } },
            "loadBalancers": [{ "targetGroupArn": group, "containerName": "main", "containerPort": 80 }],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.ecs("CreateService", &body);
    }

    fn health(&self, group: &str) -> Vec<String> {
        let health = self.server.aws(&["elbv2", "describe-target-health", "--target-group-arn", group]);
        let all = health["TargetHealthDescriptions"].as_array().unwrap();
        all.iter().map(|one| one["TargetHealth"]["State"].as_str().unwrap().to_owned()).collect()
    }
}

fn definition(server: &Server, version: &str) -> String {
    let environment = json!([{ "name": "VERSION", "value": version }]);
    let ports = json!([{ "containerPort": 80 }]);
    server.register("web", json!({ "image": "http:1", "environment": environment, "portMappings": ports }))
}

fn weights(blue: &str, green: &str, of_blue: u32) -> String {
    let groups = json!([
        { "TargetGroupArn": blue, "Weight": of_blue },
        { "TargetGroupArn": green, "Weight": 100 - of_blue },
    ]);
    json!([{ "Type": "forward", "ForwardConfig": { "TargetGroups": groups } }]).to_string()
}

fn events(server: &Server, service: &str) -> String {
    server.ecs("DescribeServices", &json!({ "services": [service] }))["services"][0]["events"].to_string()
}

#[test]
fn traffic_shifts_from_blue_to_green_and_no_request_fails() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let balanced = Balanced::new(&server);
    let (blue, green) = (balanced.group("blue", "/hello"), balanced.group("green", "/hello"));
    let listener = balanced.listen(&weights(&blue, &green, 100));
    balanced.service("blue", &definition(&server, "blue"), 2, &blue, &json!({}));
    balanced.service("green", &definition(&server, "green"), 2, &green, &json!({}));
    for (service, group) in [("blue", &blue), ("green", &green)] {
        server.wait_stable(service);
        wait_for("two healthy targets", || (balanced.health(group) == ["healthy", "healthy"]).then_some(()));
        let said = events(&server, service);
        // Both at once, or one after the other.
        assert!(said.contains(" targets in (target-group arn:aws:elasticloadbalancing:"), "{said}");
    }

    let load = Load::start(&balanced.url(), "shop.example.com");
    load.wait_more(100);
    for of_blue in [90, 50, 10, 0] {
        let actions = weights(&blue, &green, of_blue);
        server.aws(&["elbv2", "modify-listener", "--listener-arn", &listener, "--default-actions", &actions]);
        load.wait_more(100);
    }
    // Blue is no longer asked: it goes away under load, and green is replaced.
    server.ecs("UpdateService", &json!({ "service": "blue", "desiredCount": 0 }));
    server.wait_stable("blue");
    wait_for("blue to be without targets", || balanced.health(&blue).is_empty().then_some(()));
    server.ecs(
        "UpdateService",
        &json!({ "service": "green", "taskDefinition": definition(&server, "green2") }),
    );
    server.wait_stable("green");
    load.wait_more(100);
    let tasks = server.ecs("ListTasks", &json!({ "serviceName": "green" }));
    server.ecs("StopTask", &json!({ "task": tasks["taskArns"][0] }));
    server.wait_stable("green");
    load.wait_more(100);
    let (answers, failures) = load.finish();
    assert!(failures.is_empty(), "{} failed: {:?}\n{}", failures.len(), failures.first(), server.log());
    for version in ["blue", "green", "green2"] {
        assert!(answers.contains_key(version), "{answers:?}");
    }
    assert!(events(&server, "blue").contains("deregistered 2 targets in (target-group "), "{answers:?}");
    let refused = server.aws_fails(&["elbv2", "delete-target-group", "--target-group-arn", &green]);
    assert!(refused.contains("ResourceInUse"), "{refused}");
}

#[test]
fn a_task_that_fails_the_checks_of_its_group_is_replaced_and_the_events_say_why() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let balanced = Balanced::new(&server);
    let group = balanced.group("web", "/no-such-page");
    balanced.listen(&format!("Type=forward,TargetGroupArn={group}"));
    balanced.service("web", &definition(&server, "one"), 1, &group, &json!({}));
    let said = wait_for("a task to be replaced", || {
        let said = events(&server, "web");
        said.contains(") is unhealthy in (target-group ").then_some(said)
    });
    assert!(
        said.contains("(port 80)") && said.contains("Health checks failed with these codes: [404]"),
        "{said}"
    );
    let stopped = wait_for("the task to stop", || {
        let tasks = server.ecs("ListTasks", &json!({ "desiredStatus": "STOPPED" }));
        let first = tasks["taskArns"].get(0)?.clone();
        Some(server.ecs("DescribeTasks", &json!({ "tasks": [first] }))["tasks"][0].clone())
    });
    assert_eq!(
        stopped["stoppedReason"],
        format!("Task failed ELB health checks in (target-group {group})"),
        "{stopped:#}"
    );
}

#[test]
fn listeners_and_services_come_back_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (url, group) = {
        let server = Server::start_in(dir.path(), &[]);
        server.push(fixtures::http(), "http:1");
        let balanced = Balanced::new(&server);
        let group = balanced.group("web", "/hello");
        balanced.listen(&format!("Type=forward,TargetGroupArn={group}"));
        balanced.service("web", &definition(&server, "one"), 2, &group, &json!({}));
        server.wait_stable("web");
        let url = balanced.url();
        assert_eq!(http("GET", &url, "/version", &[], b"").text().trim(), "one");
        server.kill_9();
        (url, group)
    };
    let server = Server::start_in(dir.path(), &[]);
    wait_for("the listener to answer again", || {
        try_http("GET", &url, "/version", &[], b"").ok().filter(|answer| answer.status == 200)
    });
    server.wait_stable("web");
    wait_for("two healthy targets", || {
        let health = server.aws(&["elbv2", "describe-target-health", "--target-group-arn", &group]);
        let all = health["TargetHealthDescriptions"].as_array().unwrap();
        let healthy = all.iter().filter(|one| one["TargetHealth"]["State"] == "healthy").count();
        (healthy == 2 && all.len() == 2).then_some(())
    });
}

#[test]
fn a_request_starts_a_service_without_tasks_and_it_goes_back_when_idle() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    let balanced = Balanced::new(&server);
    let group = balanced.group("web", "/hello");
    balanced.listen(&format!("Type=forward,TargetGroupArn={group}"));
    let tags = json!({ "tags": [{ "key": "coracle.activate", "value": "2" }] });
    balanced.service("web", &definition(&server, "one"), 0, &group, &tags);
    // Several first requests start one task, and each is answered.
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let url = balanced.url();
            std::thread::spawn(move || http("GET", &url, "/version", &[], b""))
        })
        .collect();
    for client in clients {
        let answer = client.join().unwrap();
        assert_eq!((answer.status, answer.text().trim()), (200, "one"), "{}", server.log());
    }
    let said = events(&server, "web");
    assert_eq!(said.matches("has started 1 tasks").count(), 1, "{said}");
    wait_for("the service to go back to no tasks", || {
        let service = server.ecs("DescribeServices", &json!({ "services": ["web"] }))["services"][0].take();
        (service["desiredCount"] == 0 && service["runningCount"] == 0).then_some(())
    });
    // By the service's own name, too.
    assert_eq!(server.get("web", "/version").status, 200);
}

#[test]
fn boto3_walks_through_the_whole_api() {
    let server = Server::start(&[]);
    server.boto3("elbv2_walk.py", &[OsStr::new(&free_port().to_string())]);
}

#[test]
fn https_listeners_choose_among_imported_certificates_and_keys_are_sealed() {
    let server = Server::start(&[]);
    let certificates = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for name in ["shop.example.com", "other.example.com"] {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        std::fs::write(certificates.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(certificates.path().join(format!("{name}.key")), &key).unwrap();
        keys.push(key);
    }
    let port = free_port().to_string();
    server.boto3("elbv2_tls.py", &[OsStr::new(&port), certificates.path().as_os_str()]);
    // Nothing on disk has a key in clear.
    let store = std::fs::read(server.path().join("data/state.redb")).unwrap();
    for key in keys {
        let line = key.lines().nth(1).unwrap();
        assert!(
            !store.windows(line.len()).any(|bytes| bytes == line.as_bytes()),
            "a private key is in the store"
        );
    }
}
