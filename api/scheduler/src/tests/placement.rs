//! Where tasks go, through services and by themselves.

use std::collections::BTreeMap;

use coracle_types::{NodeId, NodeStatus, SchedulingStrategy, Service, attribute};
use serde_json::{Value, json};

use super::harness::{Harness, definition};
use crate::{Need, PlanRng, Reason, Rooms, Unplaceable};

/// Nodes 1 to 4 in two zones, of which 1 and 2 are in `a`; the odd ones have disks. Room for 20 tasks on each.
fn four_nodes() -> Harness {
    let mut harness = Harness::new();
    for id in 1..=4u128 {
        harness.node_with(id, 2000, 2000, |node| {
            let zone = if id <= 2 { "a" } else { "b" };
            node.attributes.insert(attribute::ZONE.to_owned(), Some(zone.to_owned()));
            if id % 2 == 1 {
                node.attributes.insert("disk".to_owned(), Some("ssd".to_owned()));
            }
        });
    }
    harness
}

fn with(members: Value) -> impl FnOnce(&mut Service) {
    move |service| service.rest.extend(members.as_object().unwrap().clone())
}

#[track_caller]
fn places(count: u32, members: Value, expected: &[(u128, usize)]) -> Harness {
    let mut harness = four_nodes();
    harness.create_with("web", count, 1, with(members));
    harness.settle();
    assert_eq!(harness.on_nodes(), expected.iter().copied().collect::<BTreeMap<_, _>>());
    harness
}

#[test]
fn services_are_spread_over_zones_by_default() {
    let harness = places(6, json!({}), &[(1, 2), (2, 1), (3, 2), (4, 1)]);
    assert!(harness.service("web").steady);
}

#[test]
fn strategies_apply_in_sequence() {
    let spread = |field: &str| json!({"type": "spread", "field": field});
    let pack = |field: &str| json!({"type": "binpack", "field": field});
    let strategy = |items: Vec<Value>| json!({"placementStrategy": items});
    places(6, strategy(vec![pack("memory")]), &[(1, 6)]);
    places(25, strategy(vec![pack("cpu")]), &[(1, 20), (2, 5)]);
    places(6, strategy(vec![spread("instanceId")]), &[(1, 2), (2, 2), (3, 1), (4, 1)]);
    places(6, strategy(vec![spread("attribute:ecs.availability-zone"), pack("memory")]), &[(1, 3), (3, 3)]);
    places(
        4,
        strategy(vec![spread("attribute:ecs.availability-zone"), spread("instanceId")]),
        &[(1, 1), (2, 1), (3, 1), (4, 1)],
    );
    places(
        6,
        strategy(vec![spread("attribute:disk"), spread("attribute:ecs.availability-zone")]),
        &[(1, 2), (2, 2), (3, 1), (4, 1)],
    );
    places(4, strategy(vec![spread("host"), spread("attribute:disk")]), &[(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn random_goes_everywhere() {
    let mut harness = four_nodes();
    harness.create_with("web", 40, 1, with(json!({"placementStrategy": [{"type": "random"}]})));
    harness.settle();
    let counts = harness.on_nodes();
    assert_eq!((counts.len(), counts.values().sum::<usize>()), (4, 40));
    assert_ne!(counts[&1], counts[&2], "that was not random");
}

#[test]
fn member_of_limits_where_tasks_go() {
    let constraint =
        |expression: &str| json!({"placementConstraints": [{"type": "memberOf", "expression": expression}]});
    places(4, constraint("attribute:disk == ssd"), &[(1, 2), (3, 2)]);
    places(2, constraint("attribute:disk == ssd and attribute:ecs.availability-zone == b"), &[(3, 2)]);
    let harness = places(1, constraint("attribute:disk == tape"), &[]);
    let event = &harness.service("web").events[0].message;
    assert!(
        event.contains(
            "does not satisfy the placement constraint memberOf(attribute:disk == tape). Node by node:"
        ),
        "{event}"
    );
    let harness = places(1, constraint("attribute:disk =="), &[]);
    assert_eq!(harness.said(|reason| matches!(reason, Reason::Unplaceable { .. })), 1);
}

#[test]
fn constraints_of_the_definition_count_too() {
    let mut harness = four_nodes();
    let mut limited = definition(3);
    limited.rest.extend(
        json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:disk !exists"}]})
            .as_object()
            .unwrap()
            .clone(),
    );
    harness.put(limited);
    harness.create("web", 4, 3);
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(2, 2), (4, 2)]));
}

#[test]
fn distinct_instance_takes_one_task_per_node() {
    let mut harness = places(
        6,
        json!({"placementConstraints": [{"type": "distinctInstance"}]}),
        &[(1, 1), (2, 1), (3, 1), (4, 1)],
    );
    let service = harness.service("web");
    assert!(service.events[0].message.contains("distinctInstance"), "{}", service.events[0].message);
    harness.update("web", |service| service.desired_count = 4);
    harness.settle();
    assert!(harness.service("web").steady);
}

#[test]
fn tasks_can_keep_away_from_others() {
    let mut harness = four_nodes();
    harness.create_with(
        "a",
        2,
        1,
        with(json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:disk == ssd"}]})),
    );
    harness.settle();
    harness.create_with(
        "b",
        4,
        2,
        with(json!({"placementConstraints": [{"type": "memberOf", "expression": "not(task:group == service:a)"}]})),
    );
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(1, 1), (2, 2), (3, 1), (4, 2)]));
}

