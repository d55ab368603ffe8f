//! The programs that are measured: Coracle itself, and peers that happen to be installed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// How long a program gets to serve.
const START: Duration = Duration::from_secs(60);

/// A child process that ends with its handle.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The release build of the binary, built if need be.
pub(crate) fn coracle_binary() -> anyhow::Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "coracle"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status()?;
    if !status.success() {
        bail!("the coracle binary does not build");
    }
    // This program stands in the same directory.
    let binary = std::env::current_exe()?.with_file_name("coracle");
    if !binary.exists() {
        bail!("{} is not there after the build", binary.display());
    }
    Ok(binary)
}

/// A program on PATH or in cargo's own directory.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    std::env::split_paths(&path).chain(home).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A running `coracle up`.
pub(crate) struct Coracle {
    _child: Running,
    api: SocketAddr,
    pub(crate) router: SocketAddr,
}

impl Coracle {
    /// Starts one on free ports and waits until it is ready.
    pub(crate) fn start(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let ready = dir.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let child = Command::new(binary)
            .args(["up", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0", "--cpu", "1048576"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()?;
        let child = Running(child);
        let value: Value = poll("coracle up", || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok())?;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let url = value[name].as_str().context("a malformed ready file")?;
            Ok(url.trim_start_matches("http://").parse()?)
        };
        Ok(Self { _child: child, api: address("api")?, router: address("router")? })
    }

    /// Deploys a service of `tasks` tasks with this component, and waits until they run.
    pub(crate) fn deploy(&self, name: &str, component: &Path, tasks: u32) -> anyhow::Result<()> {
        let definition = json!({
            "family": name, "requiresCompatibilities": ["FARGATE"], "cpu": "16384", "memory": "4096",
            "containerDefinitions": [{
                "name": "main", "image": format!("file://{}", component.display()),
                "portMappings": [{ "containerPort": 80 }], "logConfiguration": { "logDriver": "none" },
            }],
        });
        self.ecs("RegisterTaskDefinition", &definition)?;
        let service = json!({ "serviceName": name, "taskDefinition": name, "desiredCount": tasks, "launchType": "FARGATE" });
        self.ecs("CreateService", &service)?;
        poll("the service", || {
            let found = self.ecs("DescribeServices", &json!({ "services": [name] })).ok()?;
            (found["services"][0]["runningCount"] == tasks).then_some(())
        })
    }

    /// Runs so many tasks of one command with these arguments, 256 CPU units each, and waits until they run.
    pub(crate) fn run_tasks(
        &self,
        name: &str,
        component: &Path,
        args: &[&str],
        tasks: u32,
    ) -> anyhow::Result<()> {
        let definition = json!({
            "family": name, "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "64",
            "containerDefinitions": [{
                "name": "main", "image": format!("file://{}", component.display()), "command": args,
            }],
        });
        self.ecs("RegisterTaskDefinition", &definition)?;
        // RunTask starts ten at a time at most.
        for begun in (0..tasks).step_by(10) {
            let count = (tasks - begun).min(10);
            let answer = self.ecs(
                "RunTask",
                &json!({ "taskDefinition": name, "count": count, "launchType": "FARGATE" }),
            )?;
            if answer["failures"] != json!([]) {
                bail!("RunTask: {}", answer["failures"]);
            }
        }
        poll("the tasks", || {
            let found = self.ecs("DescribeClusters", &json!({})).ok()?;
            (found["clusters"][0]["runningTasksCount"].as_u64()? >= u64::from(tasks)).then_some(())
        })
    }

    fn ecs(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let body = body.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nx-amz-target: {target}\r\ncontent-type: application/x-amz-json-1.1\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.api,
            body.len()
        );
        let answer = exchange(self.api, &(head + &body))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a malformed answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{operation}: {body}");
        }
        Ok(serde_json::from_str(body)?)
    }
}

/// `wasmtime serve` with its defaults, on a free port.
pub(crate) fn wasmtime_serve(binary: &Path, component: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let child = Command::new(binary)
        .args(["serve", "-S", "cli", "--addr", &address.to_string()])
        .arg(component)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let child = Running(child);
    poll("wasmtime serve", || {
        exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()
    })?;
    Ok((child, address))
}

/// Sends a request on a connection of its own and reads to its end.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> anyhow::Result<String> {
    use std::io::{Read as _, Write as _};

    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks until there is an answer.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + START;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what} was not there within {} seconds", START.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
