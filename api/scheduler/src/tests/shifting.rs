//! Blue/green, linear and canary deployments, service deployments and how they are stopped.

use std::time::Duration;

use coracle_types::elb::{Action, ElbArn, ElbResource, Listener, ListenerProtocol};
use coracle_types::{
    HookStatus, LifecycleStage, RolloutState, Service, ServiceDeployment, ServiceDeploymentStatus, StopType,
};
use serde_json::{Value, json};

use super::harness::{Behaviour, Harness};

fn configured(configuration: Value) -> impl FnOnce(&mut Service) {
    move |service| {
        service.deployment_configuration.rest = configuration.as_object().unwrap().clone();
    }
}

/// A service of three of revision 1 with this `deploymentConfiguration`, steady.
fn service(configuration: Value) -> Harness {
    let mut harness = Harness::new();
    harness.create_with("web", 3, 1, configured(configuration));
    harness.settle();
    assert!(harness.service("web").steady);
    harness
}

fn record(harness: &Harness) -> ServiceDeployment {
    let records = harness.state.service_deployments.values().map(|found| &found.value);
    ServiceDeployment::clone(records.max_by_key(|record| record.created_at).unwrap())
}

fn edit_record(harness: &mut Harness, change: impl FnOnce(&mut ServiceDeployment)) {
    let mut record = record(harness);
    change(&mut record);
    harness.put(record);
}

fn deploy(harness: &mut Harness, revision: u32) {
    harness.now = harness.now.after(Duration::from_secs(1));
    harness.deploy("web", revision);
}

#[test]
fn a_rolling_deployment_leaves_its_record() {
    let mut harness = service(json!({}));
    let first = record(&harness);
    assert_eq!(first.status, ServiceDeploymentStatus::Successful);
    assert!(first.sources.is_empty() && first.finished_at.is_some());
    deploy(&mut harness, 2);
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::InProgress);
    assert_eq!(record(&harness).sources, std::slice::from_ref(&first.target));
    harness.settle();
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Successful);
    let target = record(&harness).target;
    let revision = &harness.state.service_revisions.get(&target).unwrap().value;
    assert_eq!(revision.task_definition.revision, 2);
    assert_eq!(revision.images, [("app".to_owned(), "hello:latest".to_owned())]);
    assert_eq!(harness.service("web").last_completed_revision, Some(target));
}

#[test]
fn a_newer_deployment_stops_the_record_of_the_one_before() {
    let mut harness = service(json!({}));
    harness.behaviours.insert(2, Behaviour::Hangs);
    deploy(&mut harness, 2);
    harness.settle();
    let superseded = record(&harness).id;
    deploy(&mut harness, 100);
    let status = harness.state.service_deployments.get(&superseded).unwrap().value.status;
    assert_eq!(status, ServiceDeploymentStatus::Stopped);
    harness.behaviours.remove(&2);
    harness.settle();
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Successful);
}

#[test]
fn stopping_with_rollback_brings_the_last_revision_back() {
    let mut harness = service(json!({}));
    harness.behaviours.insert(2, Behaviour::Hangs);
    deploy(&mut harness, 2);
    harness.settle();
    edit_record(&mut harness, |record| {
        record.stop = Some(StopType::Rollback);
        record.status = ServiceDeploymentStatus::RollbackRequested;
    });
    harness.plan();
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::RollbackInProgress);
    harness.behaviours.remove(&2);
    harness.settle();
    let record = record(&harness);
    assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(record.rollback.unwrap().revision.as_ref(), Some(&record.sources[0]));
    assert_eq!((harness.running(1), harness.running(2)), (3, 0));
    assert_eq!(harness.service("web").task_definition.revision, 1);
    assert!(harness.service("web").steady);
}

#[test]
fn stopping_without_rollback_leaves_everything_as_it_is() {
    let mut harness = service(json!({}));
    harness.behaviours.insert(2, Behaviour::Hangs);
    deploy(&mut harness, 2);
    harness.settle();
    edit_record(&mut harness, |record| record.stop = Some(StopType::Abort));
    harness.settle();
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Stopped);
    assert_eq!(harness.rollout("web"), RolloutState::Failed);
    assert_eq!(harness.running(1), 3);
    deploy(&mut harness, 1);
    harness.behaviours.remove(&2);
    harness.settle();
    assert!(harness.service("web").steady);
}

