//! Tasks that fail: back-off, circuit breaker, health, lost nodes.

use std::time::Duration;

use coracle_types::{CircuitBreaker, ContainerStatus, LastStatus, NodeId, RolloutState, StopCode};

use super::harness::{Behaviour, Harness};
use crate::Reason;

fn breaker(rollback: bool) -> CircuitBreaker {
    CircuitBreaker { enable: true, rollback, ..CircuitBreaker::default() }
}

#[test]
fn starts_that_fail_wait_longer_and_longer() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    harness.create("web", 2, 1);
    let rounds = |harness: &Harness| harness.said(|reason| matches!(reason, Reason::Started { .. }));
    // Waits of 1, 2 and 4 seconds.
    let mut seen = Vec::new();
    for seconds in [0, 1, 1, 1, 3, 1] {
        harness.pass(Duration::from_secs(seconds));
        seen.push(rounds(&harness));
    }
    assert_eq!(seen, [1, 2, 2, 3, 3, 4]);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::KeepsFailing { .. })), 1);
    // An hour of it is a few dozen rounds at most.
    harness.pass(Duration::from_secs(3600));
    assert!(rounds(&harness) < 20, "{}", rounds(&harness));
    let service = harness.service("web");
    assert_eq!(service.primary().unwrap().failed_tasks, service.backoff.consecutive_failures);
    assert_eq!(service.backoff.consecutive_failures as usize, 2 * rounds(&harness));
}

#[test]
fn a_task_that_runs_ends_the_wait_and_the_count() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    harness.create("web", 1, 1);
    harness.pass(Duration::from_secs(10));
    assert!(harness.service("web").primary().unwrap().failed_tasks > 1);
    harness.behaviours.insert(1, Behaviour::Runs);
    harness.pass(Duration::from_secs(60));
    let service = harness.service("web");
    assert_eq!((harness.running(1), service.primary().unwrap().failed_tasks), (1, 0));
    assert_eq!((service.backoff.consecutive_failures, service.backoff.failed_rounds), (0, 0));
}

#[test]
fn a_new_deployment_does_not_wait() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    harness.create("web", 1, 1);
    harness.pass(Duration::from_secs(600));
    harness.deploy("web", 2);
    harness.settle();
    assert_eq!(harness.running(2), 1);
}

#[test]
fn tasks_that_exit_at_once_do_not_spin() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::ExitsAtOnce);
    harness.create("web", 3, 1);
    harness.pass(Duration::from_secs(600));
    let rounds = harness.said(|reason| matches!(reason, Reason::Started { .. }));
    assert!((10..20).contains(&rounds), "{rounds} rounds in ten minutes");
    assert_eq!(harness.said(|reason| matches!(reason, Reason::KeepsExiting { seconds: 10, .. })), 1);
    assert_eq!(harness.service("web").primary().unwrap().failed_tasks, 0);
}

#[test]
fn a_long_run_ends_the_wait_after_short_ones() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::ExitsAtOnce);
    harness.create("web", 1, 1);
    harness.pass(Duration::from_secs(100));
    assert!(harness.service("web").backoff.short_rounds > 5);
    harness.behaviours.insert(1, Behaviour::Runs);
    harness.pass(Duration::from_secs(100));
    let running = harness.tasks().into_iter().find(|task| task.last_status == LastStatus::Running).unwrap();
    harness.exit(running.id);
    harness.settle();
    assert_eq!(harness.running(1), 1, "it is replaced at once");
    assert_eq!(harness.service("web").backoff.short_rounds, 0);
}

#[test]
fn tasks_somebody_stopped_are_not_failures() {
    let mut harness = Harness::new();
    harness.create("web", 1, 1);
    harness.settle();
    for _ in 0..10 {
        let mut task =
            harness.tasks().into_iter().find(|task| task.last_status == LastStatus::Running).unwrap();
        let reason = "Task stopped by user".to_owned();
        task.stop(coracle_types::TaskStop { code: StopCode::UserInitiated, reason }, harness.now);
        harness.put(task);
        harness.settle();
        assert_eq!(harness.running(1), 1);
    }
}

#[test]
fn the_breaker_gives_up() {
    let mut harness = Harness::new();
    harness.create_with("web", 2, 1, |service| {
        service.deployment_configuration.circuit_breaker = breaker(false);
    });
    harness.settle();
    harness.behaviours.insert(2, Behaviour::FailsToStart);
    harness.deploy("web", 2);
    harness.pass(Duration::from_secs(600));
    let service = harness.service("web");
    assert_eq!(harness.rollout("web"), RolloutState::Failed);
    assert_eq!(
        service.primary().unwrap().rollout_state_reason,
        "ECS deployment circuit breaker: tasks failed to start."
    );
    assert_eq!(harness.running(1), 2, "what ran goes on running");
    assert_eq!(harness.active(), 2);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Failed { .. })), 1);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::RollingBack { .. })), 0);
}

