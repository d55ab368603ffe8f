//! OCI runtimes with a ready bundle: what engines start containers with, without the engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::bundle::{Confinement, LIMITS, Limits, config};
use super::native::{Native, Speaks};
use super::{Address, Engine, Place, end_container, new_id};
use crate::cleanup::{self, Directory, Guard};
use crate::peers::find;
use crate::proc::{end_all, family, is_root};
use crate::report::{LeftOut, Row, Side};

/// A runtime as it is called here.
pub(super) struct Oci {
    name: &'static str,
    runtime: Runtime,
    confinement: Confinement,
    limits: Limits,
    /// Whether the program must be reached by a port of the host's, because its sockets are not seen outside.
    by_port: bool,
}

/// Its program, with what comes before a subcommand.
#[derive(Clone)]
struct Runtime {
    binary: PathBuf,
    options: &'static [&'static str],
    /// Where it keeps what it knows of its containers: a place of ours, in memory as its usual one.
    state: Arc<Directory>,
}

impl Runtime {
    fn new(binary: PathBuf, options: &'static [&'static str]) -> anyhow::Result<Self> {
        let state = Directory::new_in(Path::new("/run")).context("no place for its state")?;
        Ok(Self { binary, options, state: Arc::new(state) })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(self.options).arg("--root").arg(self.state.path()).stdin(Stdio::null());
        command
    }

    /// Removes a container, whatever state it is in, and whatever its runtime knows of it.
    fn remove(&self, id: &str, directory: &Path) {
        let mut delete = self.command();
        delete.args(["delete", "--force", id]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = delete.status();
        end_container(id, directory);
        remove_cgroups(id);
        let _ = std::fs::remove_dir_all(self.state.path().join(id));
    }
}

/// How a runtime ends whose container was killed: 128, and the signal's number.
const KILLED: i32 = 128 + 9;

impl Oci {
    /// `crun` with the usual confinement and these limits, if it is there and works. Its containers are reached by a port.
    pub(super) fn limited(limits: Limits) -> anyhow::Result<Self> {
        let binary =
            find("crun").context("not installed; Debian's package crun, which benches/setup.sh installs")?;
        if !is_root() {
            bail!("containers are started as root");
        }
        let runtime = Runtime::new(binary, &[])?;
        let oci = Self { name: "crun", runtime, confinement: Confinement::Usual, limits, by_port: true };
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
        let runtime = match Runtime::new(binary, options) {
            Ok(runtime) => runtime,
            Err(error) => {
                leave_out(name, format!("{error:#}"));
                continue;
            }
        };
        for &confinement in confinements {
            let oci = Oci { name, runtime: runtime.clone(), confinement, limits: LIMITS, by_port };
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
        let output = cleanup::output(&mut place.command())?;
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
            self.runtime.options.join(" "),
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
        // None that containers have in common: who removes an empty one could do so while another is put inside.
        let cgroup = format!("/{id}");
        let directory = Directory::new()?;
        // Before there is a container. It goes before its directory.
        let guard = Guard::new({
            let (runtime, id, path) = (self.runtime.clone(), id.clone(), directory.path().to_owned());
            move || runtime.remove(&id, &path)
        });
        let (bundle, run) = (directory.path().join("bundle"), directory.path().join("run"));
        std::fs::create_dir(&bundle)?;
        std::fs::create_dir(&run)?;
        let by_port = self.by_port || native.speaks == Speaks::Port;
        let address = Address::of(native, &run, by_port)?;
        let environment: Vec<String> =
            address.iter().flat_map(|address| address.environment(Path::new("/run"))).collect();
        let shares_network = by_port && address.is_some();
        let config =
            config(native, &run, &environment, &cgroup, self.confinement, self.limits, shares_network)?;
        std::fs::write(bundle.join("config.json"), config.to_string()).context("cannot write the bundle")?;
        Ok(Box::new(Container {
            runtime: self.runtime.clone(),
            id,
            bundle,
            address,
            _guard: guard,
            directory,
        }))
    }
}

struct Container {
    runtime: Runtime,
    id: String,
    bundle: PathBuf,
    address: Option<Address>,
    // In this order: the container goes before its directory.
    _guard: Guard,
    directory: Directory,
}

impl Place for Container {
    fn command(&self) -> Command {
        let mut command = self.runtime.command();
        command.arg("run").arg("--bundle").arg(&self.bundle).arg(&self.id);
        command
    }

    fn address(&self) -> Option<Address> {
        self.address.clone()
    }

    fn stop(&mut self, started: &mut Child) {
        let kill = || {
            let mut kill = self.runtime.command();
            kill.args(["kill", &self.id, "KILL"]).stdout(Stdio::null()).stderr(Stdio::null());
            kill.status().is_ok_and(|status| status.success())
        };
        // Without a container to kill, the runtime itself is still at it.
        if !kill() {
            let _ = started.kill();
        }
        // A runtime that has seen the container end by KILL, and cleaned up, says so. Else something may be left of
        // it: a name that is taken, or even a program that answers.
        if !started.wait().is_ok_and(|status| status.code() == Some(KILLED)) {
            self.runtime.remove(&self.id, self.directory.path());
        }
        self.address.iter().for_each(Address::clear);
    }

