//! What the whole-program tests share: the real binary on free ports with a directory of its own, the
//! official clients from PyPI, and waiting for a condition with a deadline.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

pub mod built;
pub mod load;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test gives up. Generous: the machines are small and shared,
/// and the first start of a guest compiles it.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives something, and fails with `what` when the deadline has passed.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The official AWS CLI and boto3, installed once from PyPI below the target directory.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        use rustix::fs::{FlockOperation, flock};

        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aws-clients");
        std::fs::create_dir_all(&root).unwrap();
        // Test binaries run at the same time; one of them installs.
        let lock = std::fs::File::create(root.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let python = root.join("bin/python");
        if !root.join("installed").exists() {
            let made = run(Command::new("python3").args(["-m", "venv"]).arg(&root));
            assert!(made.status.success(), "python3 -m venv failed; Python 3 with venv is needed: {made:?}");
            let installed = run(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "awscli>=1.46,<2",
                "boto3>=1.43,<2",
            ]));
            assert!(installed.status.success(), "pip could not install the AWS clients: {installed:?}");
            std::fs::write(root.join("installed"), "").unwrap();
        }
        python
    })
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// The output's text, standard error included.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A `coracle` command, away from this machine's AWS settings.
pub fn coracle() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    clean(&mut command);
    command
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours =
            name.to_string_lossy().starts_with("AWS_") || name.to_string_lossy().starts_with("CORACLE_");
        if ours {
            command.env_remove(name);
        }
    }
}

/// A running `coracle up`.
pub struct Server {
    child: Child,
    pub api: String,
    pub router: String,
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Server {
    /// Starts one in a directory of its own, offering plenty.
    pub fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(dir.path(), args);
        server.dir = Some(dir);
        server
    }

