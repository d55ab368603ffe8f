//! OCI runtimes with a ready bundle: what engines start containers with, without the engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use super::bundle::{Confinement, LIMITS, Limits, config};
use super::native::{Native, Speaks};
use super::{Address, Engine, Place, new_id};
use crate::cleanup::{Directory, Guard};
use crate::peers::find;
use crate::proc::{family, is_root};
use crate::report::{LeftOut, Row, Side};

/// A runtime as it is called here.
pub(super) struct Oci {
    name: &'static str,
    binary: PathBuf,
    /// What comes before the subcommand.
    options: &'static [&'static str],
    confinement: Confinement,
    limits: Limits,
    /// Whether the program must be reached by a port of the host's, because its sockets are not seen outside.
    by_port: bool,
}

/// How a runtime ends whose container was killed: 128, and the signal's number.
const KILLED: i32 = 128 + 9;

/// The directory in every hierarchy that all containers of ours are in.
const CGROUP: &str = "coracle-bench";

impl Oci {
    /// `crun` with the usual confinement and these limits, if it is there and works. Its containers are reached by a port.
    pub(super) fn limited(limits: Limits) -> anyhow::Result<Self> {
        let binary =
            find("crun").context("not installed; Debian's package crun, which benches/setup.sh installs")?;
        if !is_root() {
            bail!("containers are started as root");
        }
        let confinement = Confinement::Usual;
        let oci = Self { name: "crun", binary, options: &[], confinement, limits, by_port: true };
        oci.try_out().context("this machine does not let it")?;
        Ok(oci)
    }

    fn label(&self) -> String {
        match (self.name, self.confinement) {
            ("runsc", _) => "gVisor".to_owned(),
            (name, Confinement::Bare) => format!("{name}, bare"),
            (name, Confinement::Usual) => format!("{name}, seccomp + limits"),
        }
    }
}

/// Every runtime that is installed and starts something here.
pub(super) fn find_all(found: &mut Vec<Box<dyn Engine>>, left_out: &mut Vec<LeftOut>) {
    for (name, options, confinements, by_port) in [
        ("crun", &[][..], &[Confinement::Bare, Confinement::Usual][..], false),
        ("runc", &[][..], &[Confinement::Bare, Confinement::Usual][..], false),
        (
            "runsc",
            &["--platform=ptrace", "--network=host", "--ignore-cgroups"][..],
            &[Confinement::Bare][..],
            true,
        ),
    ] {
        let mut leave_out = |what: &str, why: String| left_out.push(LeftOut { what: what.to_owned(), why });
        let Some(binary) = find(name) else {
            leave_out(
                name,
                format!("not installed; Debian's package {name}, which benches/setup.sh installs"),
            );
            continue;
        };
        if !is_root() {
            leave_out(
                name,
                "containers are started as root; run `coracle bench` as root to measure them".to_owned(),
            );
            continue;
        }
        for &confinement in confinements {
            let oci = Oci { name, binary: binary.clone(), options, confinement, limits: LIMITS, by_port };
            match oci.try_out() {
                Ok(()) => found.push(Box::new(oci)),
                Err(error) => leave_out(&oci.label(), format!("this machine does not let it: {error:#}")),
            }
        }
    }
}

