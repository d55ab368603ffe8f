//! The end of services, tasks, clusters and tokens.

use std::time::Duration;

use coracle_types::{
    Cluster, ClusterStatus, JsonMap, Key, LastStatus, RolloutState, ServiceStatus, Tags, TaskDefinition,
    TaskDefinitionStatus, Timestamp, TokenId, TokenRecord,
};

use super::harness::{Behaviour, Harness, cluster, definition, definition_id, service_id};
use crate::{Reason, RetentionPolicy};

const HOUR: Duration = Duration::from_secs(3600);
const SWEEP: Duration = RetentionPolicy::DEFAULT.sweep;

#[test]
fn a_deleted_service_drains_and_is_forgotten() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    harness.update("web", |service| service.status = ServiceStatus::Draining);
    harness.plan();
    assert_eq!(harness.service("web").status, ServiceStatus::Draining);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Stopped { tasks, .. } if tasks.len() == 3)), 1);
    // DEACTIVATING, then STOPPING: nothing of it serves any more.
    harness.step();
    harness.plan();
    assert_eq!(harness.service("web").status, ServiceStatus::Draining);
    harness.step();
    harness.plan();
    let service = harness.service("web");
    assert_eq!(service.status, ServiceStatus::Inactive);
    assert!(service.deployments.is_empty());
    assert_eq!(service.deleted_at, Some(harness.now));
    harness.pass(HOUR - Duration::from_secs(1));
    assert!(harness.state.services.contains_key(&service_id("web")));
    harness.pass(SWEEP);
    assert!(!harness.state.services.contains_key(&service_id("web")));
    assert_eq!(harness.state.tasks.size(), 0);
}

#[test]
fn a_service_without_tasks_is_inactive_at_once() {
    let mut harness = Harness::new();
    harness.create("web", 0, 1);
    harness.settle();
    harness.update("web", |service| service.status = ServiceStatus::Draining);
    harness.plan();
    assert_eq!(harness.service("web").status, ServiceStatus::Inactive);
}

#[test]
fn a_service_made_again_under_its_name_is_another_one() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.update("web", |service| service.status = ServiceStatus::Draining);
    harness.settle();
    harness.create("web", 3, 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
    assert!(harness.service("web").steady);
}

#[test]
fn tasks_without_their_service_are_stopped() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.delete(Key::Service(service_id("web")));
    harness.settle();
    assert_eq!(harness.active(), 0);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Orphaned { .. })), 2);
}

#[test]
fn stopped_tasks_are_kept_an_hour() {
    let mut harness = Harness::new();
    let task = harness.run_task(1);
    harness.settle();
    harness.exit(task);
    harness.pass(HOUR - Duration::from_secs(1));
    assert_eq!(harness.task(task).last_status, LastStatus::Stopped);
    let wake = harness.next_wake.unwrap();
    assert!(wake >= harness.now.after(Duration::from_secs(1)) && wake <= harness.now.after(SWEEP));
    harness.pass(SWEEP);
    assert_eq!(harness.state.tasks.size(), 0);
}

#[test]
fn what_becomes_due_together_goes_in_one_commit() {
    let mut harness = Harness::new();
    // On a whole multiple of the sweep, where the minute that follows begins.
    harness.now = Timestamp(1_020_000_000);
    for second in 0..60 {
        let id = harness.run_task(1);
        let mut task = harness.task_by_key(id);
        task.end(harness.now.after(Duration::from_secs(second)));
        harness.put(task);
    }
    // The first is due to the millisecond; the others go together at the end of their minute.
    harness.now = harness.now.after(HOUR);
    assert_eq!(harness.plan().changes.changes.len(), 1);
    assert_eq!(harness.next_wake, Some(harness.now.after(SWEEP)));
    harness.now = harness.now.after(SWEEP);
    assert_eq!(harness.plan().changes.changes.len(), 59);
}