    /// Starts one in a given directory and waits until it is ready.
    pub fn start_in(dir: &Path, args: &[&str]) -> Self {
        let ready = dir.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options().create(true).append(true).open(dir.join("coracle.log")).unwrap();
        let mut child = coracle()
            .args([
                "up",
                "--api",
                "127.0.0.1:0",
                "--router",
                "127.0.0.1:0",
                "--cpu",
                "65536",
                "--memory",
                "65536",
            ])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .args(args)
            .stdout(std::fs::File::create(dir.join("coracle.out")).unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready: Value = wait_for("coracle to be ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "coracle ended with {status}: {}",
                    std::fs::read_to_string(dir.join("coracle.log")).unwrap()
                );
            }
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        });
        let url = |name: &str| ready[name].as_str().unwrap().to_owned();
        assert_eq!(ready["pid"], child.id());
        Self { api: url("api"), router: url("router"), child, dir: None, path: dir.to_owned() }
    }

    /// The directory it runs in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it as a crash would.
    pub fn kill_9(mut self) -> Option<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.dir.take()
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_for("coracle to stop", || self.child.try_wait().unwrap())
    }

    /// What it said on standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path.join("coracle.log")).unwrap_or_default()
    }

    /// What it said on standard output since it was last started.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.path.join("coracle.out")).unwrap_or_default()
    }

    /// Calls an ECS operation without a client in between; for waiting.
    #[track_caller]
    pub fn ecs(&self, operation: &str, body: &Value) -> Value {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
        let answer = http("POST", &self.api, "/", &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Runs the official CLI and gives what it printed.
    #[track_caller]
    pub fn aws(&self, args: &[&str]) -> Value {
        let output = self.aws_output(args);
        assert!(output.status.success(), "aws {args:?}: {}\n{}", text(&output), self.log());
        if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
    }

    /// Runs the official CLI, which must fail, and gives what it said.
    #[track_caller]
    pub fn aws_fails(&self, args: &[&str]) -> String {
        let output = self.aws_output(args);
        assert!(!output.status.success(), "aws {args:?} should have failed: {}", text(&output));
        text(&output)
    }

    fn aws_output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(python());
        self.environment(&mut command);
        run(command.args(["-m", "awscli", "--output", "json"]).args(args))
    }

    /// Runs a Python program that uses boto3; it must succeed.
    #[track_caller]
    pub fn boto3(&self, script: &str, args: &[&OsStr]) -> String {
        let mut command = Command::new(python());
        self.environment(&mut command);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
        let output = run(command.arg(script).args(args));
        assert!(output.status.success(), "{}\n{}", text(&output), self.log());
        text(&output)
    }

    /// Runs one of `coracle`'s own client commands against it.
    pub fn coracle(&self, args: &[&str]) -> Output {
        let mut command = coracle();
        self.environment(&mut command);
        run(command.args(args))
    }

    /// Puts a component into its registry.
    #[track_caller]
    pub fn push(&self, path: &Path, reference: &str) {
        let output = self.coracle(&["push", path.to_str().unwrap(), reference]);
        assert!(output.status.success(), "{}", text(&output));
    }

    fn environment(&self, command: &mut Command) {
        clean(command);
        command
            .env("AWS_ENDPOINT_URL", &self.api)
            .env("CORACLE_TEST_ROUTER", &self.router)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    }

    /// Waits until a service of the default cluster runs what it should and nothing else.
    #[track_caller]
    pub fn wait_stable(&self, service: &str) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            last = self.ecs("DescribeServices", &json!({ "services": [service] }))["services"][0].take();
            let deployments = last["deployments"].as_array().map_or(0, Vec::len);
            if deployments == 1 && last["runningCount"] == last["desiredCount"] && last["pendingCount"] == 0 {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{service} did not become stable: {last:#}\n{}", self.log());
    }

    /// Waits until a task of the default cluster has a state, and gives its description.
    #[track_caller]
    pub fn wait_task(&self, arn: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            last = self.ecs("DescribeTasks", &json!({ "tasks": [arn] }))["tasks"][0].take();
            if last["lastStatus"] == status {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{arn} did not become {status}: {last:#}\n{}", self.log());
    }

    /// Registers a definition of one container with this image.
    #[track_caller]
    pub fn register(&self, family: &str, container: Value) -> String {
        let mut container = container;
        container["name"].is_null().then(|| container["name"] = json!("main"));
        let definition = json!({
            "family": family, "requiresCompatibilities": ["FARGATE"],
            "cpu": "1024", "memory": "256", "containerDefinitions": [container],
        });
        let answer = self.ecs("RegisterTaskDefinition", &definition);
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned()
    }

    /// Runs one task and gives its ARN.
    #[track_caller]
    pub fn run_task(&self, definition: &str, overrides: &Value) -> String {
        let mut body =
            json!({ "taskDefinition": definition, "overrides": overrides, "launchType": "FARGATE" });
        self.add_network(&mut body);
        let answer = self.ecs("RunTask", &body);
        assert_eq!(answer["failures"], json!([]), "{answer:#}");
        answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned()
    }

    /// Makes a service in the default cluster and waits until it runs.
    #[track_caller]
    pub fn create_service(&self, name: &str, definition: &str, desired: u32) {
        let mut body = json!({
            "serviceName": name, "taskDefinition": definition, "desiredCount": desired, "launchType": "FARGATE",
        });
        self.add_network(&mut body);
        self.ecs("CreateService", &body);
        self.wait_stable(name);
    }

    /// Adds a network to a request whose task definition asks for one, as ECS wants it.
    #[track_caller]
    fn add_network(&self, body: &mut Value) {
        let asked = json!({ "taskDefinition": body["taskDefinition"] });
        if self.ecs("DescribeTaskDefinition", &asked)["taskDefinition"]["networkMode"] == "awsvpc" {
            body["networkConfiguration"] = json!({ "awsvpcConfiguration": { "subnets": ["subnet-local"] } });
        }
    }

    /// Sends a request to a service of the default cluster through the router.
    #[track_caller]
    pub fn get(&self, service: &str, path: &str) -> Answer {
        let host = format!("{service}.default.localhost");
        http("GET", &self.router, path, &[("host", &host)], b"")
    }

    /// All messages of a log group, in order.
    #[track_caller]
    pub fn log_messages(&self, group: &str) -> Vec<String> {
        let mut body = json!({ "logGroupName": group });
        let mut messages = Vec::new();
        loop {
            let headers = [
                ("x-amz-target", "Logs_20140328.FilterLogEvents"),
                ("content-type", "application/x-amz-json-1.1"),
            ];
            let answer = http("POST", &self.api, "/", &headers, body.to_string().as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page: Value = serde_json::from_slice(&answer.body).unwrap();
            let events = page["events"].as_array().unwrap();
            messages.extend(events.iter().map(|event| event["message"].as_str().unwrap().to_owned()));
            match page.get("nextToken") {
                Some(Value::String(token)) => body["nextToken"] = json!(token),
                _ => return messages,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an HTTP server answered.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One HTTP/1.1 request on a connection of its own.
#[track_caller]
pub fn http(method: &str, url: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_http(method, url, path, headers, body).unwrap_or_else(|error| panic!("{method} {url}{path}: {error}"))
}

/// The same, for when it may fail.
pub fn try_http(
    method: &str,
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut raw = Vec::new();
    std::thread::scope(|scope| {
        // An answer may begin before the whole body is sent, and then wants to be read.
        let mut sink = stream.try_clone()?;
        let sent = scope.spawn(move || sink.write_all(body));
        let read = stream.read_to_end(&mut raw);
        let sent = sent.join().expect("writing does not panic");
        // Who has answered need not have read all of it.
        if raw.is_empty() { sent.and(read.map(drop)) } else { read.map(drop) }
    })?;
    let broken = || std::io::Error::other(format!("broken answer: {:?}", String::from_utf8_lossy(&raw)));
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let rest = &raw[end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { dechunk(rest).ok_or_else(broken)? } else { rest.to_vec() };
    Ok(Answer { status, head, body })
}

/// Puts a chunked body together; None if it was cut off.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
