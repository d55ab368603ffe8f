//! Random walks: whatever happens, in whatever order, a task goes forward only, and once it is told to stop it
//! comes to its end.

use super::*;
use crate::health::HealthRules;

/// A small generator of its own: the walk of a seed is the same for ever, also on another machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// Containers that depend on those before them only, so there is no cycle.
fn containers(random: &mut Random) -> Vec<ContainerRules> {
    let conditions = [
        DependencyCondition::Start,
        DependencyCondition::Complete,
        DependencyCondition::Success,
        DependencyCondition::Healthy,
    ];
    let count = 1 + random.below(5);
    let mut containers = Vec::new();
    for position in 0..count {
        let mut depends_on = Vec::new();
        for on in 0..position {
            if random.one_in(3) {
                depends_on.push((on, conditions[random.below(4)]));
            }
        }
        let health =
            HealthRules { interval: Duration::from_secs(1), retries: 1, start_period: Duration::ZERO };
        containers.push(ContainerRules {
            name: format!("c{position}").parse().unwrap(),
            essential: random.one_in(2),
            runtime_id: String::new(),
            depends_on,
            start_timeout: random.one_in(2).then_some(Duration::from_secs(1)),
            health: random.one_in(2).then_some(health),
            note: None,
            restart: None,
        });
    }
    containers
}

/// What will happen some time, because of an effect.
fn answers(effect: &Effect, random: &mut Random) -> Vec<Event> {
    let failed = |container| Event::Failed { container: Some(container), reason: "failed".into() };
    match *effect {
        Effect::Pull(container) if random.one_in(20) => vec![failed(container)],
        Effect::Pull(container) => vec![Event::Pulled { container, digest: String::new() }],
        Effect::Mount if random.one_in(20) => vec![Event::MountFailed { reason: "failed".into() }],
        Effect::Mount => vec![Event::Mounted],
        Effect::Start(container) if random.one_in(20) => vec![failed(container)],
        Effect::Start(container) if random.one_in(2) => vec![Event::Started { container, kind: Kind::Http }],
        Effect::Start(container) => vec![
            Event::Started { container, kind: Kind::Command },
            Event::Exited { container, exit: Exit::Code(u32::from(random.one_in(3))) },
        ],
        Effect::ArmStartTimeout { container, .. } => vec![Event::StartTimedOut { container }],
        Effect::Check { container, .. } => vec![Event::Checked { container, passed: random.one_in(2) }],
        Effect::Drain(container) => vec![Event::Drained { container, forced: random.one_in(3) }],
        Effect::Kill(container) => vec![Event::Exited { container, exit: Exit::Killed }],
        Effect::Release => vec![Event::Released],
        Effect::Publish(_) | Effect::Report(_) => Vec::new(),
    }
}

fn walk(seed: u64) {
    let mut random = Random(seed);
    let mut machine = Machine::new(TaskId(1), containers(&mut random));
    // Each is one thing after the other; between them the order is anyone's guess.
    let mut coming = vec![vec![Event::Begin]];
    let mut last: Option<TaskObservation> = None;
    let mut told = false;
    for step in 0..10_000 {
        let event = if coming.is_empty() || (step > 20 && !told && random.one_in(50)) {
            assert!(!told, "seed {seed}: it was told to stop, and now nothing more will happen: {machine:?}");
            told = true;
            if random.one_in(4) {
                Event::Forget
            } else {
                Event::Stop(TaskStop { code: StopCode::UserInitiated, reason: String::new() })
            }
        } else {
            let chosen = random.below(coming.len());
            let event = coming[chosen].remove(0);
            if coming[chosen].is_empty() {
                coming.swap_remove(chosen);
            }
            event
        };
        for effect in machine.handle(event, Timestamp(step)) {
            if let Effect::Report(seen) = &effect {
                if let Some(last) = &last {
                    assert!(seen.status >= last.status, "seed {seed}: {last:?} then {seen:?}");
                    assert!(last.stop.is_none() || last.stop == seen.stop, "seed {seed}: another reason");
                    for (before, after) in last.containers.iter().zip(&seen.containers) {
                        let back = before.status == ContainerStatus::Stopped && before != after;
                        assert!(!back, "seed {seed}: {before:?} then {after:?}");
                    }
                }
                last = Some(seen.clone());
            }
            let answers = answers(&effect, &mut random);
            if !answers.is_empty() {
                coming.push(answers);
            }
        }
        if machine.is_over() {
            let last = last.expect("its end is reported");
            assert_eq!(last.status, LastStatus::Stopped);
            assert!(last.stop.is_some() && last.stopped_at.is_some(), "seed {seed}: {last:?}");
            assert!(last.containers.iter().all(|container| container.status == ContainerStatus::Stopped));
            return;
        }
    }
    panic!("seed {seed}: no end after 10000 events: {machine:?}");
}

#[test]
fn every_walk_ends() {
    for seed in 0..3000 {
        walk(seed);
    }
}
