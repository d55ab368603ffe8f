//! Rolling from one deployment to another.

use std::time::Duration;

use coracle_types::{DeploymentStatus, DesiredStatus, LastStatus, RolloutState};

use super::harness::{Behaviour, Harness};
use crate::{Bounds, Reason};

/// Rolls `desired` tasks from revision 1 to 2 step by step, and checks the bounds after each step.
#[track_caller]
fn rolls(desired: u32, minimum: u32, maximum: u32) -> Harness {
    let mut harness = Harness::new();
    harness.create_with("web", desired, 1, |service| {
        service.deployment_configuration.minimum_healthy_percent = minimum;
        service.deployment_configuration.maximum_percent = maximum;
    });
    harness.settle();
    let bounds = Bounds::of(desired, &harness.service("web").deployment_configuration);
    harness.deploy("web", 2);
    for _ in 0..100 {
        harness.plan();
        let running = harness.running(1) + harness.running(2);
        assert!(running >= bounds.lower as usize, "{running} tasks run, {bounds:?}");
        assert!(harness.active() <= (bounds.upper as usize).max(desired as usize), "{bounds:?}");
        if !harness.step() {
            break;
        }
    }
    harness.settle();
    harness
}

#[test]
fn within_the_bounds() {
    for (desired, minimum, maximum) in [
        (1, 100, 200),
        (1, 0, 100),
        (3, 100, 200),
        (4, 50, 100),
        (4, 50, 200),
        (5, 0, 100),
        (3, 100, 150),
        (7, 30, 120),
    ] {
        let harness = rolls(desired, minimum, maximum);
        let what = format!("{desired} with {minimum}/{maximum}");
        assert_eq!((harness.running(1), harness.running(2)), (0, desired as usize), "{what}");
        let service = harness.service("web");
        assert_eq!(service.deployments.len(), 1, "{what}");
        assert_eq!(harness.rollout("web"), RolloutState::Completed, "{what}");
        assert!(service.steady, "{what}");
        assert_eq!(service.last_completed.unwrap().revision, 2, "{what}");
        assert_eq!(harness.said(|reason| matches!(reason, Reason::Completed { .. })), 2, "{what}");
    }
}

#[test]
fn old_tasks_stay_until_new_ones_run() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    harness.deploy("web", 2);
    harness.behaviours.insert(2, Behaviour::Hangs);
    harness.settle();
    assert_eq!((harness.running(1), harness.active()), (3, 6));
    let service = harness.service("web");
    let statuses: Vec<DeploymentStatus> = service.deployments.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [DeploymentStatus::Primary, DeploymentStatus::Active]);
    harness.behaviours.insert(2, Behaviour::Runs);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
}

/// A task without a check proves itself by running for a second: one that crashes at its start replaces nothing.
#[test]
fn old_tasks_stay_until_new_ones_have_run_for_a_moment() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.deploy("web", 2);
    harness.plan();
    let starting: Vec<_> =
        harness.live().filter(|task| task.last_status < LastStatus::Running).cloned().collect();
    for task in &starting {
        let mut seen = Harness::see(task, LastStatus::Running, harness.now);
        seen.started_at = Some(harness.now);
        assert!(harness.observe(&seen));
    }
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (2, 2));
    harness.pass(Duration::from_millis(999));
    assert_eq!(harness.running(1), 2);
    harness.exit(starting[0].id);
    harness.behaviours.insert(2, Behaviour::Hangs);
    harness.pass(Duration::from_millis(1));
    assert_eq!((harness.running(1), harness.running(2)), (1, 1), "only one of them lived");
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
}

#[test]
fn old_tasks_stay_until_new_ones_are_healthy() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.behaviours.insert(100, Behaviour::Runs);
    harness.deploy("web", 100);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(100)), (2, 2));
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    harness.behaviours.insert(100, Behaviour::Healthy);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(100)), (0, 2));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
}

/// A check nobody can run never says anything. It has two tries of 10 seconds each here.
#[test]
fn health_that_stays_unknown_is_waited_for_only_so_long() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.behaviours.insert(100, Behaviour::Runs);
    harness.deploy("web", 100);
    harness.pass(Duration::from_secs(19));
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    assert_eq!((harness.running(1), harness.running(100)), (0, 2));
}

#[test]
fn bounds_that_allow_nothing_are_said() {
    for (desired, minimum, maximum) in [(3, 100, 100), (1, 100, 150)] {
        let harness = rolls(desired, minimum, maximum);
        assert_eq!(harness.running(1), desired as usize);
        assert_eq!(harness.said(|reason| matches!(reason, Reason::Stuck { .. })), 1);
        assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    }
}

#[test]
fn a_newer_deployment_supersedes_one_under_way() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    harness.behaviours.insert(2, Behaviour::Hangs);
    harness.deploy("web", 2);
    harness.settle();
    harness.behaviours.remove(&2);
    harness.deploy("web", 100);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2), harness.running(100)), (0, 0, 3));
    assert_eq!(harness.service("web").deployments.len(), 1);
}

#[test]
fn the_same_revision_again_replaces_every_task() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    let before: Vec<_> = harness.tasks().iter().map(|task| task.id).collect();
    harness.deploy("web", 1);
    harness.settle();
    assert_eq!(harness.running(1), 2);
    for id in before {
        assert_eq!(harness.task(id).last_status, LastStatus::Stopped);
    }
}

#[test]
fn scaling_while_rolling() {
    let mut harness = Harness::new();
    harness.create("web", 4, 1);
    harness.settle();
    harness.deploy("web", 2);
    harness.plan();
    harness.update("web", |service| service.desired_count = 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 2));
    harness.deploy("web", 1);
    harness.plan();
    harness.update("web", |service| service.desired_count = 0);
    harness.settle();
    assert_eq!(harness.active(), 0);
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
}

/// The node is full, so that room for a new task comes only from an old one.
#[test]
fn a_full_node_rolls_when_the_lower_bound_allows() {
    let mut harness = Harness::new();
    harness.create_with("web", 20, 1, |service| {
        service.deployment_configuration.minimum_healthy_percent = 50;
    });
    harness.settle();
    harness.deploy("web", 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 20));
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Unplaceable { .. })), 0);
}

#[test]
fn draining_is_said_behind_a_load_balancer() {
    let mut harness = Harness::new();
    harness.create_with("web", 2, 1, |service| {
        service.rest.insert("loadBalancers".to_owned(), vec!["balancer"].into());
    });
    harness.settle();
    harness.update("web", |service| service.desired_count = 0);
    harness.settle();
    assert_eq!(harness.said(|reason| matches!(reason, Reason::BegunDraining { tasks: 2, .. })), 1);
}

#[test]
fn a_deployment_waits_for_the_end_of_a_tasks_protection() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    let protected = harness.tasks()[0].id;
    harness.protect(protected, Duration::from_secs(600));
    harness.deploy("web", 2);
    harness.settle();
    harness.pass(Duration::from_secs(300));
    assert_eq!((harness.running(1), harness.running(2)), (1, 2));
    assert_eq!(harness.task_by_key(protected).desired_status, DesiredStatus::Running);
    harness.pass(Duration::from_secs(301));
    assert_eq!((harness.running(1), harness.running(2)), (0, 2));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
}