/// A definition whose container has this host port.
fn with_port(
    revision: u32,
    mode: coracle_types::NetworkMode,
    host_port: u64,
) -> coracle_types::TaskDefinition {
    let mut definition = definition(revision);
    definition.network_mode = Some(mode);
    let rest = json!({"hostPort": host_port}).as_object().unwrap().clone();
    definition.containers[0].port_mappings =
        vec![coracle_types::PortMapping { container_port: Some(80), rest }];
    definition
}

#[test]
fn a_port_of_a_node_is_given_away_once() {
    use coracle_types::NetworkMode;
    for (mode, host_port, room) in [
        (NetworkMode::Bridge, 8080, 4),
        (NetworkMode::Host, 0, 4),
        (NetworkMode::Bridge, 0, 6),
        (NetworkMode::Awsvpc, 80, 6),
    ] {
        let mut harness = four_nodes();
        harness.put(with_port(3, mode, host_port));
        harness.create("web", 6, 3);
        harness.settle();
        assert_eq!(harness.running(3), room, "{mode:?} {host_port}");
    }
    let mut harness = four_nodes();
    harness.edit_node(2, |node| node.reserved_ports.push(8080));
    harness.put(with_port(3, NetworkMode::Bridge, 8080));
    harness.create("web", 6, 3);
    harness.settle();
    assert_eq!(harness.running(3), 3);
    let event = &harness.service("web").events[0].message;
    assert!(event.contains("is already using a port required by your task."), "{event}");
}

#[test]
fn capacity_providers_are_made_of_nodes() {
    let mut harness = four_nodes();
    harness.edit_node(1, |node| node.capacity_provider = Some("big".to_owned()));
    harness.edit_node(2, |node| node.capacity_provider = Some("small".to_owned()));
    harness.edit_node(3, |node| node.capacity_provider = Some("big".to_owned()));
    harness.edit_node(4, |node| node.capacity_provider = Some("small".to_owned()));
    harness.create("web", 8, 1);
    harness.update("web", |service| {
        let strategy = json!([
            {"capacityProvider": "big", "base": 2, "weight": 1}, {"capacityProvider": "small", "weight": 2},
        ]);
        service.deployments[0].rest.insert("capacityProviderStrategy".to_owned(), strategy);
    });
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(1, 2), (2, 2), (3, 2), (4, 2)]));
    harness.edit_node(1, |node| node.agent_connected = false);
    harness.edit_node(3, |node| node.agent_connected = false);
    harness.update("web", |service| service.desired_count = 12);
    harness.settle();
    // Two thirds of the ten beyond the base of two; the others wait for their provider.
    let on = harness.on_nodes();
    assert_eq!([on[&1] + on[&3], on[&2] + on[&4]], [4, 7]);
}

#[test]
fn nodes_of_another_cluster_are_not_used() {
    let mut harness = four_nodes();
    for id in 1..=4 {
        harness.edit_node(id, |node| {
            let name = "other".parse().unwrap();
            node.cluster = Some(coracle_types::ClusterId { region: "us-east-1".parse().unwrap(), name });
        });
    }
    harness.create("web", 1, 1);
    harness.settle();
    let event = &harness.service("web").events[0].message;
    assert!(event.ends_with("No Container Instances were found in your cluster."), "{event}");
}

#[test]
fn a_draining_node_is_emptied_without_going_below_the_minimum() {
    let mut harness = four_nodes();
    harness.create("web", 4, 1);
    harness.settle();
    harness.edit_node(1, |node| node.status = NodeStatus::Draining);
    harness.edit_node(2, |node| node.status = NodeStatus::Draining);
    for _ in 0..20 {
        harness.plan();
        assert!(harness.running(1) >= 4);
        harness.step();
    }
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(3, 2), (4, 2)]));
    assert!(harness.service("web").steady);
}