#[test]
fn stopped_tasks_are_bounded_the_oldest_go_first() {
    let mut harness = Harness::new();
    let most = RetentionPolicy::DEFAULT.stopped_tasks_max;
    let mut ids = Vec::new();
    for n in 0..most + 3 {
        let id = harness.run_task(1);
        let mut task = harness.task_by_key(id);
        harness.now = Timestamp(1_000_000_000 + i64::try_from(n).unwrap());
        task.end(harness.now);
        harness.put(task);
        ids.push(id);
    }
    harness.plan();
    // A twentieth more than had to go, so that the next one to stop costs no commit.
    assert_eq!(harness.state.tasks.size(), most - most / 20);
    let left: std::collections::BTreeSet<_> = harness.tasks().iter().map(|task| task.id).collect();
    assert!(ids[..3 + most / 20].iter().all(|id| !left.contains(id)));
    assert!(harness.plan().changes.is_empty());
}

#[test]
fn tokens_are_bounded_the_oldest_go_first() {
    let mut harness = Harness::new();
    let most = RetentionPolicy::DEFAULT.tokens_max;
    let token = |n: usize| TokenId {
        region: cluster().region,
        operation: "RunTask".to_owned(),
        // Names in the other order than times.
        token: format!("{:05}", most - n),
    };
    let put = |harness: &mut Harness, n: usize| {
        harness.put(TokenRecord {
            id: token(n),
            fingerprint: String::new(),
            made: Vec::new(),
            at: harness.now.after(Duration::from_millis(u64::try_from(n).unwrap())),
        });
    };
    (0..most).for_each(|n| put(&mut harness, n));
    assert!(harness.plan().changes.is_empty());
    put(&mut harness, most);
    harness.plan();
    assert_eq!(harness.state.tokens.size(), most - most / 20);
    assert!(!harness.state.tokens.contains_key(&token(0)));
    assert!(harness.state.tokens.contains_key(&token(most)));
}

#[test]
fn a_deleted_task_definition_goes_with_the_last_that_refers_to_it() {
    let mut harness = Harness::new();
    let delete = |harness: &mut Harness, revision: u32| {
        let status = TaskDefinitionStatus::DeleteInProgress;
        harness.put(TaskDefinition { status, ..definition(revision) });
    };
    harness.create("web", 1, 1);
    let task = harness.run_task(2);
    harness.settle();
    delete(&mut harness, 1);
    delete(&mut harness, 2);
    assert!(harness.plan().changes.is_empty());
    harness.exit(task);
    harness.settle();
    assert!(!harness.state.task_definitions.contains_key(&definition_id(2)));
    // While the service rolls, the old one may still be gone back to.
    harness.deploy("web", 100);
    harness.plan();
    assert!(harness.state.task_definitions.contains_key(&definition_id(1)));
    harness.settle();
    assert_eq!(harness.rollout("web"), RolloutState::Completed);
    assert!(!harness.state.task_definitions.contains_key(&definition_id(1)));
}

#[test]
fn tokens_are_kept_a_day_and_inactive_clusters_an_hour() {
    let mut harness = Harness::new();
    let region = cluster().region;
    let id = TokenId { region, operation: "RunTask".to_owned(), token: "t".to_owned() };
    harness.put(TokenRecord {
        id: id.clone(),
        fingerprint: String::new(),
        made: Vec::new(),
        at: harness.now,
    });
    let now = harness.now;
    let gone = |status, deleted_at| Cluster {
        id: cluster(),
        status,
        created_at: now,
        deleted_at,
        tags: Tags::default(),
        rest: JsonMap::new(),
    };
    harness.put(gone(ClusterStatus::Active, None));
    harness.pass(2 * HOUR);
    assert_eq!(harness.state.clusters.size(), 1);
    harness.put(gone(ClusterStatus::Inactive, Some(harness.now)));
    harness.pass(HOUR / 2);
    assert_eq!(harness.state.clusters.size(), 1);
    harness.pass(HOUR / 2 + SWEEP);
    assert_eq!((harness.state.clusters.size(), harness.state.tokens.size()), (0, 1));
    harness.pass(21 * HOUR);
    assert_eq!(harness.state.tokens.size(), 0);
}

#[test]
fn a_stopped_service_starts_nothing() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::FailsToStart);
    harness.create("web", 3, 1);
    harness.plan();
    harness.update("web", |service| service.status = ServiceStatus::Draining);
    harness.pass(Duration::from_secs(60));
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Started { .. })), 1);
    assert_eq!(harness.active(), 0);
}
