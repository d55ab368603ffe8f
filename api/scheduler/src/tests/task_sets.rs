//! Services whose deployments somebody outside directs.

use coracle_types::{JsonMap, LaunchType, TaskSet, TaskSetStatus};
use serde_json::json;

use super::harness::{Behaviour, Harness, definition_id};

fn external() -> Harness {
    let mut harness = Harness::new();
    harness.create_with("web", 4, 1, |service| {
        service.rest.insert("deploymentController".to_owned(), json!({"type": "EXTERNAL"}));
    });
    harness
}

fn add(harness: &mut Harness, revision: u32, scale_percent: f64) {
    let set = TaskSet {
        id: harness.rng.deployment_id(),
        status: TaskSetStatus::Active,
        task_definition: definition_id(revision),
        launch_type: LaunchType::Ec2,
        launch_type_hidden: false,
        external_id: None,
        started_by: None,
        scale_percent,
        computed_desired_count: 0,
        steady: false,
        steady_at: harness.now,
        created_at: harness.now,
        updated_at: harness.now,
        tags: coracle_types::Tags::default(),
        rest: JsonMap::new(),
    };
    harness.update("web", |service| service.task_sets.push(set));
}

#[test]
fn each_set_has_its_share() {
    let mut harness = external();
    harness.settle();
    assert_eq!(harness.active(), 0);
    add(&mut harness, 1, 100.0);
    add(&mut harness, 2, 30.0);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (4, 2));
    let service = harness.service("web");
    assert!(service.steady && service.task_sets.iter().all(|set| set.steady));
    assert_eq!(service.task_sets[1].computed_desired_count, 2);

    harness.update("web", |service| service.desired_count = 10);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (10, 3));

    harness.update("web", |service| {
        service.task_sets[0].status = TaskSetStatus::Draining;
        service.task_sets[1].scale_percent = 100.0;
    });
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 10));
    assert_eq!(harness.service("web").task_sets.len(), 1);
}

#[test]
fn a_set_whose_tasks_fail_is_not_steady_and_waits() {
    let mut harness = external();
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    add(&mut harness, 1, 100.0);
    harness.settle();
    let service = harness.service("web");
    assert!(!service.steady && !service.task_sets[0].steady);
    assert!(service.backoff.not_before > harness.now);
    harness.update("web", |service| service.task_sets.clear());
    harness.settle();
    assert_eq!(harness.active(), 0);
}
