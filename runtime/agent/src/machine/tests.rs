//! Scripts for the machine: a task is described in a line, driven by hand, and watched by its effects.

use coracle_sandbox::{TrapInfo, TrapKind};

use super::*;
use crate::health::HealthRules;

/// A machine with a clock that ticks with every event, and what it has said so far.
struct Script {
    machine: Machine,
    now: i64,
    walk: Vec<LastStatus>,
    last: Option<TaskObservation>,
}

fn rules(name: &str) -> ContainerRules {
    ContainerRules {
        name: name.parse().unwrap(),
        essential: true,
        runtime_id: format!("run-{name}"),
        depends_on: Vec::new(),
        start_timeout: None,
        health: None,
        note: None,
        restart: None,
    }
}

fn helper(name: &str) -> ContainerRules {
    ContainerRules { essential: false, ..rules(name) }
}

impl Script {
    fn new(containers: Vec<ContainerRules>) -> Self {
        Self { machine: Machine::new(TaskId(1), containers), now: 0, walk: Vec::new(), last: None }
    }

    /// A task whose images and volumes are there; answers what is done next.
    fn prepared(containers: Vec<ContainerRules>) -> (Self, Vec<Effect>) {
        let mut script = Self::new(containers);
        script.on(Event::Begin);
        for container in 0..script.machine.containers.len() {
            script.on(Event::Pulled { container, digest: format!("sha256:{container}") });
        }
        let effects = script.on(Event::Mounted);
        (script, effects)
    }

    /// Hands in an event; answers the effects but the reports, which are collected.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.now += 1;
        let mut effects = Vec::new();
        for effect in self.machine.handle(event, Timestamp(self.now)) {
            match effect {
                Effect::Report(observation) => {
                    if self.walk.last() != Some(&observation.status) {
                        self.walk.push(observation.status);
                    }
                    self.last = Some(observation);
                }
                other => effects.push(other),
            }
        }
        effects
    }

    fn started(&mut self, container: usize, kind: Kind) -> Vec<Effect> {
        self.on(Event::Started { container, kind })
    }

    fn exited(&mut self, container: usize, code: u32) -> Vec<Effect> {
        self.on(Event::Exited { container, exit: Exit::Code(code) })
    }

    fn last(&self) -> &TaskObservation {
        self.last.as_ref().expect("there was a report")
    }

    fn stop(&self) -> (StopCode, &str) {
        let stop = self.last().stop.as_ref().expect("it stops");
        (stop.code, &stop.reason)
    }

    /// Exit code and reason of a container.
    fn end(&self, container: usize) -> (Option<i32>, Option<&str>) {
        let container = &self.last().containers[container];
        assert_eq!(container.status, ContainerStatus::Stopped);
        (container.exit_code, container.reason.as_deref())
    }
}

fn user_stop() -> TaskStop {
    TaskStop { code: StopCode::UserInitiated, reason: "enough".to_owned() }
}

const WHOLE_WALK: [LastStatus; 7] = [
    LastStatus::Pending,
    LastStatus::Activating,
    LastStatus::Running,
    LastStatus::Deactivating,
    LastStatus::Stopping,
    LastStatus::Deprovisioning,
    LastStatus::Stopped,
];

#[test]
fn a_command_runs_and_ends() {
    let mut script = Script::new(vec![rules("job")]);
    assert_eq!(script.on(Event::Begin), [Effect::Pull(0), Effect::Mount]);
    assert_eq!(script.on(Event::Mounted), []);
    assert_eq!(script.on(Event::Pulled { container: 0, digest: "sha256:0".into() }), [Effect::Start(0)]);
    assert_eq!(script.started(0, Kind::Command), []);
    assert_eq!(script.exited(0, 3), [Effect::Release]);
    assert_eq!(script.on(Event::Released), []);
    assert!(script.machine.is_over());
    assert_eq!(script.walk, WHOLE_WALK);
    assert_eq!(script.stop(), (StopCode::EssentialContainerExited, "Essential container in task exited"));
    assert_eq!(script.end(0), (Some(3), None));
    let seen = script.last();
    let times = [
        seen.pull_started_at,
        seen.pull_stopped_at,
        seen.started_at,
        seen.stopping_at,
        seen.execution_stopped_at,
        seen.stopped_at,
    ];
    assert_eq!(times.map(|time| time.unwrap().0), [1, 3, 4, 5, 5, 6]);
    assert_eq!(seen.containers[0].image_digest.as_deref(), Some("sha256:0"));
    assert_eq!(seen.containers[0].runtime_id.as_deref(), Some("run-job"));
}

