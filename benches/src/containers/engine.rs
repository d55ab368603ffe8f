//! Container engines: podman, which needs no daemon, and Docker where one answers. Each start makes a container of an
//! image that is there, as people do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, bail};

use super::native::{Native, Speaks};
use super::{Address, Engine, Place, end_container, new_id};
use crate::cleanup::{self, Directory, Guard};
use crate::peers::find;
use crate::proc::{family, is_root};
use crate::report::{LeftOut, Row, Side};

/// What images are called while they are there.
const IMAGE: &str = "localhost/coracle-bench";

/// An engine that answers.
struct Cli {
    name: &'static str,
    /// Its command line up to the subcommand.
    prefix: Vec<String>,
    /// Where it keeps everything, if those are places of ours.
    _stores: Vec<Directory>,
}

/// Every engine that is installed and starts something here.
pub(super) fn find_all(found: &mut Vec<Box<dyn Engine>>, left_out: &mut Vec<LeftOut>) {
    for (name, connect) in [("podman", podman as fn() -> anyhow::Result<Cli>), ("docker", docker)] {
        let tried = connect().and_then(|cli| {
            let cli = Arc::new(cli);
            try_out(&cli)?;
            Ok(cli)
        });
        match tried {
            Ok(cli) => found.push(Box::new(Ready::new(cli))),
            Err(error) => left_out.push(LeftOut { what: name.to_owned(), why: format!("{error:#}") }),
        }
    }
}

/// podman with a store of its own, so that nothing of the user's is touched.
fn podman() -> anyhow::Result<Cli> {
    let binary =
        find("podman").context("not installed; Debian's package podman, which benches/setup.sh installs")?;
    if !is_root() {
        bail!("measured as root only, as the other containers are");
    }
    let (store, state) = (Directory::new()?, Directory::new_in(Path::new("/run"))?);
    let path = |name: &str| store.path().join(name).display().to_string();
    let prefix = [
        binary.display().to_string(),
        "--root".to_owned(),
        path("root"),
        "--runroot".to_owned(),
        path("run"),
        "--tmpdir".to_owned(),
        path("tmp"),
        "--storage-driver=overlay".to_owned(),
        "--cgroup-manager=cgroupfs".to_owned(),
        "--events-backend=none".to_owned(),
        // What its runtime knows of containers; in memory, as its usual place.
        format!("--runtime-flag=root={}", state.path().display()),
    ];
    Ok(Cli { name: "podman", prefix: prefix.into(), _stores: vec![store, state] })
}

