//! Services that do not roll: starting, replacing, scaling, placing, DAEMON.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_types::{DesiredStatus, LastStatus, NodeId, SchedulingStrategy, StopCode, Tags};

use super::harness::{Behaviour, Harness, service_id};
use crate::{Reason, Shortage, Unplaceable};

#[test]
fn a_service_of_three_becomes_steady() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    let first = harness.plan();
    assert!(matches!(&first.reasons[..], [Reason::Started { tasks, .. }] if tasks.len() == 3), "{first:?}");
    for task in harness.tasks() {
        assert_eq!((task.last_status, task.node), (LastStatus::Pending, Some((NodeId(1), 1))));
        assert_eq!(task.started_by, task.deployment.map(|id| id.to_string()));
    }
    harness.settle();
    assert_eq!(harness.running(1), 3);
    let service = harness.service("web");
    let messages: Vec<&str> = service.events.iter().map(|event| event.message.as_str()).collect();
    let deployment = service.primary().unwrap().id;
    assert_eq!(messages[0], "(service web) has reached a steady state.");
    assert_eq!(messages[1], format!("(service web) (deployment {deployment}) deployment completed."));
    assert!(messages[2].starts_with("(service web) has started 3 tasks: (task "), "{}", messages[2]);
    assert_eq!(
        service.primary().unwrap().rollout_state_reason,
        format!("ECS deployment {deployment} completed.")
    );
    assert!(service.steady);
}

#[test]
fn tasks_name_the_capacity_provider_they_come_from() {
    let mut harness = Harness::new();
    harness.create("web", 1, 1);
    harness.update("web", |service| {
        let strategy =
            r#"[{"capacityProvider": "FARGATE"}, {"capacityProvider": "FARGATE_SPOT", "weight": 1}]"#;
        let rest = &mut service.deployments[0].rest;
        rest.insert("capacityProviderStrategy".to_owned(), strategy.parse().unwrap());
    });
    harness.settle();
    assert_eq!(harness.tasks()[0].rest["capacityProviderName"], "FARGATE_SPOT");
}

#[test]
fn a_settled_state_needs_no_changes() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    assert!(harness.plan().changes.is_empty());
}

#[test]
fn a_task_that_stops_is_replaced_and_steady_is_said_again() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    harness.pass(Duration::from_secs(60));
    harness.exit(harness.tasks()[0].id);
    harness.settle();
    assert_eq!(harness.running(1), 2);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Steady { .. })), 2);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Started { tasks, .. } if tasks.len() == 1)), 1);
}

#[test]
fn scaling_in_stops_what_does_not_run_yet_then_the_youngest() {
    let mut harness = Harness::new();
    harness.create("web", 2, 1);
    harness.settle();
    let oldest: Vec<_> = harness.tasks().iter().map(|task| task.id).collect();
    harness.now = harness.now.after(Duration::from_secs(5));
    harness.update("web", |service| service.desired_count = 4);
    harness.settle();
    harness.behaviours.insert(1, Behaviour::Hangs);
    harness.update("web", |service| service.desired_count = 5);
    harness.plan();
    harness.behaviours.insert(1, Behaviour::Runs);
    harness.update("web", |service| service.desired_count = 2);
    let plan = harness.plan();
    assert!(matches!(&plan.reasons[..], [Reason::Stopped { tasks, .. }] if tasks.len() == 3));
    for id in oldest {
        assert_eq!(harness.task(id).desired_status, DesiredStatus::Running);
    }
    let stopped =
        harness.tasks().into_iter().find(|task| task.desired_status == DesiredStatus::Stopped).unwrap();
    let stop = stopped.stop.unwrap();
    assert_eq!(stop.code, StopCode::ServiceSchedulerInitiated);
    let deployment = harness.service("web").primary().unwrap().id;
    assert_eq!(stop.reason, format!("Scaling activity initiated by (deployment {deployment})"));
    harness.settle();
    assert_eq!(harness.running(1), 2);
}

#[test]
fn scaling_in_leaves_protected_tasks_alone_as_long_as_they_are() {
    let mut harness = Harness::new();
    harness.create("web", 4, 1);
    harness.settle();
    let mut tasks = harness.tasks();
    tasks.sort_by_key(|task| (task.created_at, task.id));
    // Those that would go first.
    let protected = [tasks[2].id, tasks[3].id];
    protected.iter().for_each(|id| harness.protect(*id, Duration::from_secs(600)));
    harness.update("web", |service| service.desired_count = 1);
    harness.settle();
    let live = |harness: &Harness| harness.live().map(|task| task.id).collect::<BTreeSet<_>>();
    assert_eq!(live(&harness), BTreeSet::from(protected));
    harness.pass(Duration::from_secs(599));
    assert_eq!(harness.running(1), 2);
    harness.pass(Duration::from_secs(2));
    assert_eq!(harness.running(1), 1, "nobody had to ask for it");
}