#[test]
fn an_http_container_is_published_drained_and_ends_with_0() {
    let (mut script, effects) = Script::prepared(vec![rules("web")]);
    assert_eq!(effects, [Effect::Start(0)]);
    assert_eq!(script.started(0, Kind::Http), [Effect::Publish(0)]);
    assert_eq!(script.on(Event::Stop(user_stop())), [Effect::Drain(0)]);
    assert_eq!(script.last().status, LastStatus::Deactivating);
    assert_eq!(script.last().containers[0].status, ContainerStatus::Running);
    // The first reason stays.
    assert_eq!(
        script.on(Event::Stop(TaskStop { code: StopCode::TerminationNotice, reason: "no".into() })),
        []
    );
    assert_eq!(script.on(Event::Drained { container: 0, forced: false }), [Effect::Kill(0)]);
    assert_eq!(script.on(Event::Exited { container: 0, exit: Exit::Killed }), [Effect::Release]);
    script.on(Event::Released);
    assert_eq!(script.walk, WHOLE_WALK);
    assert_eq!(script.stop(), (StopCode::UserInitiated, "enough"));
    assert_eq!(script.end(0), (Some(0), None));
}

#[test]
fn requests_that_go_on_too_long_make_it_137_and_a_command_told_to_stop_143() {
    let (mut script, _) = Script::prepared(vec![rules("web"), rules("worker")]);
    script.started(0, Kind::Http);
    script.started(1, Kind::Command);
    assert_eq!(script.on(Event::Stop(user_stop())), [Effect::Drain(0)]);
    let effects = script.on(Event::Drained { container: 0, forced: true });
    assert_eq!(effects, [Effect::Kill(0), Effect::Kill(1)]);
    script.on(Event::Exited { container: 1, exit: Exit::Killed });
    script.on(Event::Exited { container: 0, exit: Exit::Killed });
    assert_eq!(script.end(0).0, Some(137));
    assert_eq!(script.end(1), (Some(143), None));
}

#[test]
fn a_command_that_ends_just_before_it_is_killed_keeps_its_code() {
    let (mut script, _) = Script::prepared(vec![rules("job")]);
    script.started(0, Kind::Command);
    assert_eq!(script.on(Event::Stop(user_stop())), [Effect::Kill(0)]);
    script.exited(0, 0);
    assert_eq!(script.end(0), (Some(0), None));
    assert_eq!(script.stop().0, StopCode::UserInitiated);
}

#[test]
fn containers_start_in_order_and_stop_in_reverse() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Success), (2, DependencyCondition::Start)];
    let (mut script, effects) = Script::prepared(vec![web, helper("init"), rules("proxy")]);
    assert_eq!(effects, [Effect::Start(1), Effect::Start(2)]);
    assert_eq!(script.started(1, Kind::Command), []);
    assert_eq!(script.started(2, Kind::Command), []);
    assert_eq!(script.last().status, LastStatus::Activating);
    assert_eq!(script.exited(1, 0), [Effect::Start(0)]);
    assert_eq!(script.started(0, Kind::Command), []);
    assert_eq!(script.last().status, LastStatus::Running);
    assert_eq!(script.on(Event::Stop(user_stop())), [Effect::Kill(0)]);
    assert_eq!(script.on(Event::Exited { container: 0, exit: Exit::Killed }), [Effect::Kill(2)]);
    assert_eq!(script.on(Event::Exited { container: 2, exit: Exit::Killed }), [Effect::Release]);
}

#[test]
fn success_that_can_not_come_fails_an_essential_container_and_with_it_the_task() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Success)];
    let (mut script, _) = Script::prepared(vec![web, helper("init")]);
    script.started(1, Kind::Command);
    assert_eq!(script.exited(1, 7), [Effect::Release]);
    script.on(Event::Released);
    let reason = "CannotStartContainerError: container web waits for SUCCESS of container init, which exited with code 7";
    assert_eq!(script.stop(), (StopCode::TaskFailedToStart, reason));
    assert_eq!(script.end(0), (None, Some(reason)));
    assert_eq!(script.end(1), (Some(7), None));
    assert_eq!(script.last().started_at, None);
    assert!(!script.walk.contains(&LastStatus::Running));
}

#[test]
fn a_container_that_is_not_essential_may_wait_in_vain() {
    let mut extra = helper("extra");
    extra.depends_on = vec![(1, DependencyCondition::Success)];
    let mut after = helper("after");
    after.depends_on = vec![(0, DependencyCondition::Start)];
    let (mut script, _) = Script::prepared(vec![extra, helper("init"), rules("web"), after]);
    script.started(2, Kind::Http);
    script.started(1, Kind::Command);
    assert_eq!(script.exited(1, 1), [Effect::Publish(2)]);
    assert_eq!(script.last().status, LastStatus::Running);
    assert_eq!(script.last().stop, None);
    assert!(script.end(0).1.unwrap().contains("exited with code 1"));
    assert!(script.end(3).1.unwrap().contains("container extra, which could not start"));
}

