//! A group's keeper, with time as the test has it.

use http::Response;
use proptest::prelude::*;

use super::*;
use crate::group::Fault;
use crate::model::{OutlierEjection, RegisteredTarget, TargetGroupAttributes};
use crate::tests::harness::{empty, slot_with};

fn target(name: &str) -> RegisteredTarget {
    let slot = slot_with(name, |_| async { Ok(Response::new(empty())) });
    RegisteredTarget { id: id(name), backend: Backend::InProcess(slot) }
}

fn id(name: &str) -> TargetId {
    TargetId { id: name.to_owned(), port: 80 }
}

fn config(targets: &[RegisteredTarget], attributes: &[(&str, &str)]) -> TargetGroup {
    TargetGroup {
        id: "g".to_owned(),
        name: "g".to_owned(),
        protocol: crate::TargetProtocol::Http1,
        tls: false,
        health_check: HealthCheck::default(),
        attributes: TargetGroupAttributes::parse(attributes.iter().copied()).unwrap(),
        activates: false,
        targets: targets.to_vec(),
    }
}

struct Tended {
    keeper: Keeper,
    metrics: Metrics,
    now: Instant,
}

impl Tended {
    fn new(config: TargetGroup) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let keeper = Keeper::new(&config, &CookieKey::new([1; 32]));
        let mut tended = Self { keeper, metrics, now: Instant::now() };
        tended.configure(config);
        tended
    }

    fn configure(&mut self, config: TargetGroup) {
        let user = LoadBalancer {
            id: "lb".to_owned(),
            name: "lb".to_owned(),
            attributes: crate::LoadBalancerAttributes::DEFAULT,
        };
        self.keeper.configure(config, Some(&user), &self.metrics, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.keeper.advance(self.now);
    }

    /// Does the checks that are due: those of targets named in `failing` fail.
    fn check(&mut self, failing: &[&str]) {
        for check in self.keeper.begin_checks(self.now) {
            let outcome = match failing.contains(&check.target.id.as_str()) {
                true => Outcome::Failed(Fault::Status(500)),
                false => Outcome::Passed,
            };
            self.keeper.checked(&check, outcome, self.now);
        }
    }

    /// The targets that get requests.
    fn served(&self) -> Vec<String> {
        let route = self.keeper.route().unwrap();
        route.choices.targets().iter().map(|member| member.id.id.clone()).collect()
    }

    fn states(&mut self) -> Vec<(String, &'static str)> {
        let health = self.keeper.health();
        health.iter().map(|(id, health)| (id.id.clone(), health.state.as_str())).collect()
    }

    fn member(&self, name: &str) -> Arc<Member> {
        Arc::clone(&self.keeper.targets[&id(name)].reached.as_ref().unwrap().member)
    }

    fn eject(&mut self, name: &str) -> bool {
        let member = self.member(name);
        self.keeper.eject(&member, self.now)
    }
}

#[test]
fn only_healthy_targets_get_requests_unless_none_is() {
    let (a, b) = (target("a"), target("b"));
    let mut group = Tended::new(config(&[a, b], &[]));
    assert!(group.served().is_empty(), "nothing is known of them yet");
    group.check(&["b"]);
    assert_eq!(group.served(), ["a"]);
    assert_eq!(group.states(), [("a".into(), "healthy"), ("b".into(), "initial")]);
    for _ in 0..70 {
        group.pass(1);
        group.check(&["a", "b"]);
    }
    assert_eq!(group.states(), [("a".into(), "unhealthy"), ("b".into(), "unhealthy")]);
    assert_eq!(group.served(), ["a", "b"], "all get requests when none is healthy");
    let health = &group.keeper.health()[&id("a")];
    assert_eq!(health.reason, Some(HealthReason::ResponseCodeMismatch));
    assert_eq!(health.description, "Health checks failed with these codes: [500]");
}

