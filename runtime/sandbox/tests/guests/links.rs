//! One container's imports, answered by another's exports.

use crate::{ENGINE, Lines, eventually, prepare};
use coracle_sandbox::{
    Container, ContainerError, ContainerSpec, CpuBudget, Exit, Link, LinkError, MemoryBudget, Plugin,
    PrepareError, Prepared, StdStream, TrapKind,
};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Not by [`crate::prepare`], which wants to know who provides every import.
fn open(wasm: &Path) -> Prepared {
    ENGINE.prepare_open(&std::fs::read(wasm).unwrap()).unwrap()
}

static CALLER: LazyLock<Prepared> = LazyLock::new(|| open(coracle_fixtures::link_caller()));
static POLICY: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::link_policy()));

fn link(exports: &Plugin, interface: Option<&str>) -> Link {
    Link { interface: interface.map(str::to_owned), container: "policy".to_owned(), exports: exports.clone() }
}

/// What calls of a policy print, and how they end.
struct Caller {
    exports: Plugin,
    spec: ContainerSpec,
}

impl Caller {
    fn of(policy: ContainerSpec) -> Caller {
        let exports = Plugin::new(&POLICY, policy).unwrap();
        Caller {
            spec: ContainerSpec { links: vec![link(&exports, None)], ..ContainerSpec::default() },
            exports,
        }
    }

    async fn run(&self, words: &[&str]) -> (Exit, Vec<String>) {
        let lines = Lines::default();
        let args = std::iter::once("caller").chain(words.iter().copied()).map(str::to_owned).collect();
        let spec = ContainerSpec { args, output: Arc::new(lines.clone()), ..self.spec.clone() };
        let exit = Container::new(&CALLER, spec).unwrap().run().await;
        (exit, lines.of(StdStream::Stdout))
    }

    async fn prints(&self, words: &[&str]) -> String {
        let (exit, lines) = self.run(words).await;
        assert_eq!(exit, Exit::Code(0), "{words:?}");
        lines.join("\n")
    }