#[test]
fn blue_green_keeps_the_old_tasks_until_the_new_ones_have_baked() {
    let mut harness = service(json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 2}));
    deploy(&mut harness, 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (3, 3));
    let baking = record(&harness);
    assert_eq!((baking.stage, baking.production_weight), (LifecycleStage::BakeTime, 100.0));
    // An old task that ends while it may still be needed is replaced.
    let old = harness.tasks().into_iter().find(|task| task.task_definition.revision == 1).unwrap();
    harness.exit(old.id);
    harness.pass(Duration::from_secs(20));
    assert_eq!((harness.running(1), harness.running(2)), (3, 3));
    harness.pass(Duration::from_secs(120));
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Successful);
    assert!(harness.service("web").steady);
}

#[test]
fn the_stages_come_in_their_order() {
    let mut harness = service(json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1, "lifecycleHooks": [
        {"targetType": "PAUSE", "lifecycleStages": [
            "PRE_SCALE_UP", "POST_SCALE_UP", "POST_TEST_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"]},
    ]}));
    deploy(&mut harness, 2);
    let mut stages = Vec::new();
    for _ in 0..4 {
        harness.settle();
        let before = record(&harness);
        stages.push((before.stage, harness.running(2), before.production_weight));
        edit_record(&mut harness, |record| {
            let waiting = record.hooks.iter_mut().find(|hook| hook.status == HookStatus::AwaitingAction);
            waiting.unwrap().status = HookStatus::Succeeded;
        });
    }
    use LifecycleStage as Stage;
    assert_eq!(
        stages,
        [
            (Stage::PreScaleUp, 0, 0.0),
            (Stage::PostScaleUp, 3, 0.0),
            (Stage::PostTestTrafficShift, 3, 0.0),
            (Stage::PostProductionTrafficShift, 3, 100.0),
        ]
    );
    harness.pass(Duration::from_secs(60));
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Successful);
}

#[test]
fn a_hook_that_says_no_or_nothing_leads_back() {
    for (answer, timeout, expected) in [
        (Some(HookStatus::Failed), json!({}), ServiceDeploymentStatus::RollbackSuccessful),
        (None, json!({"timeoutInMinutes": 5}), ServiceDeploymentStatus::RollbackSuccessful),
        (None, json!({"timeoutInMinutes": 5, "action": "CONTINUE"}), ServiceDeploymentStatus::Successful),
    ] {
        let mut harness =
            service(json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, "lifecycleHooks": [
                {"lifecycleStages": ["POST_SCALE_UP"], "timeoutConfiguration": timeout},
            ]}));
        deploy(&mut harness, 2);
        harness.settle();
        assert_eq!((harness.running(1), harness.running(2)), (3, 3));
        if let Some(answer) = answer {
            edit_record(&mut harness, |record| record.hooks[0].status = answer);
        }
        harness.pass(Duration::from_secs(301));
        let record = record(&harness);
        assert_eq!(record.status, expected);
        let back = expected == ServiceDeploymentStatus::RollbackSuccessful;
        assert_eq!((harness.running(1), harness.running(2)), if back { (3, 0) } else { (0, 3) });
        assert!(harness.service("web").steady);
    }
}

#[test]
fn an_aborted_blue_green_deployment_keeps_both_sides() {
    let mut harness = service(json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}));
    deploy(&mut harness, 2);
    harness.settle();
    edit_record(&mut harness, |record| record.stop = Some(StopType::Abort));
    harness.pass(Duration::from_secs(600));
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Stopped);
    assert_eq!((harness.running(1), harness.running(2)), (3, 3));
    // The next one replaces both.
    deploy(&mut harness, 100);
    harness.pass(Duration::from_secs(600));
    assert_eq!((harness.running(1), harness.running(2), harness.running(100)), (0, 0, 3));
    assert!(harness.service("web").steady);
}

