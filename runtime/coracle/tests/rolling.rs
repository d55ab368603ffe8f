//! A rolling update, a scale-in and a task's replacement under constant load: no request fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use coracle_fixtures as fixtures;
use serde_json::json;
use support::{Server, try_http, wait_for};

const CLIENTS: usize = 4;

/// What a client saw: how many answers of each version, and what went wrong.
type Seen = (BTreeMap<String, usize>, Vec<String>);

struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Seen>>,
}

impl Load {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS)
            .map(|_| {
                let (stop, sent, router) = (Arc::clone(&stop), Arc::clone(&sent), server.router.clone());
                std::thread::spawn(move || {
                    let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        match try_http("GET", &router, "/version", &[("host", "web.default.localhost")], b"")
                        {
                            Ok(answer) if answer.status == 200 => {
                                *answers.entry(answer.text().trim().to_owned()).or_default() += 1;
                            }
                            Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                            Err(error) => failures.push(error.to_string()),
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    (answers, failures)
                })
            })
            .collect();
        Self { stop, sent, clients }
    }

    /// Waits until so many more requests have been answered.
    fn wait_more(&self, requests: usize) {
        let target = self.sent.load(Ordering::Relaxed) + requests;
        wait_for("more requests", || (self.sent.load(Ordering::Relaxed) >= target).then_some(()));
    }

    fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
        for client in self.clients {
            let (some, failed) = client.join().unwrap();
            for (version, count) in some {
                *answers.entry(version).or_default() += count;
            }
            failures.extend(failed);
        }
        (answers, failures)
    }
}

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
    let load = Load::start(&server);
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