#[test]
fn complete_takes_any_exit_code() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Complete)];
    let (mut script, _) = Script::prepared(vec![web, helper("init")]);
    script.started(1, Kind::Command);
    assert_eq!(script.exited(1, 9), [Effect::Start(0)]);
}

fn checked(name: &str) -> ContainerRules {
    let health = HealthRules { interval: Duration::from_secs(30), retries: 1, start_period: Duration::ZERO };
    ContainerRules { health: Some(health), ..rules(name) }
}

#[test]
fn healthy_waits_for_the_check() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Healthy)];
    let (mut script, effects) = Script::prepared(vec![web, checked("database")]);
    assert_eq!(effects, [Effect::Start(1)]);
    assert_eq!(script.started(1, Kind::Http), [Effect::Check { container: 1, after: Duration::ZERO }]);
    let again = Effect::Check { container: 1, after: Duration::from_secs(30) };
    assert_eq!(script.on(Event::Checked { container: 1, passed: false }), [again]);
    assert_eq!(script.last().containers[1].health, HealthStatus::Unknown);
    let effects = script.on(Event::Checked { container: 1, passed: true });
    assert!(effects.contains(&Effect::Start(0)), "{effects:?}");
    assert_eq!(script.last().containers[1].health, HealthStatus::Healthy);
    // An unhealthy container goes on: what to do about it is its service's to say.
    script.started(0, Kind::Http);
    script.on(Event::Checked { container: 1, passed: false });
    assert_eq!(script.last().containers[1].health, HealthStatus::Unhealthy);
    assert_eq!(script.last().status, LastStatus::Running);
}

#[test]
fn healthy_of_a_container_without_a_check_never_comes() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Healthy)];
    let (script, effects) = Script::prepared(vec![web, rules("database")]);
    assert_eq!(effects, [Effect::Release]);
    assert_eq!(script.stop().0, StopCode::TaskFailedToStart);
    assert!(script.stop().1.contains("no health check"));
}

#[test]
fn the_start_timeout_ends_the_wait_for_a_container() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Healthy)];
    let database = ContainerRules { start_timeout: Some(Duration::from_secs(5)), ..checked("database") };
    let (mut script, _) = Script::prepared(vec![web, database]);
    let effects = script.started(1, Kind::Http);
    assert!(effects.contains(&Effect::ArmStartTimeout { container: 1, after: Duration::from_secs(5) }));
    // Nothing has been published, so there is nothing to drain.
    assert_eq!(script.on(Event::StartTimedOut { container: 1 }), [Effect::Kill(1)]);
    assert_eq!(script.stop().0, StopCode::TaskFailedToStart);
    assert!(
        script.stop().1.ends_with("did not get there within its startTimeout of 5 s"),
        "{}",
        script.stop().1
    );
    script.on(Event::Exited { container: 1, exit: Exit::Killed });
    script.on(Event::Released);
    assert!(script.machine.is_over());
}

#[test]
fn the_start_timeout_of_a_container_that_made_it_means_nothing() {
    let mut web = rules("web");
    web.depends_on = vec![(1, DependencyCondition::Complete)];
    let init = ContainerRules { start_timeout: Some(Duration::from_secs(5)), ..helper("init") };
    let (mut script, _) = Script::prepared(vec![web, init]);
    script.started(1, Kind::Command);
    script.exited(1, 0);
    script.started(0, Kind::Http);
    assert_eq!(script.on(Event::StartTimedOut { container: 1 }), []);
    assert_eq!(script.last().status, LastStatus::Running);
}

#[test]
fn an_image_that_is_missing_stops_the_task() {
    let mut script = Script::new(vec![rules("web"), rules("proxy")]);
    script.on(Event::Begin);
    let reason = "CannotPullContainerError: no such image";
    assert_eq!(script.on(Event::Failed { container: Some(1), reason: reason.into() }), []);
    // The other image comes too late.
    assert_eq!(script.on(Event::Pulled { container: 0, digest: "sha256:0".into() }), []);
    // Volumes that are still being made would be left behind.
    assert_eq!(script.on(Event::Mounted), [Effect::Release]);
    script.on(Event::Released);
    assert_eq!(script.stop(), (StopCode::TaskFailedToStart, reason));
    assert_eq!(script.end(0), (None, None));
    assert_eq!(script.end(1), (None, Some(reason)));
    assert_eq!(script.last().pull_stopped_at, Some(Timestamp(2)));
}

#[test]
fn volumes_that_can_not_be_made_stop_the_task() {
    let mut script = Script::new(vec![rules("web")]);
    script.on(Event::Begin);
    let effects = script.on(Event::MountFailed { reason: "CannotStartContainerError: no disk".into() });
    assert_eq!(effects, [Effect::Release]);
    assert_eq!(script.stop(), (StopCode::TaskFailedToStart, "CannotStartContainerError: no disk"));
}

