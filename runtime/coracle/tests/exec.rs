//! Commands inside running tasks: `coracle exec`, and `aws ecs execute-command` with a plugin that speaks as AWS's.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use coracle_fixtures as fixtures;
use serde_json::{Value, json};
use support::{Server, coracle, python, text, wait_for};

/// A server with a running task that takes commands, or not.
fn task(server: &Server, enabled: bool) -> String {
    let image = format!("file://{}", fixtures::command().display());
    let definition = server.register(
        "worker",
        json!({
            "name": "main", "image": image, "command": ["sleep-forever"],
            "environment": [{"name": "COLOUR", "value": "green"}],
        }),
    );
    let answer = server.ecs(
        "RunTask",
        &json!({"taskDefinition": definition, "launchType": "FARGATE", "enableExecuteCommand": enabled}),
    );
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    server.wait_task(&arn, "RUNNING");
    arn
}

/// Runs a command with this on its standard input.
fn with_input(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Beside the reading: a command that echoes takes no more than what comes back is read.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    })
}

fn exec(server: &Server, args: &[&str], input: &str) -> Output {
    with_input(coracle().env("AWS_ENDPOINT_URL", &server.api).arg("exec").args(args), input)
}

#[test]
fn coracle_exec_is_like_running_it_here() {
    let server = Server::start(&[]);
    let arn = task(&server, true);
    let run = |args: &[&str]| exec(&server, &[&["--task", &arn, "--"], args].concat(), "");
    let output = run(&["command", "args", "it's", "a \"b\"", ""]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "command\nargs\nit's\na \"b\"\n\n", "{output:?}");
    assert!(output.stderr.is_empty() && output.status.success());
    assert_eq!(run(&["command", "exit", "7"]).status.code(), Some(7));
    assert!(text(&run(&["command", "env"])).contains("COLOUR=green"));
    let output = run(&["command", "lines", "2"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "stderr line 0\nstderr line 1\n", "{output:?}");
    let output = run(&["command", "trap"]);
    assert_eq!(output.status.code(), Some(134), "{output:?}");
    // More than all the buffers on the way together.
    let output = run(&["command", "flood", "200000"]);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 200_000);

    let short = &arn.rsplit('/').next().unwrap()[..12];
    let input = "in\n".repeat(100_000);
    let stdin = ["-i", "--task", short, "--container", "main", "--", "command", "stdin"];
    let output = exec(&server, &stdin, &input);
    assert_eq!(String::from_utf8_lossy(&output.stdout), input);
    assert!(output.status.success(), "{output:?}");

    let output = exec(&server, &["--task", "ffff", "--", "sh"], "");
    assert!(text(&output).contains("no task"), "{output:?}");
    let closed = task(&server, false);
    let output = exec(&server, &["--task", &closed, "--", "sh"], "");
    assert!(text(&output).contains("execute command was not enabled"), "{output:?}");

    // A client that is gone ends its command: otherwise sixteen of them would fill the container.
    let mut waiting: Vec<_> = (0..16)
        .map(|_| {
            let mut command = coracle();
            command
                .env("AWS_ENDPOINT_URL", &server.api)
                .args(["exec", "--task", &arn, "--", "command", "lines", "1"]);
            command.arg("x").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    waiting.iter_mut().for_each(|child| drop((child.kill(), child.wait())));
    wait_for("room for another command", || run(&["command", "exit", "0"]).status.success().then_some(()));

    // Stopping the task ends what runs in it.
    let mut child = coracle()
        .env("AWS_ENDPOINT_URL", &server.api)
        .args(["exec", "--task", &arn, "--", "command", "sleep-forever"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let session = || {
        let log = std::fs::read_to_string(server.path().join("data/audit.jsonl")).unwrap();
        let calls =
            log.lines().filter(|line| line.contains("sleep-forever") && line.contains("ExecuteCommand"));
        (calls.count() > 0).then_some(())
    };
    wait_for("the session to be noted", session);
    // It may not have connected yet: then there is no task to connect to.
    server.ecs("StopTask", &json!({ "task": arn }));
    let status = wait_for("the command to end", || child.try_wait().unwrap());
    assert!(matches!(status.code(), Some(137 | 1)), "{status}");
}

/// A directory with a `session-manager-plugin`.
fn plugin(directory: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/session_manager_plugin.py");
    let program = directory.join("session-manager-plugin");
    let text = format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", python().display(), script.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_aws_cli_has_a_terminal_in_a_task() {
    let server = Server::start(&[]);
    let arn = task(&server, true);
    let described = server.ecs("DescribeTasks", &json!({ "tasks": [arn] }));
    let agent = &described["tasks"][0]["containers"][0]["managedAgents"][0];
    assert_eq!((&agent["name"], &agent["lastStatus"]), (&json!("ExecuteCommandAgent"), &json!("RUNNING")));

    let directory = tempfile::tempdir().unwrap();
    plugin(directory.path());
    let execute = |command: &str, input: &str| {
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let args = ["ecs", "execute-command", "--interactive", "--task", &arn, "--container", "main"];
        let output = with_input(
            Command::new(python())
                .env("PATH", path)
                .env("AWS_ENDPOINT_URL", &server.api)
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .args(["-m", "awscli"])
                .args(args)
                .args(["--command", command]),
            input,
        );
        assert!(output.status.success(), "{}\n{}", text(&output), server.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = execute("command lines 50", "");
    for line in
        ["stdout line 0\r\n", "stderr line 49\r\n", "Starting session with SessionId: ecs-execute-command-"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert!(execute("command exit 3", "").contains("The command ended with exit code 3."));
    assert!(execute("'two words' args", "").contains("two words\r\nargs\r\n"));
    // Lines are echoed, can be corrected, and end with Ctrl-D.
    let said = execute("command stdin", "hellp\x7fo\r\x04");
    assert!(said.contains("hellp\x08 \x08o\r\nhello\r\n"), "{said:?}");
    let said = execute("command sleep-forever", "\x03");
    assert!(said.contains("^C") && said.contains("exit code 130"), "{said:?}");

    let refused: Value =
        serde_json::from_slice(&support::http("GET", &server.api, "/_coracle/exec/x", &[], b"").body)
            .unwrap();
    assert!(refused["message"].as_str().unwrap().contains("WebSocket"), "{refused}");
}