impl Oci {
    /// Starts a program that does nothing but end, with code 7.
    fn try_out(&self) -> anyhow::Result<()> {
        let source = "fn main() { std::process::exit(7) }";
        let native = Native::build("seven", source, &[], &[], Speaks::Nothing)?;
        let place = self.place(&native)?;
        let output = place.command().output()?;
        if output.status.code() != Some(7) {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Engine for Oci {
    fn row(&self, native: &Native) -> Row {
        let id = match (self.name, self.confinement) {
            ("runsc", _) => "gvisor".to_owned(),
            (name, Confinement::Bare) => format!("{name}-bare"),
            (name, Confinement::Usual) => name.to_owned(),
        };
        let command = format!(
            "{} {} run --bundle <ready bundle of {}> <id>",
            self.name,
            self.options.join(" "),
            native.command_line().join(" ")
        );
        let settings = match (self.name, self.confinement) {
            ("runsc", _) => "platform ptrace, no cgroups, the host's network".to_owned(),
            (_, Confinement::Bare) => {
                "pid, ipc, uts, mount and network namespaces, /proc and /dev; nothing else".to_owned()
            }
            (_, Confinement::Usual) => format!(
                "podman's default seccomp profile and capabilities, masked paths, {} MiB, {} % of a CPU, 64 processes",
                self.limits.memory_mib, self.limits.cpu_percent
            ),
        };
        Row::new(id, self.label(), Side::Peer, command.replace("  ", " ")).with_settings(settings)
    }

    fn place(&self, native: &Native) -> anyhow::Result<Box<dyn Place>> {
        let id = new_id();
        let cgroup = format!("/{CGROUP}/{id}");
        // Before anything is there, and dropped last of all.
        let guard = Guard::new({
            let (binary, options, id) = (self.binary.clone(), self.options, id.clone());
            move || {
                delete(&binary, options, &id);
                remove_cgroups(&id);
            }
        });
        let directory = Directory::new()?;
        let (bundle, run) = (directory.path().join("bundle"), directory.path().join("run"));
        std::fs::create_dir_all(&bundle)?;
        std::fs::create_dir_all(&run)?;
        let by_port = self.by_port || native.speaks == Speaks::Port;
        let address = Address::of(native, &run, by_port)?;
        let environment: Vec<String> =
            address.iter().flat_map(|address| address.environment(Path::new("/run"))).collect();
        let shares_network = by_port && address.is_some();
        let config =
            config(native, &run, &environment, &cgroup, self.confinement, self.limits, shares_network)?;
        std::fs::write(bundle.join("config.json"), config.to_string()).context("cannot write the bundle")?;
        Ok(Box::new(Container {
            binary: self.binary.clone(),
            options: self.options,
            id,
            bundle,
            address,
            _directory: directory,
            _guard: guard,
        }))
    }
}

struct Container {
    binary: PathBuf,
    options: &'static [&'static str],
    id: String,
    bundle: PathBuf,
    address: Option<Address>,
    // In this order: the container goes before its directory.
    _guard: Guard,
    _directory: Directory,
}

impl Place for Container {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(self.options)
            .arg("run")
            .arg("--bundle")
            .arg(&self.bundle)
            .arg(&self.id)
            .stdin(Stdio::null());
        command
    }

    fn address(&self) -> Option<Address> {
        self.address.clone()
    }

    fn stop(&mut self, started: &mut Child) {
        let kill = || {
            let mut kill = Command::new(&self.binary);
            kill.args(self.options)
                .args(["kill", &self.id, "KILL"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            kill.status().is_ok_and(|status| status.success())
        };
        // Without a container to kill, the runtime itself is still at it.
        if !kill() {
            let _ = started.kill();
        }
        // A runtime that has seen the container end by KILL, and cleaned up, says so. Else something may be left of
        // it: a name that is taken, or even a program that answers.
        if !started.wait().is_ok_and(|status| status.code() == Some(KILLED)) {
            delete(&self.binary, self.options, &self.id);
        }
        self.address.iter().for_each(Address::clear);
    }

    fn processes(&self, started: &Child) -> Vec<u32> {
        // The runtime itself could have been sent away by --detach.
        family(started.id()).split_off(1)
    }
}

/// Removes a container, whatever state it is in.
fn delete(binary: &Path, options: &[&str], id: &str) {
    let mut delete = Command::new(binary);
    delete.args(options).args(["delete", "--force", id]);
    let _ = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Removes what a runtime leaves of a container's cgroups, and the directory around them when it is empty.
fn remove_cgroups(id: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let around = hierarchy.join(CGROUP);
        // A cgroup can be removed when nothing is in it; the last one takes the directory along.
        let _ = std::fs::remove_dir(around.join(id));
        let _ = std::fs::remove_dir(around);
    }
}
