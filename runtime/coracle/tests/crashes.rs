//! `kill -9` at any moment of a deployment: the service ends at what was acknowledged last, no task runs twice, and
//! nothing acknowledged is lost. `CORACLE_CRASHES=N` kills that many times instead of the usual number.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::Server;

const CRASHES: u64 = 6;

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn described(server: &Server) -> Vec<Value> {
    let arns = server.ecs("ListTasks", &json!({ "serviceName": "web" }))["taskArns"].take();
    server.ecs("DescribeTasks", &json!({ "tasks": arns }))["tasks"].as_array().unwrap().clone()
}

#[test]
fn a_service_survives_kill_9_at_any_moment_of_its_deployments() {
    let crashes =
        std::env::var("CORACLE_CRASHES").ok().and_then(|given| given.parse().ok()).unwrap_or(CRASHES);
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(7);
    let mut server = Server::start_in(dir.path(), &[]);
    server.push(fixtures::http(), "http:1");
    let container = json!({ "image": "http:1", "portMappings": [{ "containerPort": 80 }] });
    let mut definition = server.register("web", container.clone());
    server.create_service("web", &definition, 2);
    let mut acknowledged = vec![definition.clone()];
    let mut ids = BTreeSet::new();
    for crash in 0..crashes {
        definition = server.register("web", container.clone());
        acknowledged.push(definition.clone());
        let desired = 1 + numbers.below(4);
        let update = json!({ "service": "web", "taskDefinition": definition, "desiredCount": desired });
        server.ecs("UpdateService", &update);
        // A random moment is the point: nothing to wait for.
        std::thread::sleep(Duration::from_millis(numbers.below(120)));
        server.kill_9();

        server = Server::start_in(dir.path(), &[]);
        let service = server.wait_stable("web");
        assert_eq!(
            (&service["desiredCount"], &service["runningCount"], &service["taskDefinition"]),
            (&json!(desired), &json!(desired), &json!(definition)),
            "crash {crash}: {service:#}"
        );
        let tasks = described(&server);
        assert_eq!(tasks.len() as u64, desired, "crash {crash}");
        for task in &tasks {
            assert_eq!(
                (&task["lastStatus"], &task["taskDefinitionArn"]),
                (&json!("RUNNING"), &json!(definition))
            );
            // A task of an earlier process is over: its id never comes back.
            assert!(ids.insert(task["taskArn"].as_str().unwrap().to_owned()), "crash {crash}: {task:#}");
        }
        assert_eq!(server.get("web", "/hello").status, 200);
    }
    for arn in &acknowledged {
        let found = server.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": arn }));
        assert_eq!(found["taskDefinition"]["taskDefinitionArn"], json!(arn));
    }
}