fn docker() -> anyhow::Result<Cli> {
    let binary = find("docker").context("not installed; Debian's package docker.io")?;
    let output = cleanup::output(Command::new(&binary).args(["version", "--format", "{{.Server.Version}}"]))?;
    if !output.status.success() {
        bail!("no engine answers: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(Cli { name: "docker", prefix: vec![binary.display().to_string()], _stores: Vec::new() })
}

impl Cli {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.prefix[0]);
        command.args(&self.prefix[1..]).stdin(Stdio::null());
        command
    }

    /// Runs a subcommand to its end. Not for what undoes something: it does not begin while the process is about to end.
    fn call(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = cleanup::output(self.command().args(arguments))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {}", self.name, arguments.join(" "), error.trim());
        }
        Ok(())
    }

    /// Removes something, if it is there.
    fn remove(&self, what: &str, name: &str) {
        let mut remove = self.command();
        let _ = remove.args([what, "--force", name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Starts a program that does nothing but end, with code 7.
fn try_out(cli: &Arc<Cli>) -> anyhow::Result<()> {
    let native = Native::build("seven", "fn main() { std::process::exit(7) }", &[], &[], Speaks::Nothing)?;
    let place = Ready::new(Arc::clone(cli)).place(&native)?;
    let output = cleanup::output(&mut place.command())?;
    if output.status.code() != Some(7) {
        bail!("this machine does not let it: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// An engine with the images it has.
struct Ready {
    cli: Arc<Cli>,
    /// By the root they are of. All containers of a program share one, as they do where people run them.
    images: Mutex<BTreeMap<PathBuf, Weak<Image>>>,
}

/// An image that goes with its last container.
struct Image {
    name: String,
    _guard: Guard,
}

impl Ready {
    fn new(cli: Arc<Cli>) -> Self {
        Self { cli, images: Mutex::default() }
    }

    /// The image of a program, imported if it is not there yet.
    fn image(&self, native: &Native) -> anyhow::Result<Arc<Image>> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&native.root()).and_then(Weak::upgrade) {
            return Ok(image);
        }
        let name = format!("{IMAGE}:{}", new_id());
        let guard = Guard::new({
            let (cli, name) = (Arc::clone(&self.cli), name.clone());
            move || cli.remove("rmi", &name)
        });
        let directory = Directory::new()?;
        let archive = directory.path().join("root.tar");
        let mut tar = Command::new("tar");
        let packed = cleanup::output(tar.arg("-C").arg(native.root()).arg("-cf").arg(&archive).arg("."))?;
        if !packed.status.success() {
            bail!("tar: {}", String::from_utf8_lossy(&packed.stderr).trim());
        }
        self.cli.call(&["import", &archive.display().to_string(), &name])?;
        let image = Arc::new(Image { name, _guard: guard });
        images.insert(native.root(), Arc::downgrade(&image));
        Ok(image)
    }
}

/// What a start is told, beside the image and the program. Where a process may not raise its limits, an engine's
/// default limits are refused; low ones are always allowed.
const RUN: &[&str] = &[
    "run",
    "--rm",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    "--memory=64m",
    "--cpus=1",
    "--pids-limit=64",
];

impl Engine for Ready {
    fn row(&self, native: &Native) -> Row {
        let name = self.cli.name;
        let command = format!("{name} {} {IMAGE} {}", RUN.join(" "), native.command_line().join(" "));
        Row::new(name, name, Side::Peer, command).with_settings(
            "its defaults: seccomp, capabilities; 64 MiB, one CPU, 64 processes; no bridge to set up",
        )
    }

    fn place(&self, native: &Native) -> anyhow::Result<Box<dyn Place>> {
        let cli = Arc::clone(&self.cli);
        let image = self.image(native)?;
        let id = new_id();
        let directory = Directory::new()?;
        // Before there is a container. It goes before its directory.
        let guard = Guard::new({
            let (cli, id, path) = (Arc::clone(&cli), id.clone(), directory.path().to_owned());
            move || {
                cli.remove("rm", &id);
                end_container(&id, &path);
            }
        });
        let run = directory.path().join("run");
        std::fs::create_dir(&run)?;
        let by_port = native.speaks == Speaks::Port;
        let address = Address::of(native, &run, by_port)?;
        let network = if by_port { "host" } else { "none" };
        let mut arguments: Vec<String> = RUN.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.extend([format!("--network={network}"), format!("--name={id}")]);
        arguments.push(format!("--volume={}:/run", run.display()));
        for variable in address.iter().flat_map(|address| address.environment(Path::new("/run"))) {
            arguments.push(format!("--env={variable}"));
        }
        arguments.push(image.name.clone());
        arguments.extend(native.command_line());
        Ok(Box::new(Container {
            cli,
            id,
            arguments,
            address,
            _guard: guard,
            _directory: directory,
            _image: image,
        }))
    }

    fn has_children(&self) -> bool {
        false
    }
}

struct Container {
    cli: Arc<Cli>,
    id: String,
    arguments: Vec<String>,
    address: Option<Address>,
    // In this order: the container goes before its directory and its image.
    _guard: Guard,
    _directory: Directory,
    _image: Arc<Image>,
}

impl Place for Container {
    fn command(&self) -> Command {
        let mut command = self.cli.command();
        command.args(&self.arguments);
        command
    }

    fn address(&self) -> Option<Address> {
        self.address.clone()
    }

    fn stop(&mut self, started: &mut Child) {
        if self.cli.call(&["kill", "--signal=KILL", &self.id]).is_err() {
            let _ = started.kill();
        }
        let _ = started.wait();
        // `--rm` removes it a moment after its client has ended.
        let _ = self.cli.call(&["rm", "--force", &self.id]);
        self.address.iter().for_each(Address::clear);
    }

    fn processes(&self, started: &Child) -> Vec<u32> {
        // The monitor carries the container's name on its command line, and the program is its child. The client is
        // not needed.
        let is_monitor = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&self.id) && *pid != started.id()
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut processes: Vec<u32> = pids.filter(is_monitor).flat_map(family).collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }
}
