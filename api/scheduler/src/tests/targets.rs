//! Services behind target groups: registering, waiting for health, replacing, draining.

use std::time::Duration;

use coracle_types::elb::{
    Attributes, ElbArn, ElbNumber, HealthCheckPort, Matcher, ProtocolVersion, TargetGroup, TargetGroupCheck,
    TargetGroupId, TargetHealth, TargetHealthReason, TargetHealthState, TargetProtocol, TargetType,
};
use coracle_types::{AccountId, DesiredStatus, LastStatus, RolloutState, Tags, Task, Timestamp};

use super::harness::Harness;
use crate::Reason;

fn group() -> TargetGroupId {
    TargetGroupId { region: "us-east-1".parse().unwrap(), name: "web".parse().unwrap(), number: ElbNumber(1) }
}

fn arn() -> String {
    ElbArn::new(AccountId::default(), group()).to_string()
}

/// A service of `desired` tasks behind a target group.
fn with_service(desired: u32, grace_s: u32) -> Harness {
    let mut harness = Harness::new();
    harness.put(TargetGroup {
        id: group(),
        created_at: Timestamp(0),
        protocol: TargetProtocol::Http,
        protocol_version: ProtocolVersion::Http1,
        port: 80,
        target_type: TargetType::Ip,
        vpc_id: None,
        ip_address_type: "ipv4".to_owned(),
        check: TargetGroupCheck {
            enabled: true,
            protocol: TargetProtocol::Http,
            port: HealthCheckPort::TrafficPort,
            path: "/".to_owned(),
            interval_s: 30,
            timeout_s: 5,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::Http("200".to_owned()),
        },
        attributes: Attributes::new(),
        tags: Tags::default(),
    });
    harness.create_with("web", desired, 1, |service| {
        let arn = arn();
        let balancers =
            format!(r#"[{{"targetGroupArn": "{arn}", "containerName": "app", "containerPort": 80}}]"#);
        service.rest.insert("loadBalancers".to_owned(), balancers.parse().unwrap());
        service.rest.insert("healthCheckGracePeriodSeconds".to_owned(), grace_s.into());
    });
    harness
}

/// As the router reports of every target that does not drain.
fn report(harness: &mut Harness, state: TargetHealthState) {
    for mut task in harness.tasks() {
        let since = harness.now;
        let live = task.targets.iter_mut().filter(|target| target.draining_since.is_none());
        let mut changed = false;
        for target in live {
            let is_bad = state == TargetHealthState::Unhealthy;
            target.health = TargetHealth {
                state,
                reason: is_bad.then_some(TargetHealthReason::ResponseCodeMismatch),
                description: is_bad.then(|| "Health checks failed with these codes: [500]".to_owned()),
                since,
            };
            changed = true;
        }
        if changed {
            harness.put(task);
        }
    }
}

fn running(harness: &Harness) -> Vec<Task> {
    let is_running = |task: &Task| {
        task.last_status == LastStatus::Running && task.desired_status == DesiredStatus::Running
    };
    harness.tasks().into_iter().filter(is_running).collect()
}

#[test]
fn running_tasks_are_registered_once_and_the_deployment_waits_for_their_health() {
    let mut harness = with_service(2, 0);
    harness.settle();
    let tasks = running(&harness);
    assert_eq!(tasks.len(), 2);
    for task in &tasks {
        assert_eq!(task.targets.len(), 1);
        assert_eq!((task.targets[0].container.as_str(), task.targets[0].port), ("app", 80));
        assert_eq!(task.target_health(), Some(TargetHealthState::Initial));
    }
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    let registered = |harness: &Harness| -> usize {
        let targets = |reason: &Reason| match reason {
            Reason::Registered { group, targets, .. } if *group == arn() => *targets,
            _ => 0,
        };
        harness.reasons.iter().map(targets).sum()
    };
    assert_eq!(registered(&harness), 2);
    report(&mut harness, TargetHealthState::Healthy);
    harness.settle();
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    assert_eq!(registered(&harness), 2);
    let said = format!("(service web) registered 2 targets in (target-group {})", arn());
    assert!(harness.service("web").events.iter().any(|event| event.message == said), "{:?}", harness.reasons);
}

#[test]
fn older_tasks_stay_until_newer_ones_are_healthy_targets() {
    let mut harness = with_service(2, 0);
    harness.settle();
    report(&mut harness, TargetHealthState::Healthy);
    harness.settle();
    harness.deploy("web", 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (2, 2));
    report(&mut harness, TargetHealthState::Healthy);
    harness.plan();
    // The older ones finish their requests: as long as they are targets, they are not told to stop.
    let leaving: Vec<Task> =
        harness.tasks().into_iter().filter(|task| task.last_status == LastStatus::Deactivating).collect();
    assert_eq!(leaving.len(), 2);
    assert!(leaving.iter().all(|task| task.targets[0].draining_since == Some(harness.now)));
    assert!(leaving.iter().all(|task| task.target_health().is_none()));
    let deregistered = |reason: &Reason| matches!(reason, Reason::Deregistered { targets: 2, .. });
    assert_eq!(harness.said(deregistered), 1);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 2));
}

#[test]
fn a_task_that_fails_the_checks_of_its_group_is_replaced_with_the_reason() {
    let mut harness = with_service(1, 0);
    harness.settle();
    report(&mut harness, TargetHealthState::Healthy);
    harness.settle();
    let bad = running(&harness).remove(0);
    report(&mut harness, TargetHealthState::Unhealthy);
    harness.settle();
    let stop = harness.task(bad.id).stop.unwrap();
    assert_eq!(stop.reason, format!("Task failed ELB health checks in (target-group {})", arn()));
    let said = format!(
        "(service web) (task {}) (port 80) is unhealthy in (target-group {}) due to (reason Health checks failed with \
         these codes: [500])",
        bad.id,
        arn()
    );
    assert!(harness.service("web").events.iter().any(|event| event.message == said), "{:?}", harness.reasons);
    assert_eq!(running(&harness).len(), 1);
}

#[test]
fn within_the_grace_period_an_unhealthy_target_is_left_alone() {
    let mut harness = with_service(1, 60);
    harness.settle();
    let task = running(&harness).remove(0);
    report(&mut harness, TargetHealthState::Unhealthy);
    harness.settle();
    harness.pass(Duration::from_secs(58));
    assert_eq!(harness.task(task.id).desired_status, DesiredStatus::Running);
    harness.pass(Duration::from_secs(2));
    assert_eq!(harness.task(task.id).desired_status, DesiredStatus::Stopped);
}

#[test]
fn a_target_of_a_group_nobody_uses_counts_as_good() {
    let mut harness = with_service(1, 0);
    harness.settle();
    report(&mut harness, TargetHealthState::Unused);
    harness.settle();
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
}
