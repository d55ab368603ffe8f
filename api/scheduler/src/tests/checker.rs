//! The checker must see what it is for: each property, broken on purpose.

use std::time::Duration;

use coracle_types::{
    Changes, DesiredStatus, Key, LastStatus, NodeId, Record, SchedulingStrategy, Service, ServiceStatus,
    StopCode, Task, TaskStop,
};

use super::harness::{Behaviour, Harness, service_id};
use crate::{Plan, Violation, check_plan};

/// Three RUNNING tasks of one service.
fn steady() -> Harness {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    harness
}

fn found(harness: &Harness, records: Vec<Record>) -> Vec<Violation> {
    let mut changes = Changes::new();
    records.into_iter().for_each(|record| changes.put(record));
    check_plan(&harness.state, &Plan { now: harness.now, changes, ..Plan::default() })
}

/// A copy of a task of the service, as if newly started.
fn started(harness: &mut Harness) -> Task {
    let mut task = harness.tasks()[0].clone();
    task.id = harness.rng.task_id();
    task.last_status = LastStatus::Pending;
    task
}

fn stop(task: &mut Task, harness: &Harness) {
    let reason = "Scaling activity".to_owned();
    task.stop(TaskStop { code: StopCode::ServiceSchedulerInitiated, reason }, harness.now);
}

#[test]
fn starting_too_many() {
    let mut harness = steady();
    let four: Vec<Task> = (0..4).map(|_| started(&mut harness)).collect();
    let records = four.into_iter().map(Record::from).collect();
    let service = service_id("web");
    assert_eq!(found(&harness, records), [Violation::AboveUpperBound { service, active: 7, upper: 6 }]);
}

#[test]
fn stopping_too_many() {
    let harness = steady();
    let mut task = harness.tasks()[0].clone();
    stop(&mut task, &harness);
    let service = service_id("web");
    assert_eq!(
        found(&harness, vec![task.into()]),
        [Violation::BelowLowerBound { service, ready: 2, lower: 3 }]
    );
}

#[test]
fn stopping_a_protected_task() {
    let mut harness = steady();
    let id = harness.tasks()[0].id;
    harness.protect(id, Duration::from_secs(60));
    harness.update("web", |service| service.desired_count = 2);
    let mut task = harness.task_by_key(id);
    stop(&mut task, &harness);
    assert_eq!(found(&harness, vec![task.clone().into()]), [Violation::ProtectedStopped(id)]);
    harness.now = harness.now.after(Duration::from_secs(61));
    assert_eq!(found(&harness, vec![task.into()]), [], "it is not protected any more");
}

#[test]
fn starting_for_a_deleted_service() {
    let mut harness = steady();
    let task = started(&mut harness);
    let expected = [Violation::StartedForInactive(task.id)];
    harness.update("web", |service| service.status = ServiceStatus::Draining);
    assert_eq!(found(&harness, vec![task.clone().into()]), expected);
    harness.delete(Key::Service(service_id("web")));
    assert_eq!(found(&harness, vec![task.into()]), expected);
}

#[test]
fn placing_where_nothing_is_free() {
    let mut harness = steady();
    harness.node(2, 150, 150);
    let [mut first, mut second] = [started(&mut harness), started(&mut harness)];
    first.node = Some((NodeId(2), 1));
    assert_eq!(found(&harness, vec![first.clone().into()]), []);
    second.node = Some((NodeId(2), 1));
    assert_eq!(found(&harness, vec![first.into(), second.into()]), [Violation::OverCapacity(NodeId(2))]);
}

#[test]
fn placing_on_a_node_that_is_not_there() {
    let mut harness = steady();
    for node in [(NodeId(9), 1), (NodeId(1), 9)] {
        let mut task = started(&mut harness);
        task.node = Some(node);
        assert_eq!(found(&harness, vec![task.clone().into()]), [Violation::NoSuchNode(task.id)]);
    }
}

#[test]
fn turning_a_task_around() {
    let mut harness = steady();
    harness.node(2, 2000, 2000);
    let running = harness.tasks()[0].clone();
    let mut moved = running.clone();
    moved.node = Some((NodeId(2), 1));
    assert_eq!(found(&harness, vec![moved.into()]), [Violation::Moved(running.id)]);
    let mut back = running.clone();
    back.last_status = LastStatus::Pending;
    assert_eq!(found(&harness, vec![back.into()]), [Violation::WentBack(running.id)]);

    let mut stopping = running.clone();
    stop(&mut stopping, &harness);
    harness.put(stopping.clone());
    stopping.desired_status = DesiredStatus::Running;
    assert_eq!(found(&harness, vec![stopping.clone().into()]), [Violation::Revived(running.id)]);

    stopping.end(harness.now);
    harness.put(stopping.clone());
    stopping.version += 1;
    assert_eq!(found(&harness, vec![stopping.into()]), [Violation::StoppedTaskChanged(running.id)]);
}

#[test]
fn deleting_a_task_that_lives() {
    let harness = steady();
    let task = &harness.tasks()[0];
    let mut changes = Changes::new();
    changes.delete(Key::Task(task.key()));
    let plan = Plan { now: harness.now, changes, ..Plan::default() };
    assert_eq!(check_plan(&harness.state, &plan), [Violation::LiveTaskDeleted(task.id)]);
}

#[test]
fn ids_that_repeat() {
    let harness = steady();
    let mut service: Service = harness.service("web");
    let event = service.events[0].clone();
    service.push_event(event.clone());
    assert_eq!(found(&harness, vec![service.clone().into()]), [Violation::DuplicateId(event.id.to_string())]);
    service.events.clear();
    let key = Key::Service(service.id.clone());
    assert_eq!(found(&harness, vec![service.clone().into(), service.into()]), [Violation::ChangedTwice(key)]);
}

#[test]
fn two_daemons_on_a_node() {
    let mut harness = Harness::new();
    harness.behaviours.insert(1, Behaviour::Runs);
    harness.create_with("agent", 1, 1, |service| service.scheduling_strategy = SchedulingStrategy::Daemon);
    harness.settle();
    let task = started(&mut harness);
    let violations = found(&harness, vec![task.into()]);
    assert!(matches!(violations[..], [Violation::SecondDaemon(_)]), "{violations:?}");
}
