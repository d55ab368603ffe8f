//! Deployments that are watched by alarms.

use std::time::Duration;

use coracle_types::alarm::{Comparison, MissingData, Statistic};
use coracle_types::{
    Alarm, AlarmId, AlarmState, LifecycleStage, MonitorStatus, RolloutState, ServiceDeployment,
    ServiceDeploymentStatus, Timestamp, Watched, WatchedMetric,
};
use serde_json::{Value, json};

use super::harness::{Harness, cluster};
use crate::{PlanRng, Planner, Reason};

/// An alarm that looks back two minutes.
fn alarm(state: AlarmState) -> Alarm {
    Alarm {
        id: AlarmId { region: cluster().region, name: "errors".to_owned() },
        watched: Watched::Metric(WatchedMetric {
            namespace: "AWS/ApplicationELB".to_owned(),
            metric: "HTTPCode_Target_5XX_Count".to_owned(),
            dimensions: Default::default(),
            statistic: Statistic::Sum,
            period_s: 60,
            evaluation_periods: 2,
            datapoints_to_alarm: 2,
            threshold: 1.0,
            comparison: Comparison::GreaterThan,
            missing_data: MissingData::NotBreaching,
        }),
        state,
        state_reason: String::new(),
        state_reason_data: None,
        state_updated_at: Timestamp(0),
        state_transitioned_at: Timestamp(0),
        configured_at: Timestamp(0),
        tags: Default::default(),
        rest: Default::default(),
    }
}

/// A steady service of revision 1 that rolls to revision 2, watched by the alarm.
fn rolling(more: &Value, before: AlarmState) -> Harness {
    let mut harness = Harness::new();
    harness.put(alarm(AlarmState::Ok));
    harness.create_with("web", 3, 1, |service| {
        let mut rest =
            json!({"alarms": {"enable": true, "rollback": true, "alarmNames": ["errors", "none"]}});
        rest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.deployment_configuration.rest = rest.as_object().unwrap().clone();
    });
    harness.settle();
    harness.pass(Duration::from_secs(600));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    harness.put(alarm(before));
    harness.deploy("web", 2);
    harness
}

fn record(harness: &Harness) -> ServiceDeployment {
    let records = harness.state.service_deployments.values().map(|found| &found.value);
    ServiceDeployment::clone(records.max_by_key(|record| record.created_at).unwrap())
}

#[test]
fn a_rolling_deployment_bakes_for_as_long_as_its_alarm_looks_back() {
    let mut harness = rolling(&json!({}), AlarmState::Ok);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3), "the tasks do not wait");
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    assert_eq!(record(&harness).stage, LifecycleStage::BakeTime);
    harness.pass(Duration::from_secs(179));
    assert_eq!(harness.rollout("web"), RolloutState::InProgress);
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    let record = record(&harness);
    assert_eq!(record.status, ServiceDeploymentStatus::Successful);
    assert_eq!(record.alarms, MonitorStatus::MonitoringComplete);
    harness.put(alarm(AlarmState::Alarm));
    harness.settle();
    assert_eq!(harness.running(2), 3, "what is done is not watched any more");
}

#[test]
fn one_that_goes_off_brings_back_what_was() {
    let mut harness = rolling(&json!({}), AlarmState::Ok);
    harness.settle();
    harness.put(alarm(AlarmState::Alarm));
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (3, 0));
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    let record = record(&harness);
    assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(record.status_reason.as_deref(), Some("ECS deployment failed: alarm detected."));
    assert_eq!(
        (record.alarms, record.triggered_alarms),
        (MonitorStatus::Triggered, vec!["errors".to_owned()])
    );
    assert_eq!(harness.said(|reason| matches!(reason, Reason::AlarmDetected { .. })), 1);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::RollingBack { .. })), 1);
}

#[test]
fn without_rollback_the_deployment_fails_where_it_is() {
    let more = json!({"alarms": {"enable": true, "rollback": false, "alarmNames": ["errors"]}});
    let mut harness = rolling(&more, AlarmState::Ok);
    harness.settle();
    harness.put(alarm(AlarmState::Alarm));
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
    assert_eq!(harness.rollout("web"), RolloutState::Failed);
    let reason = harness.service("web").primary().unwrap().rollout_state_reason.clone();
    assert_eq!(reason, "ECS deployment failed: alarm detected.");
    assert_eq!(record(&harness).status, ServiceDeploymentStatus::Stopped);
}

#[test]
fn one_that_had_gone_off_before_says_nothing() {
    let mut harness = rolling(&json!({}), AlarmState::Alarm);
    harness.settle();
    assert_eq!(harness.rollout("web"), RolloutState::Completed, "and nothing is baked");
    assert_eq!(record(&harness).alarms, MonitorStatus::Disabled);
}

#[test]
fn a_planner_looks_at_those_whom_an_alarm_concerns() {
    let mut harness = rolling(&json!({}), AlarmState::Ok);
    harness.settle();
    let mut planner = Planner::new(PlanRng::new(1));
    let first = planner.plan(&harness.state, harness.now);
    assert!(first.changes.is_empty(), "{:?}", first.reasons);
    harness.put(alarm(AlarmState::Alarm));
    let plan = planner.plan(&harness.state, harness.now);
    assert!(plan.reasons.iter().any(|one| matches!(one, Reason::AlarmDetected { .. })), "{:?}", plan.reasons);
}