#[test]
fn a_start_that_fails_ends_those_that_started_beside_it() {
    let (mut script, effects) = Script::prepared(vec![rules("a"), rules("b")]);
    assert_eq!(effects, [Effect::Start(0), Effect::Start(1)]);
    assert_eq!(script.on(Event::Failed { container: Some(0), reason: "no".into() }), []);
    assert_eq!(script.started(1, Kind::Http), [Effect::Kill(1)]);
    assert_eq!(script.on(Event::Exited { container: 1, exit: Exit::Killed }), [Effect::Release]);
}

#[test]
fn reasons_of_guests_that_end_badly() {
    for (exit, code, reason) in [
        (
            Exit::OutOfMemory { limit: 1, peak: 1 },
            137,
            "OutOfMemoryError: Container killed due to memory usage",
        ),
        (
            Exit::Trap(TrapInfo {
                kind: TrapKind::Unreachable,
                function: Some("work".into()),
                message: "trap: unreachable in work".into(),
            }),
            134,
            "trap: unreachable in work",
        ),
        (Exit::OutOfFuel { limit: 5 }, 152, "out of fuel: used up its limit of 5"),
    ] {
        let (mut script, _) = Script::prepared(vec![rules("web")]);
        script.started(0, Kind::Http);
        assert_eq!(script.on(Event::Exited { container: 0, exit }), [Effect::Release]);
        assert_eq!(script.end(0), (Some(code), Some(reason)));
        assert_eq!(script.stop().0, StopCode::EssentialContainerExited);
    }
}

#[test]
fn a_helpers_end_is_recorded_and_the_task_goes_on() {
    let (mut script, _) = Script::prepared(vec![rules("web"), helper("extra")]);
    script.started(0, Kind::Http);
    script.started(1, Kind::Command);
    assert_eq!(script.exited(1, 5), []);
    assert_eq!(script.last().status, LastStatus::Running);
    assert_eq!(script.end(1), (Some(5), None));
}

#[test]
fn a_stop_before_the_beginning_walks_to_the_end() {
    let mut script = Script::new(vec![rules("web")]);
    assert_eq!(script.on(Event::Stop(user_stop())), [Effect::Release]);
    assert_eq!(script.on(Event::Begin), []);
    script.on(Event::Released);
    assert!(script.machine.is_over());
    assert_eq!(script.end(0), (None, None));
}

#[test]
fn a_forgotten_task_waits_for_no_request() {
    let (mut script, _) = Script::prepared(vec![rules("web")]);
    script.started(0, Kind::Http);
    script.on(Event::Stop(user_stop()));
    assert_eq!(script.on(Event::Forget), [Effect::Kill(0)]);
    assert_eq!(script.on(Event::Drained { container: 0, forced: false }), []);
}

#[test]
fn a_check_that_can_not_run_is_the_containers_reason() {
    let web = ContainerRules { note: Some("no shell here".into()), ..rules("web") };
    let (mut script, _) = Script::prepared(vec![web]);
    script.started(0, Kind::Http);
    assert_eq!(script.last().containers[0].reason.as_deref(), Some("no shell here"));
    assert_eq!(script.last().containers[0].health, HealthStatus::Unknown);
}

#[test]
fn nothing_is_reported_twice() {
    let (mut script, _) = Script::prepared(vec![rules("web")]);
    script.started(0, Kind::Http);
    let effects = script.machine.handle(Event::Mounted, Timestamp(99));
    assert_eq!(effects, []);
}

#[test]
fn a_restart_policy_starts_what_has_run_long_enough() {
    let policy = crate::resolve::RestartPolicy {
        attempt_period: Duration::from_millis(5),
        ignored_exit_codes: vec![3],
    };
    let rules = ContainerRules { restart: Some(policy), ..rules("a") };
    let (mut script, _) = Script::prepared(vec![rules]);
    script.started(0, Kind::Server);
    script.now += 10;
    assert_eq!(script.exited(0, 1), [Effect::Start(0)]);
    assert_eq!(script.last().status, LastStatus::Running);
    assert_eq!(script.started(0, Kind::Server), [Effect::Publish(0)], "the router is told again");
    script.exited(0, 1); // Too soon.
    assert_eq!(script.stop().0, StopCode::EssentialContainerExited);
}

#[test]
fn an_ignored_exit_code_is_an_end() {
    let policy =
        crate::resolve::RestartPolicy { attempt_period: Duration::ZERO, ignored_exit_codes: vec![0] };
    let rules = ContainerRules { restart: Some(policy), ..rules("a") };
    let (mut script, _) = Script::prepared(vec![rules]);
    script.started(0, Kind::Command);
    script.exited(0, 0);
    assert_eq!(script.stop().0, StopCode::EssentialContainerExited);
}