#[test]
fn blue_green_tasks_that_fail_lead_back_to_the_same_old_tasks() {
    let mut harness = service(json!({"strategy": "BLUE_GREEN"}));
    harness.update("web", |service| {
        service.deployment_configuration.circuit_breaker.enable = true;
        service.deployment_configuration.circuit_breaker.rollback = true;
    });
    let before: Vec<_> = harness.tasks().iter().map(|task| task.id).collect();
    harness.behaviours.insert(2, Behaviour::FailsToStart);
    deploy(&mut harness, 2);
    harness.pass(Duration::from_secs(60));
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(harness.running(1), 3);
    for id in before {
        assert_eq!(harness.task(id).last_status, coracle_types::LastStatus::Running);
    }
    assert!(harness.service("web").steady);
}

const ARN: &str = "arn:aws:elasticloadbalancing:us-east-1:123456789012";

/// Puts a listener with a default rule in front of the service's first target group, and names both groups.
fn balanced(harness: &mut Harness) {
    let group = |name: &str| format!("{ARN}:targetgroup/{name}/1111111111111111");
    let rule = format!("{ARN}:listener-rule/app/lb/1111111111111111/2222222222222222/3333333333333333");
    let ElbResource::Rule(id) = rule.parse::<ElbArn>().unwrap().resource else { panic!("{rule}") };
    let ElbResource::TargetGroup(blue) = group("blue").parse::<ElbArn>().unwrap().resource else { panic!() };
    harness.put(Listener {
        id: id.listener,
        created_at: harness.now,
        port: 80,
        protocol: ListenerProtocol::Http,
        ssl_policy: None,
        certificates: Vec::new(),
        default_rule: id.number,
        default_action: Action::to_group(blue),
        attributes: coracle_types::elb::Attributes::default(),
        mutual_authentication: None,
        tags: coracle_types::Tags::default(),
        rest: coracle_types::JsonMap::new(),
    });
    harness.update("web", |service| {
        service.rest.insert(
            "loadBalancers".to_owned(),
            json!([{"targetGroupArn": group("blue"), "containerName": "app", "containerPort": 80,
                "advancedConfiguration": {"alternateTargetGroupArn": group("green"), "productionListenerRule": rule}}]),
        );
    });
}

/// The weights of the target groups blue and green.
fn weights(harness: &Harness) -> (u32, u32) {
    let listener = &harness.state.listeners.values().next().unwrap().value;
    let Action::Forward(forward) = &listener.default_action else { panic!("{listener:?}") };
    let of = |name: &str| {
        let mut groups = forward.groups.iter();
        groups.find(|one| one.group.name.to_string() == name).map_or(0, |one| one.weight)
    };
    (of("blue"), of("green"))
}

#[test]
fn traffic_goes_over_in_steps_and_deployments_take_turns() {
    for (configuration, expected) in [
        (
            json!({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50.0, "stepBakeTimeInMinutes": 1}}),
            (50, 50),
        ),
        (
            json!({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 1}}),
            (90, 10),
        ),
    ] {
        let mut harness = service(configuration);
        balanced(&mut harness);
        deploy(&mut harness, 2);
        assert!(harness.service("web").primary().unwrap().alternate);
        harness.settle();
        assert_eq!(weights(&harness), expected);
        harness.pass(Duration::from_secs(60));
        assert_eq!(weights(&harness), (0, 100));
        harness.pass(Duration::from_secs(15 * 60));
        assert_eq!(record(&harness).status, ServiceDeploymentStatus::Successful);
        // The next one goes the other way.
        deploy(&mut harness, 1);
        assert!(!harness.service("web").primary().unwrap().alternate);
        harness.settle();
        assert_eq!(weights(&harness), (expected.1, expected.0));
        // And back, in one step, when somebody stops it.
        edit_record(&mut harness, |record| record.stop = Some(StopType::Rollback));
        harness.plan();
        assert_eq!(weights(&harness), (0, 100));
        harness.settle();
        assert_eq!((harness.running(1), harness.running(2)), (0, 3));
        assert_eq!(record(&harness).status, ServiceDeploymentStatus::RollbackSuccessful);
    }
}