#[test]
fn scaling_to_nothing_and_back() {
    let mut harness = Harness::new();
    harness.create("web", 3, 1);
    harness.settle();
    harness.update("web", |service| service.desired_count = 0);
    harness.settle();
    assert_eq!(harness.active(), 0);
    harness.update("web", |service| service.desired_count = 3);
    harness.settle();
    assert_eq!(harness.running(1), 3);
}

#[test]
fn what_does_not_fit_is_said_once_and_placed_later() {
    let mut harness = Harness::new();
    harness.create("web", 25, 1);
    harness.settle();
    assert_eq!(harness.running(1), 20);
    let short = Unplaceable::Short {
        closest: NodeId(1),
        shortage: Shortage::Memory { needed: 100, free: 0 },
        others: Vec::new(),
        more: 0,
    };
    let is_short =
        |reason: &Reason| matches!(reason, Reason::Unplaceable { short: found, .. } if *found == short);
    assert_eq!(harness.said(is_short), 1);
    harness.settle();
    assert_eq!(harness.said(is_short), 1);
    harness.node(2, 2000, 2000);
    harness.settle();
    assert_eq!(harness.running(1), 25);
}

#[test]
fn without_nodes_the_event_says_so() {
    let mut harness = Harness::new();
    harness.delete(coracle_types::Key::Node(NodeId(1)));
    harness.create("web", 1, 1);
    harness.settle();
    assert_eq!(
        harness.service("web").events[0].message,
        "(service web) was unable to place a task because no container instance met all of its requirements. Reason: No Container Instances were found in your cluster."
    );
}

#[test]
fn tasks_spread_over_nodes() {
    let mut harness = Harness::new();
    harness.node(2, 2000, 2000);
    harness.node(3, 2000, 2000);
    harness.create("web", 6, 1);
    harness.settle();
    for node in 1..=3 {
        let here = harness.tasks().iter().filter(|task| task.node.unwrap().0 == NodeId(node)).count();
        assert_eq!(here, 2, "node {node}");
    }
}

#[test]
fn run_task_tasks_are_placed_the_oldest_first() {
    let mut harness = Harness::new();
    harness.node(1, 2000, 150);
    let first = harness.run_task(1);
    harness.now = harness.now.after(Duration::from_secs(1));
    let second = harness.run_task(1);
    harness.settle();
    assert_eq!(harness.task(first).last_status, LastStatus::Running);
    assert_eq!(harness.task(second).last_status, LastStatus::Provisioning);
    harness.exit(first);
    harness.settle();
    assert_eq!(harness.task(second).last_status, LastStatus::Running);
}

#[test]
fn services_do_not_mix() {
    let mut harness = Harness::new();
    harness.create("a", 2, 1);
    harness.create("b", 3, 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (2, 3));
    harness.update("a", |service| service.desired_count = 0);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
}

#[test]
fn a_daemon_runs_once_on_every_node() {
    let mut harness = Harness::new();
    harness.node(2, 2000, 2000);
    harness.create_with("agent", 0, 1, |service| {
        service.scheduling_strategy = SchedulingStrategy::Daemon;
        service.deployment_configuration.minimum_healthy_percent = 0;
        service.deployment_configuration.maximum_percent = 100;
    });
    harness.settle();
    assert_eq!(harness.running(1), 2);
    harness.node(3, 2000, 2000);
    harness.settle();
    assert_eq!(harness.running(1), 3);
    assert_eq!(harness.service("agent").desired_count, 3);
    harness.deploy("agent", 2);
    harness.settle();
    assert_eq!((harness.running(1), harness.running(2)), (0, 3));
    let mut nodes: Vec<_> = harness
        .tasks()
        .iter()
        .filter(|task| task.last_status == LastStatus::Running)
        .map(|task| task.node.unwrap().0)
        .collect();
    nodes.sort();
    assert_eq!(nodes, [NodeId(1), NodeId(2), NodeId(3)]);
}

#[test]
fn tags_are_propagated() {
    let mut harness = Harness::new();
    let mut tags = Tags::default();
    tags.merge([("team".to_owned(), "shop".to_owned())]).unwrap();
    harness.create_with("web", 1, 1, |service| {
        service.tags = tags.clone();
        service.propagate_tags = coracle_types::PropagateTags::Service;
    });
    harness.settle();
    assert_eq!(harness.tasks()[0].tags, tags);
    assert_eq!(harness.tasks()[0].group.to_string(), "service:web");
    assert_eq!(harness.tasks()[0].service(), Some(&service_id("web").name));
}

#[test]
fn many_tasks_take_several_events() {
    let mut harness = Harness::new();
    harness.node(1, 1_000_000, 1_000_000);
    harness.create("web", 250, 1);
    harness.settle();
    assert_eq!(harness.running(1), 250);
    assert_eq!(
        harness.said(|reason| matches!(reason, Reason::Started { tasks, .. } if tasks.len() <= 100)),
        3
    );
}
