//! The programs that are measured: Coracle itself, and peers that happen to be installed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cleanup::{self, Guard};

/// How long a program gets to serve.
const START: Duration = Duration::from_secs(60);

/// A process that ends with its handle, or when the run is interrupted; with its workers, if it has some.
pub struct Running {
    child: Child,
    // Last of all: it is ended by the guard if it has not been before.
    guard: Option<Guard>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let (child, guard) = cleanup::spawn(command)?;
        Ok(Self { child, guard: Some(guard) })
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it writes, if that was piped and has not been taken yet.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended by its guard, it only has to be heard of.
        self.guard.take();
        let _ = self.child.wait();
    }
}

/// The sources this program was built from, if they are still there.
pub(crate) fn sources() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("runtime/coracle/Cargo.toml").is_file().then(|| root.to_owned())
}

/// The `coracle` that stands beside this program, brought up to date first if the sources are there.
///
/// # Errors
/// If there is none.
pub fn coracle_binary() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    // A test program stands in a directory below.
    let directory = this.parent().context("it is in a directory")?;
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let binary = directory.join("coracle");
    // A debug build is a test's, and cargo has just made it.
    if let Some(sources) = sources()
        && !(cfg!(debug_assertions) && binary.exists())
    {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // The same selection of packages as everywhere, the workspace's default: another one would have other
        // features, and compile wasmtime again.
        build.args(["build", "--quiet", "--bin", "coracle"]).current_dir(sources);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        // What cargo has told this program of its package: ring's build script looks at that, and would have most of ours
        // compiled anew.
        for (name, _) in std::env::vars_os() {
            let of_package =
                |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(of_package) {
                build.env_remove(name);
            }
        }
        match cleanup::output(&mut build) {
            Ok(output) if !output.status.success() => {
                bail!("the coracle binary does not build: {}", String::from_utf8_lossy(&output.stderr).trim())
            }
            Ok(_) => {}
            Err(error) if binary.exists() => eprintln!("cargo: {error}; {} may be old", binary.display()),
            Err(error) => bail!("cannot run cargo to build the coracle binary: {error}"),
        }
    }
    if !binary.exists() {
        bail!("{} is not there: install it beside this program", binary.display());
    }
    Ok(binary)
}

/// A program on PATH, in cargo's own directory, or where Debian puts daemons.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(home)
        .chain(daemons)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A running `coracle up`.
pub(crate) struct Coracle {
    pub(crate) process: Running,
    pub(crate) api: SocketAddr,
    pub(crate) router: SocketAddr,
}

impl Coracle {
    /// Starts one on free ports and waits until it is ready.
    pub(crate) fn start(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let ready = dir.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(binary);
        command
            .args(["up", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"])
            // Room for any number of tasks: it is only what the scheduler counts with.
            .args(["--cpu", "1048576", "--memory", "1048576"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null());
        let child = Running::spawn(&mut command)?;
        let value: Value = poll("coracle up", || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok())?;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let url = value[name].as_str().context("a malformed ready file")?;
            Ok(url.trim_start_matches("http://").parse()?)
        };
        Ok(Self { process: child, api: address("api")?, router: address("router")? })
    }

    /// Registers a task definition of one container, without logs.
    pub(crate) fn register(
        &self,
        family: &str,
        component: &Path,
        args: &[&str],
        cpu: &str,
        memory: &str,
    ) -> anyhow::Result<()> {
        let quiet = json!({ "logDriver": "none" });
        self.register_with(family, component, args, (cpu, memory), &quiet, &[])
    }

    /// The log group of tasks with logs; their streams begin with `bench/main/`.
    pub(crate) const LOG_GROUP: &'static str = "bench";

    /// The same, with logs.
    pub(crate) fn register_logging(
        &self,
        family: &str,
        component: &Path,
        args: &[&str],
        cpu: &str,
        memory: &str,
    ) -> anyhow::Result<()> {
        let logs = json!({ "logDriver": "awslogs", "options": {
            "awslogs-group": Self::LOG_GROUP, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "bench",
            "awslogs-create-group": "true",
        }});
        self.register_with(family, component, args, (cpu, memory), &logs, &[])
    }

    fn register_with(
        &self,
        family: &str,
        component: &Path,
        args: &[&str],
        (cpu, memory): (&str, &str),
        logs: &Value,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let definition = json!({
            "family": family, "requiresCompatibilities": ["FARGATE"], "cpu": cpu, "memory": memory,
            "containerDefinitions": [{
                "name": "main", "image": format!("file://{}", component.display()), "command": args,
                "portMappings": [{ "containerPort": 80 }], "logConfiguration": logs, "dockerLabels": labels,
            }],
        });
        self.ecs("RegisterTaskDefinition", &definition).map(drop)
    }

    /// Deploys a service of `tasks` tasks with this component, and waits until they run.
    pub(crate) fn deploy(&self, name: &str, component: &Path, tasks: u32) -> anyhow::Result<()> {
        self.deploy_labelled(name, component, tasks, &[])
    }

    /// The same with labels for its container.
    pub(crate) fn deploy_labelled(
        &self,
        name: &str,
        component: &Path,
        tasks: u32,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let quiet = json!({ "logDriver": "none" });
        self.register_with(name, component, &[], ("16384", "4096"), &quiet, labels)?;
        let service = json!({ "serviceName": name, "taskDefinition": name, "desiredCount": tasks, "launchType": "FARGATE" });
        self.ecs("CreateService", &service)?;
        poll("the service", || {
            let found = self.ecs("DescribeServices", &json!({ "services": [name] })).ok()?;
            (found["services"][0]["runningCount"] == tasks).then_some(())
        })
    }

    /// Calls an operation of ECS.
    pub(crate) fn ecs(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(&format!("AmazonEC2ContainerServiceV20141113.{operation}"), body)
    }

    /// Calls the API, on a connection of its own.
    pub(crate) fn call(&self, target: &str, body: &Value) -> anyhow::Result<Value> {
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
            bail!("{target}: {body}");
        }
        Ok(serde_json::from_str(body)?)
    }
}

/// `wasmtime serve` with its defaults, on a free port.
pub(crate) fn wasmtime_serve(binary: &Path, component: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    wasmtime_serve_with(binary, component, &[])
}

/// The same with more options.
pub(crate) fn wasmtime_serve_with(
    binary: &Path,
    component: &Path,
    options: &[&str],
) -> anyhow::Result<(Running, SocketAddr)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(binary);
    command
        .args(["serve", "-S", "cli", "--addr", &address.to_string()])
        .args(options)
        .arg(component)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = Running::spawn(&mut command)?;
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