#[test]
fn the_breaker_rolls_back_once() {
    let mut harness = Harness::new();
    harness.create_with("web", 2, 1, |service| {
        service.deployment_configuration.circuit_breaker = breaker(true);
    });
    harness.settle();
    harness.behaviours.insert(2, Behaviour::FailsToStart);
    harness.deploy("web", 2);
    let failed = harness.service("web").primary().unwrap().id;
    harness.pass(Duration::from_secs(600));
    let service = harness.service("web");
    assert_eq!(service.task_definition.revision, 1);
    assert_eq!((harness.running(1), service.deployments.len()), (2, 1));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    assert_eq!(
        harness.said(|reason| matches!(reason, Reason::Failed { deployment, .. } if *deployment == failed)),
        1
    );
    assert_eq!(harness.said(|reason| matches!(reason, Reason::RollingBack { .. })), 1);

    // When what worked works no more, it is tried once, and there is nothing else to go back to.
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    harness.deploy("web", 1);
    harness.pass(Duration::from_secs(600));
    assert_eq!(harness.rollout("web"), RolloutState::Failed);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::RollingBack { .. })), 2);
}

#[test]
fn without_a_breaker_a_deployment_goes_on_trying() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.behaviours.insert(2, Behaviour::FailsToStart);
    harness.deploy("web", 2);
    harness.pass(Duration::from_secs(600));
    assert_eq!((harness.rollout("web"), harness.running(1)), (RolloutState::InProgress, 2));
    harness.behaviours.insert(2, Behaviour::Runs);
    harness.pass(Duration::from_secs(900));
    assert_eq!((harness.running(1), harness.running(2)), (0, 2));
}

#[test]
fn unhealthy_tasks_are_replaced() {
    let mut harness = Harness::new();
    harness.create("web", 2, 100);
    harness.settle();
    let sick = harness.tasks()[0].clone();
    let mut seen = Harness::see(&sick, LastStatus::Running, harness.now);
    seen.containers[0].health = coracle_types::HealthStatus::Unhealthy;
    assert!(harness.observe(&seen));
    harness.settle();
    let sick = harness.task(sick.id);
    assert_eq!(sick.stop.unwrap().reason, "Task failed container health checks");
    assert_eq!(sick.last_status, LastStatus::Stopped);
    assert_eq!(harness.running(100), 2);
    assert_eq!(
        harness.said(|reason| matches!(reason, Reason::Unhealthy { task, .. } if *task == sick.id)),
        1
    );
}

#[test]
fn the_grace_period_shields_from_health_checks() {
    let mut harness = Harness::new();
    harness.behaviours.insert(100, Behaviour::Unhealthy);
    harness.create_with("web", 1, 100, |service| {
        service.rest.insert("healthCheckGracePeriodSeconds".to_owned(), 30.into());
        service.deployment_configuration.circuit_breaker = breaker(false);
    });
    harness.pass(Duration::from_secs(29));
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Unhealthy { .. })), 0);
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Unhealthy { .. })), 1);
    // Tasks that never get healthy trip the breaker, too.
    harness.pass(Duration::from_secs(600));
    assert_eq!(harness.rollout("web"), RolloutState::Failed);
}

#[test]
fn tasks_of_a_restarted_node_are_lost_and_replaced() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    let before: Vec<_> = harness.tasks().iter().map(|task| task.id).collect();
    harness.node(1, 2000, 2000);
    harness.settle();
    assert_eq!(harness.running(1), 3);
    for id in before {
        let task = harness.task(id);
        assert_eq!(task.last_status, LastStatus::Stopped);
        let stop = task.stop.unwrap();
        assert_eq!(stop.code, StopCode::TerminationNotice);
        assert_eq!(stop.reason, format!("Host node ({}) stopped/terminated.", NodeId(1)));
        let container = &task.containers[0];
        assert_eq!((container.status, container.exit_code), (ContainerStatus::Stopped, None));
        assert_eq!(container.reason.as_ref(), Some(&stop.reason));
    }
    assert_eq!(harness.service("web").backoff, coracle_types::LaunchBackoff::default());
}

#[test]
fn a_node_that_is_gone_takes_its_tasks_along() {
    let mut harness = Harness::new();
    harness.node(2, 2000, 2000);
    harness.create("web", 4, 1);
    harness.settle();
    harness.delete(coracle_types::Key::Node(NodeId(1)));
    harness.settle();
    assert_eq!(harness.running(1), 4);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Lost { .. })), 2);
}

#[test]
fn a_missing_definition_is_said() {
    let mut harness = Harness::new();
    harness.create("web", 1, 77);
    harness.settle();
    assert_eq!(harness.said(|reason| matches!(reason, Reason::NoTaskDefinition { .. })), 1);
}
