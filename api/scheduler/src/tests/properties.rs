//! Random clusters: no plan breaks a safety property, and everything converges once nodes are reliable.

use std::time::Duration;

use coracle_types::{
    CircuitBreaker, DesiredStatus, LastStatus, RolloutState, SchedulingStrategy, ServiceStatus, StopCode,
    TaskStop,
};
use proptest::prelude::*;

use super::harness::{Behaviour, Harness, service_id};

/// Something that happens between two plans.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Each task whose turn it is takes a step of its life.
    Step { every: usize },
    /// Time passes.
    Wait { seconds: u64 },
    /// UpdateService: a new count.
    Scale { service: usize, desired: u32 },
    /// UpdateService: another revision.
    Deploy { service: usize, revision: u32 },
    /// DeleteService.
    Delete { service: usize },
    /// CreateService, if there is none.
    Create { service: usize, desired: u32, minimum: u32, maximum: u32, breaker: u8, daemon: bool },
    /// RunTask.
    Run,
    /// StopTask of some task.
    Stop { task: usize },
    /// Some RUNNING task ends by itself.
    Exit { task: usize },
    /// A node restarts, comes, or changes its size.
    Node { node: u128, tasks: u32 },
    /// From now on a revision behaves so.
    Behave { revision: u32, behaviour: Behaviour },
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const REVISIONS: [u32; 3] = [1, 2, 100];

fn event() -> impl Strategy<Value = Event> {
    let service = 0..NAMES.len();
    let revision = prop::sample::select(REVISIONS.to_vec());
    let behaviour = prop::sample::select(vec![
        Behaviour::Runs,
        Behaviour::Runs,
        Behaviour::FailsToStart,
        Behaviour::ExitsAtOnce,
        Behaviour::Healthy,
        Behaviour::Unhealthy,
        Behaviour::Hangs,
    ]);
    prop_oneof![
        8 => (1usize..4).prop_map(|every| Event::Step { every }),
        3 => (0u64..100).prop_map(|seconds| Event::Wait { seconds }),
        2 => (service.clone(), 0u32..8).prop_map(|(service, desired)| Event::Scale { service, desired }),
        2 => (service.clone(), revision.clone())
            .prop_map(|(service, revision)| Event::Deploy { service, revision }),
        1 => service.clone().prop_map(|service| Event::Delete { service }),
        3 => (service, 0u32..8, 0u32..=100, 100u32..=200, 0u8..3, prop::bool::weighted(0.2)).prop_map(
            |(service, desired, minimum, maximum, breaker, daemon)| Event::Create {
                service, desired, minimum, maximum, breaker, daemon
            }
        ),
        1 => Just(Event::Run),
        1 => (0usize..50).prop_map(|task| Event::Stop { task }),
        1 => (0usize..50).prop_map(|task| Event::Exit { task }),
        1 => (1u128..4, 0u32..30).prop_map(|(node, tasks)| Event::Node { node, tasks }),
        1 => (revision, behaviour).prop_map(|(revision, behaviour)| Event::Behave { revision, behaviour }),
    ]
}