    /// Why a call trapped.
    async fn trap(&self, words: &[&str]) -> String {
        match self.run(words).await.0 {
            Exit::Trap(trap) => match trap.kind {
                TrapKind::Linked(text) => text,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_and_come_back() {
    let caller = Caller::of(ContainerSpec::default());
    assert_eq!(caller.prints(&["check", "good"]).await, "Ok(Verdict { allowed: true, reason: None })");
    assert_eq!(
        caller.prints(&["check", "bad"]).await,
        "Ok(Verdict { allowed: false, reason: Some(\"unknown token bad\") })"
    );
    assert_eq!(caller.prints(&["check", ""]).await, "Err(\"no token\")");
    assert_eq!(caller.prints(&["echo", "grüß"]).await, "grüß");
    assert_eq!(caller.prints(&["add", "41"]).await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_has_grants_and_output_of_its_own() {
    let lines = Lines::default();
    let caller = Caller::of(ContainerSpec {
        env: vec![("SECRET".into(), "theirs".into())],
        output: Arc::new(lines.clone()),
        instance_reuse: Some(1),
        ..ContainerSpec::default()
    });
    assert_eq!(caller.prints(&["variable", "SECRET"]).await, "Some(\"theirs\"), and here None");
    assert_eq!(caller.prints(&["say", "hello"]).await, "");
    assert_eq!(lines.of(StdStream::Stdout), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_answers_call_after_call_unless_it_failed_or_may_not() {
    let caller = Caller::of(ContainerSpec::default());
    assert_eq!(caller.prints(&["count", "3"]).await, "3");
    assert_eq!(caller.prints(&["count", "2"]).await, "5", "another importer meets the same instance");
    caller.trap(&["trap"]).await;
    assert_eq!(caller.prints(&["count", "1"]).await, "1", "a fresh one after a trap");

    let caller = Caller::of(ContainerSpec { instance_reuse: Some(1), ..ContainerSpec::default() });
    assert_eq!(caller.prints(&["count", "3"]).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_the_callers_trap_and_names_container_and_function() {
    let caller = Caller::of(ContainerSpec {
        fuel_per_request: Some(10_000_000),
        request_timeout: Duration::from_millis(200),
        memory: MemoryBudget::new(32 << 20),
        ..ContainerSpec::default()
    });
    let (function, container) = ("demo:link/policy@1.2.0#", "linked container policy: ");
    let text = caller.trap(&["trap"]).await;
    assert!(text.starts_with(&format!("{container}{function}trap: trap: unreachable in ")), "{text}");
    let text = caller.trap(&["spin"]).await;
    assert_eq!(text, format!("{container}{function}spin: out of fuel: used up its limit of 10000000"));
    let text = caller.trap(&["sleep", "60000"]).await;
    assert_eq!(text, format!("{container}{function}sleep: timed out after 200 ms"));
    let text = caller.trap(&["hog", "100000000"]).await;
    assert!(text.starts_with(&format!("{container}{function}hog: OutOfMemoryError")), "{text}");
    // And the next call is answered.
    assert_eq!(caller.prints(&["add", "1"]).await, "2");
    let (exit, _) = caller.run(&["trap"]).await;
    assert!(exit.to_string().contains("linked container policy"), "{exit}");
    assert_eq!(exit.code(), 134);

    caller.exports.kill();
    let text = caller.trap(&["add", "1"]).await;
    assert_eq!(text, format!("{container}{function}add: the container has ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_linked_container_computes_is_billed_to_it() {
    let cpu = CpuBudget::unlimited();
    let caller = Caller::of(ContainerSpec {
        fuel_per_request: Some(300_000_000),
        cpu: cpu.clone(),
        ..ContainerSpec::default()
    });
    let own = CpuBudget::unlimited();
    let spec = ContainerSpec {
        args: vec!["caller".into(), "spin".into()],
        cpu: own.clone(),
        // Not the caller's: it does next to nothing.
        fuel_per_run: Some(10_000_000),
        ..caller.spec.clone()
    };
    let container = Container::new(&CALLER, spec).unwrap();
    assert!(matches!(container.run().await, Exit::Trap(trap) if matches!(trap.kind, TrapKind::Linked(_))));
    assert!(cpu.used() > 4 * own.used(), "{:?} there, {:?} here", cpu.used(), own.used());
    assert!(caller.exports.stats().fuel_used >= 300_000_000);
    assert_eq!(caller.exports.stats().cpu_time, cpu.used());
    assert!(container.stats().fuel_used < 10_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_the_caller_stops_the_call() {
    let caller = Caller::of(ContainerSpec::default());
    let spec = ContainerSpec { args: vec!["caller".into(), "spin".into()], ..caller.spec.clone() };
    let container = Container::new(&CALLER, spec).unwrap();
    let running = tokio::spawn({
        let container = container.clone();
        async move { container.run().await }
    });
    eventually("the call has begun", || caller.exports.stats().instances_live == 1).await;
    container.kill();
    assert_eq!(running.await.unwrap(), Exit::Killed);
    eventually("its instance is gone", || caller.exports.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_started_again_answers_again() {
    let policy = || Container::new(&POLICY, ContainerSpec::default()).unwrap();
    let first = policy();
    let exports = Plugin::of(&first).unwrap();
    let links = vec![link(&exports, Some("demo:link/policy"))];
    let caller =
        Caller { exports: exports.clone(), spec: ContainerSpec { links, ..ContainerSpec::default() } };
    assert_eq!(caller.prints(&["count", "2"]).await, "2");
    first.kill();
    assert!(caller.trap(&["count", "1"]).await.contains("has ended"));
    exports.attach(&policy()).unwrap();
    assert_eq!(caller.prints(&["count", "1"]).await, "1");
}

/// A component of WASI 0.3 in the middle, and as the caller: their stores have event loops, which must not meet.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_passed_on_through_several_containers() {
    let middle = open(coracle_fixtures::link_middle());
    let policy = Plugin::new(&POLICY, ContainerSpec::default()).unwrap();
    let linked = |args: &[&str], link: Link| ContainerSpec {
        args: args.iter().map(|&word| word.to_owned()).collect(),
        links: vec![link],
        ..ContainerSpec::default()
    };
    let between = Plugin::new(&middle, linked(&[], link(&policy, None))).unwrap();
    let first = Container::new(
        &middle,
        linked(&["middle", "41"], Link { container: "between".into(), ..link(&between, None) }),
    );
    assert_eq!(first.unwrap().run().await, Exit::Code(42));

    let caller = Caller {
        exports: between.clone(),
        spec: ContainerSpec {
            links: vec![Link { container: "between".into(), ..link(&between, None) }],
            ..ContainerSpec::default()
        },
    };
    assert_eq!(caller.prints(&["check", "good"]).await, "Ok(Verdict { allowed: true, reason: None })");
    assert_eq!(caller.prints(&["count", "2"]).await, "2");
    let text = caller.trap(&["trap"]).await;
    let (function, other) = ("demo:link/policy@1.2.0#trap", "linked container policy: ");
    let expected =
        format!("linked container between: {function}: trap: {other}{function}: trap: unreachable");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(caller.prints(&["count", "1"]).await, "1");

    // Who gives up gives up all of it.
    let spec = ContainerSpec { args: vec!["caller".into(), "spin".into()], ..caller.spec.clone() };
    let container = Container::new(&CALLER, spec).unwrap();
    let running = tokio::spawn({
        let container = container.clone();
        async move { container.run().await }
    });
    // A fresh instance has begun to spin, or the one that is kept has: there is no other.
    eventually("the call has begun", || policy.stats().cpu_time > Duration::from_millis(50)).await;
    container.kill();
    assert_eq!(running.await.unwrap(), Exit::Killed);
    eventually("its instances are gone", || {
        policy.stats().instances_live == 0 && between.stats().instances_live == 0
    })
    .await;
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let policy = Plugin::new(&POLICY, ContainerSpec::default()).unwrap();
    let old = Plugin::new(&prepare(coracle_fixtures::link_old()), ContainerSpec::default()).unwrap();
    let refused =
        |links: Vec<Link>| match Container::new(&CALLER, ContainerSpec { links, ..ContainerSpec::default() })
        {
            Err(ContainerError::Link(error)) => error,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("not refused"),
        };
    let error = refused(Vec::new());
    assert_eq!(error.to_string(), "the component imports demo:link/policy@1.2.0, which nobody here provides");

    let error = refused(vec![link(&old, None)]);
    assert!(matches!(&error, LinkError::Mismatch { function, .. } if function == "check"), "{error}");
    assert_eq!(
        error.to_string(),
        "demo:link/policy@1.2.0: the function check is imported as `func(token: string) -> result<record { allowed: \
         bool, reason: option<string> }, string>`, and container policy exports it as `func(token: list<u8>) -> bool`"
    );

    let error = refused(vec![link(&policy, Some("demo:link/police"))]);
    assert!(
        matches!(&error, LinkError::Missing { hint, .. } if hint == "; it is linked to policy"),
        "{error}"
    );
    let error = refused(vec![link(&policy, None), link(&policy, Some("demo:geo/places"))]);
    assert_eq!(
        error.to_string(),
        "container policy is linked for demo:geo/places, and the component imports nothing of that; it imports \
         demo:link/policy@1.2.0"
    );
    let second = Link { container: "other".to_owned(), ..link(&policy, None) };
    let error = refused(vec![link(&policy, None), second]);
    assert!(matches!(error, LinkError::Ambiguous { .. }), "{error}");
}

#[test]
fn what_can_not_cross_is_refused_with_what_can() {
    for (guest, expected) in [
        (
            coracle_fixtures::link_resource(),
            "the component imports demo:things/store@1.0.0, which nobody here provides, and which can't be linked to \
             another container: it has the resource session; a handle means nothing in another sandbox: pass an id of \
             your own in its place",
        ),
        (
            coracle_fixtures::link_later(),
            "the component imports demo:later/answers@1.0.0, which nobody here provides, and which can't be linked to \
             another container: it has an asynchronous function (ask); declare it without async: a call waits for its \
             answer, and only the calling instance with it",
        ),
    ] {
        match ENGINE.prepare_open(&std::fs::read(guest).unwrap()) {
            Err(error @ PrepareError::Unlinkable { .. }) => assert_eq!(error.to_string(), expected),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("not refused"),
        }
    }
}
