//! Containers that are linked, and components that are called by name.

use coracle_types::{ContainerDefinition, ContainerStatus, StopCode, TaskObservation};

use super::node::{Node, end, stop, words};
use crate::testing::{container, definition};

/// A command that is linked to what `link` says.
fn caller(link: &str, command: &[&str]) -> ContainerDefinition {
    let mut caller = ContainerDefinition { command: words(command), ..container("caller", "caller") };
    caller.docker_labels.insert("coracle.link".into(), link.into());
    caller
}

fn policy() -> ContainerDefinition {
    ContainerDefinition { essential: false, ..container("policy", "policy") }
}

/// A task of one component, whose function is called.
fn call(image: &str, function: &[&str], arguments: &[&str]) -> ContainerDefinition {
    ContainerDefinition { entry_point: words(function), command: words(arguments), ..container("job", image) }
}

fn printed(node: &Node, ended: &TaskObservation, container: &str) -> Vec<String> {
    node.logs.read("/ecs/app", &format!("ecs/{container}/{}", ended.task))
}

#[tokio::test]
async fn a_container_calls_another_as_a_function() {
    let mut node = Node::new();
    // The one that is linked to is started first, wherever it stands.
    for link in ["policy", "demo:link/policy=policy", "demo:link/policy@1.2.0 = policy"] {
        let ended = node.run(&definition(vec![caller(link, &["check", "good"]), policy()])).await;
        assert_eq!(stop(&ended).0, StopCode::EssentialContainerExited);
        assert_eq!((end(&ended, 0), end(&ended, 1)), ((Some(0), None), (Some(0), None)));
        assert_eq!(printed(&node, &ended, "caller"), ["Ok(Verdict { allowed: true, reason: None })"]);
    }
}

#[tokio::test]
async fn each_container_has_its_own_environment_and_log() {
    let mut node = Node::new();
    let mut theirs = policy();
    theirs.environment = vec![("SECRET".into(), "theirs".into())];
    let ended = node.run(&definition(vec![caller("policy", &["variable", "SECRET"]), theirs])).await;
    assert_eq!(printed(&node, &ended, "caller"), ["Some(\"theirs\"), and here None"]);
    let ended = node.run(&definition(vec![caller("policy", &["say", "hello"]), policy()])).await;
    assert_eq!(printed(&node, &ended, "policy"), ["hello"]);
}

#[tokio::test]
async fn a_plugin_runs_for_as_long_as_its_task() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![caller("policy", &["sleep", "600000"]), policy()]));
    let running = node.running(task).await;
    assert!(running.containers.iter().all(|container| container.status == ContainerStatus::Running));
    node.stop(task);
    let stopped = node.stopped(task).await;
    assert_eq!((end(&stopped, 0).0, end(&stopped, 1).0), (Some(143), Some(0)));
}

#[tokio::test]
async fn a_trap_in_it_is_the_callers_and_says_where() {
    let mut limited = policy();
    limited.docker_labels.insert("coracle.fuel-per-request".into(), "10000000".into());
    for (function, why) in [("trap", "trap: unreachable"), ("spin", "out of fuel")] {
        let mut node = Node::new();
        let ended = node.run(&definition(vec![caller("policy", &[function]), limited.clone()])).await;
        let (code, reason) = end(&ended, 0);
        let reason = reason.unwrap();
        assert_eq!(code, Some(134));
        let text = format!("linked container policy: demo:link/policy@1.2.0#{function}: {why}");
        assert!(reason.contains(&text), "{reason}");
        assert_eq!(end(&ended, 1), (Some(0), None), "it goes on");
    }
}

#[tokio::test]
async fn links_that_can_not_be_do_not_start() {
    for (containers, why) in [
        (
            vec![caller("policy", &[]), ContainerDefinition { image: "old".into(), ..policy() }],
            "container caller: demo:link/policy@1.2.0: the function check is imported as `func(token: string) -> ",
        ),
        (
            vec![caller("demo:other/thing=policy", &[]), policy()],
            "container caller: the component imports demo:link/policy@1.2.0, which nobody here provides; it is linked \
             to policy",
        ),
        (
            vec![container("caller", "caller")],
            "its label coracle.link names the containers of the task that do",
        ),
        (vec![caller("ghost", &[])], "label coracle.link names container ghost, which is not defined"),
        (vec![caller("caller", &[])], "leads back to itself"),
        (vec![container("policy", "policy")], "the entryPoint of a container may name a function to call"),
    ] {
        let ended = Node::new().run(&definition(containers)).await;
        let (code, reason) = stop(&ended);
        assert_eq!(code, StopCode::TaskFailedToStart, "{reason}");
        assert!(reason.starts_with("CannotStartContainerError: ") && reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_plugin_is_run_by_its_entry_point() {
    let mut node = Node::new();
    for (function, arguments, code, line) in [
        ("add", &["1", "2"][..], 0, Some("3")),
        ("demo:link/policy#check", &["good"], 0, Some(r#"{"ok":{"allowed":true,"reason":null}}"#)),
        ("check", &[""], 1, Some(r#"{"err":"no token"}"#)),
        ("nothing", &[], 0, None),
        ("trap", &[], 134, None),
    ] {
        let ended = node.run(&definition(vec![call("policy", &[function], arguments)])).await;
        assert_eq!(end(&ended, 0).0, Some(code), "{function}");
        if let Some(line) = line {
            assert_eq!(printed(&node, &ended, "job"), [line]);
        }
    }
    // What stands in the entry point behind the function comes first.
    let ended = node.run(&definition(vec![call("policy", &["add", "40"], &["2"])])).await;
    assert_eq!(printed(&node, &ended, "job"), ["42"]);
    let ended = node.run(&definition(vec![call("policy", &["say", "done"], &[])])).await;
    assert_eq!(printed(&node, &ended, "job"), ["done"]);
}

#[tokio::test]
async fn a_call_that_does_not_fit_does_not_start() {
    for (function, arguments, why) in [
        ("subtract", &["1", "2"][..], "no function \"subtract\"; it has demo:link/policy@1.2.0#check, "),
        ("add", &["1"], "takes (a, b), not 1 words"),
        ("add", &["1", "two"], "argument b of demo:link/policy@1.2.0#add: \"two\" is not JSON"),
        (
            "add",
            &["1", "-2"],
            "argument b of demo:link/policy@1.2.0#add: a 64-bit unsigned integer is expected",
        ),
    ] {
        let ended = Node::new().run(&definition(vec![call("policy", &[function], arguments)])).await;
        let (code, reason) = stop(&ended);
        assert_eq!(code, StopCode::TaskFailedToStart, "{reason}");
        assert!(
            reason.starts_with("CannotStartContainerError: container job: ") && reason.contains(why),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_call_is_stopped_as_a_command_is() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![call("policy", &["sleep"], &["600000"])]));
    node.running(task).await;
    node.stop(task);
    assert_eq!(end(&node.stopped(task).await, 0), (Some(143), None));
}