fn apply(harness: &mut Harness, event: Event) {
    let active = |harness: &Harness, service: usize| {
        let found = harness.state.services.get(&service_id(NAMES[service]));
        found.is_some_and(|found| found.value.status == ServiceStatus::Active)
    };
    match event {
        Event::Step { every } => {
            let seen: Vec<_> = harness
                .tasks()
                .iter()
                .step_by(every)
                .filter_map(|task| harness.next_observation(task))
                .collect();
            for seen in seen {
                harness.observe(&seen);
            }
        }
        Event::Wait { seconds } => harness.now = harness.now.after(Duration::from_secs(seconds)),
        Event::Scale { service, desired } if active(harness, service) => {
            harness.update(NAMES[service], |service| service.desired_count = desired);
        }
        Event::Deploy { service, revision } if active(harness, service) => {
            harness.deploy(NAMES[service], revision);
        }
        Event::Delete { service } if active(harness, service) => {
            harness.update(NAMES[service], |service| service.status = ServiceStatus::Draining);
        }
        Event::Create { service, desired, minimum, maximum, breaker, daemon } => {
            let id = service_id(NAMES[service]);
            let taken = harness.state.services.get(&id);
            if taken.is_none_or(|found| found.value.status == ServiceStatus::Inactive) {
                harness.create_with(NAMES[service], desired, 1, |service| {
                    let configuration = &mut service.deployment_configuration;
                    configuration.minimum_healthy_percent = minimum;
                    configuration.maximum_percent = maximum;
                    configuration.circuit_breaker = CircuitBreaker {
                        enable: breaker > 0,
                        rollback: breaker > 1,
                        ..CircuitBreaker::default()
                    };
                    if daemon {
                        service.scheduling_strategy = SchedulingStrategy::Daemon;
                        configuration.minimum_healthy_percent = 0;
                    }
                });
            }
        }
        Event::Run => {
            harness.run_task(1);
        }
        Event::Stop { task } => {
            let tasks = harness.tasks();
            if let Some(task) = tasks.get(task).filter(|task| task.last_status != LastStatus::Stopped) {
                let mut task = task.clone();
                let stop =
                    TaskStop { code: StopCode::UserInitiated, reason: "Task stopped by user".to_owned() };
                task.stop(stop, harness.now);
                harness.put(task);
            }
        }
        Event::Exit { task } => {
            let tasks = harness.tasks();
            if let Some(task) = tasks.get(task).filter(|task| task.last_status == LastStatus::Running) {
                harness.exit(task.id);
            }
        }
        Event::Node { node, tasks } => harness.node(node, tasks * 100, tasks * 100),
        Event::Behave { revision, behaviour } => {
            harness.behaviours.insert(revision, behaviour);
        }
        Event::Scale { .. } | Event::Deploy { .. } | Event::Delete { .. } => {}
    }
}

/// Everything works from now on, and there is room: each service must come to what it should be.
fn assert_converges(harness: &mut Harness) {
    harness.behaviours.clear();
    harness.behaviours.insert(100, Behaviour::Healthy);
    (1..4).for_each(|node| harness.node(node, 100_000, 100_000));
    for name in NAMES {
        let id = service_id(name);
        let Some(service) = harness.state.services.get(&id).map(|found| found.value.clone()) else {
            continue;
        };
        // Bounds that forbid everything, and a deployment that was given up, stay as they are by design.
        let given_up = service.primary().is_some_and(|primary| primary.rollout_state == RolloutState::Failed);
        if service.status == ServiceStatus::Active {
            harness.update(name, |service| {
                service.deployment_configuration.minimum_healthy_percent = 0;
            });
            if given_up {
                harness.deploy(name, 2);
            }
        }
    }
    // The longest wait there is.
    harness.pass(Duration::from_secs(16 * 60));
    for found in harness.state.services.values() {
        let service = &found.value;
        match service.status {
            ServiceStatus::Active => {
                let counts = |task: &&coracle_types::Task| {
                    task.service() == Some(&service.id.name) && task.desired_status == DesiredStatus::Running
                };
                let tasks = harness.tasks();
                let running: Vec<_> = tasks.iter().filter(counts).collect();
                assert_eq!(running.len(), service.desired_count as usize, "{service:#?}");
                let primary = service.primary().unwrap();
                assert!(running.iter().all(|task| task.deployment == Some(primary.id)));
                assert!(running.iter().all(|task| task.last_status == LastStatus::Running));
                assert_eq!(primary.rollout_state, RolloutState::Completed);
                assert!(service.steady && service.deployments.len() == 1);
            }
            status => assert_eq!(status, ServiceStatus::Inactive),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_breaks_a_property_and_all_converges(events in prop::collection::vec(event(), 1..60)) {
        let mut harness = Harness::new();
        harness.create("a", 3, 1);
        for event in events {
            apply(&mut harness, event);
            // Checks the plan before it commits it.
            let plan = harness.plan();
            prop_assert!(plan.next_wake.is_none_or(|next| next > harness.now));
        }
        assert_converges(&mut harness);
    }
}