#[test]
fn too_few_healthy_targets_are_as_good_as_none() {
    let targets: Vec<_> = ["a", "b", "c"].map(target).into();
    let minimum = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count";
    let mut group = Tended::new(config(&targets, &[(minimum, "2")]));
    group.check(&["c"]);
    assert_eq!(group.served(), ["a", "b"]);
    group.pass(30);
    group.check(&["b", "c"]);
    group.pass(30);
    group.check(&["b", "c"]);
    assert_eq!(group.served(), ["a", "b", "c"]);
}

#[test]
fn a_group_nobody_uses_is_not_checked() {
    let mut group = Tended::new(config(&[target("a")], &[]));
    group.keeper.configure(config(&[target("a")], &[]), None, &group.metrics, group.now);
    assert!(group.keeper.begin_checks(group.now).is_empty() && group.keeper.route().is_none());
    assert_eq!(group.keeper.health()[&id("a")].reason, Some(HealthReason::NotInUse));
}

#[test]
fn stopped_and_unchecked_targets_are_told_apart() {
    let stopped = RegisteredTarget { id: id("s"), backend: Backend::Stopped };
    let unchecked = TargetGroup {
        health_check: HealthCheck { is_enabled: false, ..HealthCheck::default() },
        ..config(&[target("a"), stopped], &[])
    };
    let mut group = Tended::new(unchecked);
    assert_eq!(group.states(), [("a".into(), "unavailable"), ("s".into(), "unused")]);
    assert_eq!(group.served(), ["a"]);
}

#[test]
fn a_deregistered_target_drains_for_as_long_as_it_is_busy_and_may() {
    let (a, b) = (target("a"), target("b"));
    let delay = [("deregistration_delay.timeout_seconds", "60")];
    let mut group = Tended::new(config(&[a.clone(), b.clone()], &delay));
    group.check(&[]);
    let (member_a, member_b) = (group.member("a"), group.member("b"));
    assert!(member_a.try_enter() && member_b.try_enter());
    group.configure(config(&[], &delay));
    assert_eq!(group.states(), [("a".into(), "draining"), ("b".into(), "draining")]);
    assert!(group.served().is_empty() && !member_a.try_enter(), "nothing new is started");
    member_a.leave();
    group.pass(1);
    assert_eq!(group.states(), [("b".into(), "draining")]);
    group.pass(60);
    assert!(group.states().is_empty());

    group.configure(config(&[b], &delay));
    assert!(group.member("b").try_enter(), "registered again, it is a new target");
}

#[test]
fn idle_targets_are_gone_at_once() {
    let mut group = Tended::new(config(&[target("a")], &[]));
    group.configure(config(&[], &[]));
    assert!(group.states().is_empty());
}

#[test]
fn ejected_targets_come_back_later_each_time() {
    let targets: Vec<_> = ["a", "b"].map(target).into();
    let mut group = Tended::new(config(&targets, &[("coracle.outlier_ejection.enabled", "true")]));
    group.check(&[]);
    for time in [30, 60, 90] {
        assert!(group.eject("a"));
        assert_eq!(group.served(), ["b"]);
        assert!(group.keeper.health()[&id("a")].is_anomalous);
        assert!(!group.eject("b"), "one of two is out already");
        group.pass(time - 1);
        assert_eq!(group.served(), ["b"]);
        group.pass(1);
        assert_eq!(group.served(), ["a", "b"]);
    }
    group.pass(301);
    assert!(group.eject("a"));
    group.pass(30);
    assert_eq!(group.served(), ["a", "b"], "what was long ago is forgotten");
}

#[test]
fn slow_start_is_for_those_who_join_others() {
    let (a, b) = (target("a"), target("b"));
    let slow = [("slow_start.duration_seconds", "30")];
    let mut group = Tended::new(config(std::slice::from_ref(&a), &slow));
    group.check(&[]);
    let ramp = |group: &Tended, name| group.keeper.targets[&id(name)].reached.as_ref().unwrap().ramp;
    assert_eq!(ramp(&group, "a"), None, "the first has nobody to join");
    group.configure(config(&[a, b], &slow));
    group.check(&[]);
    assert_eq!(ramp(&group, "b"), Some(group.now));
    group.pass(30);
    assert_eq!(ramp(&group, "b"), None);
}