#[test]
fn a_daemon_service_has_one_task_on_each_node_that_takes_tasks() {
    let mut harness = four_nodes();
    harness.create_with("web", 0, 1, |service| {
        service.scheduling_strategy = SchedulingStrategy::Daemon;
        service.deployment_configuration.minimum_healthy_percent = 0;
        service.deployment_configuration.maximum_percent = 100;
        with(json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:disk == ssd"}]}))(
            service,
        );
    });
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(1, 1), (3, 1)]));
    assert_eq!(harness.service("web").desired_count, 2);
    harness.edit_node(1, |node| node.status = NodeStatus::Draining);
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(3, 1)]));
    harness.edit_node(1, |node| node.status = NodeStatus::Active);
    harness.settle();
    assert_eq!(harness.on_nodes(), BTreeMap::from([(1, 1), (3, 1)]));
}

#[test]
fn tasks_of_a_deregistered_node_are_lost() {
    let mut harness = four_nodes();
    harness.create("web", 4, 1);
    harness.settle();
    harness.edit_node(1, |node| node.status = NodeStatus::Inactive);
    harness.settle();
    assert_eq!(harness.on_nodes().get(&1), None);
    assert_eq!(harness.running(1), 4);
    let lost = harness.tasks().into_iter().find(|task| task.node.is_some_and(|(node, _)| node == NodeId(1)));
    assert_eq!(lost.unwrap().stop.unwrap().reason, "Container instance deregistration forced by user");
}

#[test]
fn zones_are_evened_out_when_that_is_asked_for() {
    for (asked, expected) in [("ENABLED", [2, 2]), ("DISABLED", [0, 4])] {
        let mut harness = four_nodes();
        for id in [1, 2] {
            harness.edit_node(id, |node| node.agent_connected = false);
        }
        harness.create_with("web", 4, 1, with(json!({"availabilityZoneRebalancing": asked})));
        harness.settle();
        for id in [1, 2] {
            harness.edit_node(id, |node| node.agent_connected = true);
        }
        for _ in 0..20 {
            harness.plan();
            assert!(harness.running(1) >= 4);
            harness.step();
        }
        harness.settle();
        let on = harness.on_nodes();
        let zone = |nodes: [u128; 2]| nodes.iter().filter_map(|node| on.get(node)).sum::<usize>();
        assert_eq!([zone([1, 2]), zone([3, 4])], expected, "{asked}");
        assert!(harness.service("web").steady, "{asked}");
    }
}

#[test]
fn scaling_in_keeps_zones_even() {
    let mut harness = four_nodes();
    harness.create("web", 8, 1);
    harness.settle();
    harness.update("web", |service| service.desired_count = 2);
    harness.settle();
    let on = harness.on_nodes();
    let zone = |nodes: [u128; 2]| nodes.iter().filter_map(|node| on.get(node)).sum::<usize>();
    assert_eq!([zone([1, 2]), zone([3, 4])], [1, 1]);
}

#[test]
fn what_is_short_is_said_node_by_node() {
    let mut harness = Harness::new();
    harness.edit_node(1, |node| (node.cpu_units, node.memory_mib) = (100, 4000));
    harness.node(2, 4000, 100);
    harness.node_with(3, 9000, 9000, |node| node.agent_connected = false);
    let id = harness.run_task(1);
    let task = harness.task(id);
    let definition = definition(1);
    let need = |cpu: u32, memory: u32| {
        let mut need = Need::of(&task, &definition);
        (need.cpu, need.memory) = (cpu, memory);
        need
    };
    let mut rng = PlanRng::new(1);
    let mut rooms = Rooms::of(&harness.state);
    let mut place = |cpu, memory| rooms.batch(need(cpu, memory), &mut rng).place(&mut rooms, &mut rng);
    assert_eq!(place(50, 3000).unwrap(), (NodeId(1), 1));
    let short = place(500, 800).unwrap_err();
    assert_eq!((short.failure(), short.closest()), ("RESOURCE:CPU", Some(NodeId(1))));
    let id = |node: u128| NodeId(node);
    assert_eq!(
        short.to_string(),
        format!(
            "The closest matching container-instance {} has insufficient CPU units available. Node by node: {}: 500 \
             CPU units needed, 50 free; {}: 800 MiB of memory needed, 100 free; {}: its agent is disconnected.",
            id(1),
            id(1),
            id(2),
            id(3)
        )
    );
    assert_eq!(place(10, 5000).unwrap_err().failure(), "RESOURCE:MEMORY");
    let empty = coracle_types::State::default();
    let mut rooms = Rooms::of(&empty);
    assert_eq!(rooms.batch(need(1, 1), &mut rng).place(&mut rooms, &mut rng), Err(Unplaceable::NoNodes));
}
