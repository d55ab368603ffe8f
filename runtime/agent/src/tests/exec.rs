//! Commands beside running containers.

use bytes::Bytes;
use coracle_types::{
    ContainerDefinition, ExecOutput, LastStatus, MountPoint, TaskDefinition, TaskId, Volume,
};

use super::life::command;
use super::node::{Node, eventually, words};
use crate::testing::{container, definition};
use crate::{ExecError, Execution};

/// A task with a volume, whose container `main` sleeps and takes commands.
async fn sleeping(node: &mut Node) -> TaskId {
    let mount = MountPoint { source_volume: "data".into(), container_path: "/data".into(), read_only: false };
    let main = ContainerDefinition {
        mount_points: vec![mount],
        environment: vec![("COLOUR".to_owned(), "green".to_owned())],
        ..command("main", &["sleep-forever"])
    };
    let mut definition = definition(vec![main]);
    definition.volumes = vec![Volume { name: "data".into(), host_path: None, rest: Default::default() }];
    start(node, &definition).await
}

async fn start(node: &mut Node, definition: &TaskDefinition) -> TaskId {
    let task = node.assign_with(definition, |task| {
        task.rest.insert("enableExecuteCommand".to_owned(), true.into());
    });
    node.running(task).await;
    task
}

fn exec(node: &Node, task: TaskId, argv: &[&str]) -> Result<Execution, ExecError> {
    node.agent.exec(task, &"main".parse().unwrap(), words(argv))
}

/// Everything a command wrote, and its exit code.
async fn end(mut running: Execution) -> (String, String, i32) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match running.output.recv().await.expect("an end comes before silence") {
            ExecOutput::Stdout(bytes) => out.extend(bytes),
            ExecOutput::Stderr(bytes) => err.extend(bytes),
            ExecOutput::Exit(code) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return (text(&out), text(&err), code);
            }
        }
    }
}

async fn run(node: &Node, task: TaskId, argv: &[&str]) -> (String, String, i32) {
    end(exec(node, task, argv).unwrap()).await
}

#[tokio::test]
async fn a_command_has_the_containers_surroundings_and_arguments_of_its_own() {
    let mut node = Node::new();
    let task = sleeping(&mut node).await;
    let text = |text: &str| text.to_owned();
    assert_eq!(
        run(&node, task, &["command", "args", "a b"]).await,
        (text("command\nargs\na b\n"), text(""), 0)
    );
    assert_eq!(run(&node, task, &["command", "exit", "7"]).await, (text(""), text(""), 7));
    let (environment, _, _) = run(&node, task, &["command", "env"]).await;
    assert!(environment.contains("COLOUR=green") && environment.contains("CORACLE_TASK_ID"), "{environment}");
    assert_eq!(run(&node, task, &["command", "write", "/data/note", "hello"]).await.2, 0);
    assert_eq!(run(&node, task, &["command", "cat", "/data/note"]).await.0, "hello");
    let private = node.directory.path().join("volumes").join(task.to_string());
    assert_eq!(std::fs::read_to_string(private.join("data/note")).unwrap(), "hello");
    let (_, said, code) = run(&node, task, &["command", "trap"]).await;
    assert!(said.contains("trap: unreachable") && code == 134, "{said} {code}");
    // A memory limit is the container's: 512 MiB for both together.
    let (_, said, code) = run(&node, task, &["command", "hog"]).await;
    assert!(said.contains("OutOfMemoryError") && code == 137, "{said} {code}");
    node.reports(task);
    assert_eq!(node.walk(task).last(), Some(&LastStatus::Running), "only the command was hurt");
}

#[tokio::test]
async fn input_goes_in_and_ends() {
    let mut node = Node::new();
    let task = sleeping(&mut node).await;
    let running = exec(&node, task, &["command", "stdin"]).unwrap();
    let Execution { input, mut output } = running;
    input.send(Bytes::from_static(b"one\n")).await.unwrap();
    assert_eq!(output.recv().await.unwrap(), ExecOutput::Stdout(b"one\n".to_vec()), "before the input ends");
    input.send(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
    drop(input);
    let (silent, _) = tokio::sync::mpsc::channel(1);
    let (rest, _, code) = end(Execution { input: silent, output }).await;
    assert_eq!((rest.len(), code), (100_000, 0));
}

#[tokio::test]
async fn who_does_not_read_makes_the_command_wait_and_who_goes_ends_it() {
    let mut node = Node::new();
    let task = sleeping(&mut node).await;
    let mut flood = exec(&node, task, &["command", "flood"]).unwrap();
    assert!(matches!(flood.output.recv().await, Some(ExecOutput::Stdout(_))));
    let mut sleeping: Vec<_> =
        (0..15).map(|_| exec(&node, task, &["command", "sleep-forever"]).unwrap()).collect();
    let full = || exec(&node, task, &["command", "env"]).map(drop) == Err(ExecError::TooMany);
    assert!(full());
    drop(flood);
    eventually("the flood has ended", || !full()).await;
    sleeping.clear();
}

#[tokio::test]
async fn a_command_ends_with_its_container() {
    let mut node = Node::new();
    let task = sleeping(&mut node).await;
    let running = exec(&node, task, &["command", "sleep-forever"]).unwrap();
    node.stop(task);
    let (_, said, code) = end(running).await;
    assert!(said.contains("the container has ended") && code == 137, "{said} {code}");
    node.stopped(task).await;
    assert_eq!(exec(&node, task, &["command", "env"]).unwrap_err(), ExecError::NotRunning);
}

#[tokio::test]
async fn only_what_takes_commands_and_has_them_runs_them() {
    let mut node = Node::new();
    let task = start(&mut node, &definition(vec![container("main", "http")])).await;
    let refused = exec(&node, task, &["sh"]).unwrap_err().to_string();
    assert!(refused.contains("exports no wasi:cli/run") && refused.contains("sh"), "{refused}");
    assert_eq!(
        node.agent.exec(task, &"other".parse().unwrap(), words(&["sh"])).unwrap_err(),
        ExecError::NotRunning
    );
    let closed = node.assign(&definition(vec![command("main", &["sleep-forever"])]));
    node.running(closed).await;
    assert_eq!(exec(&node, closed, &["command", "env"]).unwrap_err(), ExecError::NotRunning);
}

#[tokio::test]
async fn a_function_is_called_by_its_name() {
    let mut node = Node::new();
    let plugin = ContainerDefinition {
        entry_point: words(&["sleep"]),
        command: words(&["600000"]),
        environment: vec![("COLOUR".to_owned(), "green".to_owned())],
        ..container("main", "policy")
    };
    let task = start(&mut node, &definition(vec![plugin])).await;
    let text = |text: &str| text.to_owned();
    assert_eq!(run(&node, task, &["add", "2", "40"]).await, (text("42\n"), text(""), 0));
    let whole = "demo:link/policy@1.2.0#variable";
    assert_eq!(run(&node, task, &[whole, "COLOUR"]).await, (text("\"green\"\n"), text(""), 0));
    assert_eq!(
        run(&node, task, &["say", "it is text"]).await.0,
        "it is text\n",
        "what it prints is the session's"
    );
    let (_, said, code) = run(&node, task, &["trap"]).await;
    assert!(said.contains("trap") && code == 134, "{said} {code}");
    for (argv, why) in [
        (&["add", "2"][..], "takes (a, b)"),
        (&["add", "two", "40"], "two"),
        (&["subtract", "2", "1"], "subtract"),
    ] {
        let refused = exec(&node, task, argv).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}