    fn processes(&self, started: &Child) -> Vec<u32> {
        // The runtime itself could have been sent away by --detach.
        family(started.id()).split_off(1)
    }
}

/// Removes what a runtime leaves of a container's cgroups, with whatever still runs in them.
fn remove_cgroups(id: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let cgroup = hierarchy.join(id);
        if is_cgroup(&cgroup) {
            end_all(|| inside(&cgroup));
            // It can be removed when nothing is in it.
            let _ = std::fs::remove_dir(cgroup);
        } else {
            // What a runtime takes for a hierarchy that is not mounted: plain files, with numbers of processes that have
            // gone long since.
            let _ = std::fs::remove_dir_all(cgroup);
        }
    }
}

fn is_cgroup(directory: &Path) -> bool {
    // The numbers of cgroup and cgroup2 in the kernel's list of file systems.
    rustix::fs::statfs(directory).is_ok_and(|system| matches!(system.f_type, 0x0027_e0eb | 0x6367_7270))
}

/// The processes in a cgroup. Runtimes that are started with one of the root's make none within it.
fn inside(cgroup: &Path) -> Vec<u32> {
    let listed = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::{ErrorOutput, Started};
    use crate::proc::{that_see, with_argument};

    const SLEEPER: &str = "fn main() { loop { std::thread::park() } }";

    /// `crun`, unless it starts no container here. Where cgroups of both versions are mounted the test is run again, by
    /// this name, where only one is seen; then there is nothing left to do here.
    fn crun(test: &str) -> Option<Oci> {
        const SEEN: &str = "CORACLE_BENCH_TEST_AGAIN";
        let oci = Oci::limited(LIMITS).ok();
        if oci.is_some() || !Path::new("/sys/fs/cgroup/unified/cgroup.procs").is_file() || !is_root() {
            if oci.is_none() {
                eprintln!("SKIPPED: there is no crun here that starts a container");
            }
            return oci;
        }
        assert!(std::env::var_os(SEEN).is_none(), "it is run again and again");
        let script = "umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"";
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        again.arg(std::env::current_exe().unwrap()).args(["--exact", test]).env(SEEN, "1");
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        None
    }

    /// A container in which a program waits, and the processes inside.
    struct Running {
        started: Started,
        place: Box<dyn Place>,
        id: String,
        inside: Vec<u32>,
    }

    fn running(oci: &Oci, native: &Native) -> Running {
        // What is tested is how containers end. One start was refused once, for a reason that nobody saw: it is said, and
        // another is tried, twice.
        let mut tries = 3;
        loop {
            let error = match try_to_run(oci, native) {
                Ok(running) => return running,
                Err(error) => error,
            };
            tries -= 1;
            assert!(tries > 0, "{error:#}");
            eprintln!("{error:#}");
        }
    }

    fn try_to_run(oci: &Oci, native: &Native) -> anyhow::Result<Running> {
        let place = oci.place(native)?;
        let mut command = place.command();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        let [.., bundle, id] = arguments[..] else { unreachable!() };
        let (id, directory) = (id.to_owned(), Path::new(bundle).parent().unwrap().to_owned());
        let mut errors = ErrorOutput::new()?;
        let stderr = errors.emptied()?;
        let mut started = Started::spawn(command.stdout(Stdio::null()).stderr(stderr))?;
        let name = format!("{}\0", native.command_line()[0]);
        loop {
            let is_it = |pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == name.as_bytes())
            };
            let inside: Vec<u32> = that_see(&directory).into_iter().filter(is_it).collect();
            if !inside.is_empty() {
                return Ok(Running { started, place, id, inside });
            }
            if let Some(status) = started.child().try_wait()? {
                return errors.explain(Err(anyhow::anyhow!("the runtime has ended, {status}")));
            }
            std::thread::yield_now();
        }
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}/root")).exists()
    }

    #[test]
    fn a_runtime_that_is_killed_and_knows_nothing_leaves_nothing() {
        let name = "containers::oci::tests::a_runtime_that_is_killed_and_knows_nothing_leaves_nothing";
        let Some(crun) = crun(name) else { return };
        let native = Native::build("sleeper", SLEEPER, &[], &[], Speaks::Nothing).unwrap();
        let Running { mut started, place, id, inside } = running(&crun, &native);
        // As if it had been killed before it has noted what it has begun.
        started.child().kill().unwrap();
        started.child().wait().unwrap();
        std::fs::remove_dir_all(crun.runtime.state.path().join(&id)).unwrap();
        assert!(inside.iter().all(|pid| exists(*pid)), "the program goes on");
        drop(started);
        drop(place);
        assert!(!inside.iter().any(|pid| exists(*pid)), "{inside:?} are left");
        assert!(with_argument(&id).is_empty());
        let cgroups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let left: Vec<_> = cgroups.map(|one| one.join(&id)).filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_place_is_ready_again_after_a_start_that_was_cut_off() {
        let name = "containers::oci::tests::a_place_is_ready_again_after_a_start_that_was_cut_off";
        let Some(crun) = crun(name) else { return };
        let native =
            Native::build("seven", "fn main() { std::process::exit(7) }", &[], &[], Speaks::Nothing).unwrap();
        let mut place = crun.place(&native).unwrap();
        // At any moment of its start.
        for spins in 0..8 {
            let mut started = Started::spawn(place.command().stderr(Stdio::null())).unwrap();
            for _ in 0..spins * 100_000 {
                std::hint::spin_loop();
            }
            started.child().kill().unwrap();
            place.stop(started.child());
        }
        assert_eq!(place.command().output().unwrap().status.code(), Some(7));
    }
}