#[test]
fn a_result_of_a_target_that_is_no_longer_there_changes_nothing() {
    let mut group = Tended::new(config(&[target("a")], &[]));
    let late = group.keeper.begin_checks(group.now).pop().unwrap();
    group.configure(config(&[target("a")], &[]));
    assert!(!group.keeper.checked(&late, Outcome::Passed, group.now), "it has another backend now");
    assert_eq!(group.states(), [("a".into(), "initial")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever fails and however time passes, ejection takes no more than its share and never all.
    #[test]
    fn ejection_never_passes_its_share(
        count in 1_usize..30,
        max_percentage in 1_u8..=100,
        events in prop::collection::vec((0_usize..30, 0_u64..40), 0..200),
    ) {
        let names: Vec<String> = (0..count).map(|index| format!("t{index:02}")).collect();
        let targets: Vec<_> = names.iter().map(|name| target(name)).collect();
        let percentage = max_percentage.to_string();
        let mut group = Tended::new(config(&targets, &[
            ("coracle.outlier_ejection.enabled", "true"),
            ("coracle.outlier_ejection.max_percentage", &percentage),
        ]));
        group.check(&[]);
        let share = count * usize::from(max_percentage) / 100;
        for (index, seconds) in events {
            group.eject(&names[index % count]);
            let out = group.keeper.reached().filter(|reached| reached.ejected_until.is_some()).count();
            prop_assert!(out <= share.max(1), "{out} of {count}");
            prop_assert!(out < count, "all are out");
            prop_assert_eq!(group.served().len(), count - out);
            group.pass(seconds);
        }
    }

    /// Whatever joins and leaves, a target that drains gets nothing new, and all that is registered and
    /// healthy gets its turn.
    #[test]
    fn draining_targets_get_nothing_new(
        events in prop::collection::vec((0_usize..6, any::<bool>(), 0_u64..5), 1..60),
    ) {
        let all: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(target).into();
        let mut listed: Vec<usize> = Vec::new();
        let mut group = Tended::new(config(&[], &[]));
        let mut busy: Vec<Arc<Member>> = Vec::new();
        for (index, joins, seconds) in events {
            listed.retain(|other| *other != index);
            if joins {
                listed.push(index);
            }
            let targets: Vec<_> = listed.iter().map(|index| all[*index].clone()).collect();
            group.configure(config(&targets, &[]));
            group.check(&[]);
            let served = group.served();
            prop_assert_eq!(served.len(), listed.len());
            for member in busy.drain(..) {
                let is_registered = served.contains(&member.id.id) && {
                    Arc::ptr_eq(&group.member(&member.id.id), &member)
                };
                prop_assert_eq!(member.try_enter(), is_registered, "{}", member.id);
            }
            busy.extend(served.iter().map(|name| group.member(name)));
            for member in &busy {
                prop_assert!(member.try_enter());
            }
            group.pass(seconds);
        }
    }
}

#[test]
fn shares_of_ejection_and_health_are_rounded_the_safe_way() {
    let ejection = |max_percentage| OutlierEjection {
        consecutive_failures: 5,
        base: Duration::from_secs(30),
        max_percentage,
    };
    assert_eq!([0, 1, 2, 5, 20, 25].map(|count| max_ejected(count, &ejection(10))), [0, 0, 1, 1, 2, 2]);
    assert_eq!(max_ejected(4, &ejection(100)), 3);
    let minimum = |count, percentage| Minimum { count, percentage };
    assert_eq!(required(&minimum(1, None), 10), 1);
    assert_eq!(required(&minimum(1, Some(25)), 10), 3);
    assert_eq!(required(&minimum(4, Some(25)), 10), 4);
}
