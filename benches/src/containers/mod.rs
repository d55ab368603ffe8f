//! The ways a program for this machine is started: as a process, by an OCI runtime with a ready bundle, by an engine.
//!
//! Each is tried once before it is measured. What this machine does not allow is left out, with what it said.

mod bundle;
mod density;
mod engine;
mod native;
mod neighbours;
mod oci;
mod process;
mod seccomp;

use std::fs::File;
use std::io::Seek as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

pub use density::density;
pub(crate) use native::compile;
pub use native::{Native, Speaks};
pub(crate) use neighbours::Neighbours;
pub(crate) use process::Process;

use crate::cleanup::{self, Guard};
use crate::proc::{end_all, that_see, with_argument};
use crate::report::{LeftOut, Row};

/// A way to start a program.
pub(crate) trait Engine: Send + Sync {
    /// How it is shown.
    fn row(&self, native: &Native) -> Row;

    /// Makes a place ready in which the program can be started, over and over, one at a time.
    fn place(&self, native: &Native) -> anyhow::Result<Box<dyn Place>>;

    /// Whether what it starts are children of this process, so that their CPU time is known.
    fn has_children(&self) -> bool {
        true
    }
}

/// Where a program can be started, see [`Engine::place`]. Everything goes with it.
pub(crate) trait Place: Send + Sync {
    /// What starts the program, to be spawned as it is.
    fn command(&self) -> Command;

    /// Where it will answer, if it serves.
    fn address(&self) -> Option<Address>;

    /// Ends what was started, waits until it is gone, and makes the place ready again.
    fn stop(&mut self, started: &mut Child);

    /// The processes that are there for the program while it runs.
    fn processes(&self, started: &Child) -> Vec<u32>;
}

/// A process that was started in a place. It ends with its handle, and when the run is interrupted, together with those of
/// its group; a container that it has begun is its place's affair.
pub(crate) struct Started {
    child: Child,
    guard: Option<Guard>,
}

impl Started {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let spawned = cleanup::spawn(command);
        let (child, guard) =
            spawned.with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self { child, guard: Some(guard) })
    }

    /// The process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.guard.take();
            let _ = self.child.wait();
        } else {
            // Its number may be somebody else's by now.
            self.guard.take().into_iter().for_each(Guard::disarm);
        }
    }
}

/// What a program, or what starts it, writes to standard error: kept to be shown if it fails. A file, so that nobody has
/// to read along, and nobody waits for a reader.
pub(crate) struct ErrorOutput(File);

impl ErrorOutput {
    /// How much is shown, in bytes.
    const SHOWN: u64 = 2000;

    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempfile().context("no file for standard error")?))
    }

    /// For a program that is about to be started; what the last one wrote is gone.
    pub(crate) fn emptied(&mut self) -> anyhow::Result<Stdio> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        Ok(self.0.try_clone()?.into())
    }

    /// The result, with what was written if it is an error.
    pub(crate) fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.map_err(|error| {
            let written = self.written();
            if written.is_empty() { error } else { anyhow::anyhow!("{error:#}: {written}") }
        })
    }

    /// The end of what was written, in one line.
    fn written(&self) -> String {
        let length = self.0.metadata().map_or(0, |metadata| metadata.len());
        let mut end = Vec::new();
        let mut buffer = [0; 256];
        let mut at = length.saturating_sub(Self::SHOWN);
        // At an offset: the file's own one is the writer's.
        while let Ok(read) = self.0.read_at(&mut buffer, at)
            && read > 0
        {
            end.extend_from_slice(&buffer[..read]);
            at += read as u64;
        }
        let lines: Vec<String> =
            String::from_utf8_lossy(&end).lines().map(|line| line.trim().to_owned()).collect();
        lines.join(" / ").trim_matches(['/', ' ']).to_owned()
    }
}

/// Where a program answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port of 127.0.0.1.
    Port(u16),
}

impl Address {
    /// The variables that tell the program, where `run` is what its directory is called there.
    fn environment(&self, run: &Path) -> Vec<String> {
        match self {
            Address::Socket(_) => vec![format!("SOCKET={}", run.join(SOCKET).display())],
            Address::Port(port) => vec![format!("PORT={port}")],
        }
    }

    /// One for a program in a directory of its own. Without a network namespace, a port is as good as a socket.
    fn of(native: &Native, run: &Path, by_port: bool) -> anyhow::Result<Option<Self>> {
        Ok(match native.speaks {
            Speaks::Nothing => None,
            Speaks::SocketOrPort if !by_port => Some(Address::Socket(run.join(SOCKET))),
            Speaks::SocketOrPort | Speaks::Port => Some(Address::Port(new_port()?)),
        })
    }

    /// Makes sure that nobody answers there who was started before: it would be taken for the next start.
    pub(crate) fn ensure_silent(&self) -> anyhow::Result<()> {
        let answers = match self {
            Address::Socket(path) => path.exists(),
            Address::Port(port) => std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok(),
        };
        anyhow::ensure!(!answers, "something answers at {self:?} before anything is started");
        Ok(())
    }

    /// Removes what is left of the last time.
    fn clear(&self) {
        if let Address::Socket(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A port of 127.0.0.1 that is free, and that nobody has had before. Below those that the kernel gives to connections:
/// one of these could be taken by the time a program wants it.
fn new_port() -> anyhow::Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Where the others begin that run at the same time.
    let offset = std::process::id().wrapping_mul(331);
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset) % u32::from(COUNT);
        let port = FIRST + u16::try_from(next)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free from {FIRST} to {}", FIRST + COUNT - 1)
}

/// What a program's socket is called.
const SOCKET: &str = "app.sock";

/// A name for a container that no other has.
fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("coracle-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Ends whatever is left of a container: those that carry its name on their command line, which are what starts and
/// watches it, and those inside, which have a part of its directory mounted. A runtime that is killed in the middle of a
/// start knows nothing of the program that it has just begun.
fn end_container(id: &str, directory: &Path) {
    end_all(|| [with_argument(id), that_see(directory)].concat());
}

/// Every way that works here, in the order they are shown, and those that don't.
pub(crate) fn engines() -> (Vec<Box<dyn Engine>>, Vec<LeftOut>) {
    let mut found: Vec<Box<dyn Engine>> = vec![Box::new(Process)];
    let mut left_out = Vec::new();
    oci::find_all(&mut found, &mut left_out);
    engine::find_all(&mut found, &mut left_out);
    (found, left_out)
}

/// If cgroups are mounted as version 1 and 2 at once, starts this program anew where only version 1 is seen: `crun`
/// refuses the mixture. The mounts of everybody else stay as they are. Does nothing where that is not needed, or not
/// possible.
pub(crate) fn see_pure_cgroups() {
    use std::os::unix::process::CommandExt as _;

    const SEEN: &str = "CORACLE_BENCH_PURE_CGROUPS";
    let unified = Path::new("/sys/fs/cgroup/unified");
    let is_hybrid = unified.join("cgroup.procs").is_file();
    if !is_hybrid || !crate::proc::is_root() || std::env::var_os(SEEN).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let script = "umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";
    let _failed = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(SEEN, "1")
        .exec();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_programs_have_a_port_and_strangers_at_it_are_noticed() {
        let ports: std::collections::BTreeSet<u16> = (0..200).map(|_| new_port().unwrap()).collect();
        assert_eq!(ports.len(), 200);
        let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = ephemeral.split_whitespace().next().unwrap().parse().unwrap();
        assert!(first < 32_000 || ports.iter().all(|port| *port < first), "{ephemeral}");

        let address = Address::Port(new_port().unwrap());
        address.ensure_silent().unwrap();
        let Address::Port(port) = address else { unreachable!() };
        let _stranger = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(address.ensure_silent().is_err());
    }

    #[test]
    fn what_failed_says_why_and_forgets_what_came_before() {
        let mut output = ErrorOutput::new().unwrap();
        let mut say = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).stderr(output.emptied().unwrap());
            assert!(shell.status().unwrap().success());
            let error = output.explain(Err::<(), _>(anyhow::anyhow!("it ended"))).unwrap_err();
            error.to_string()
        };
        assert_eq!(say("echo one >&2; echo ' two ' >&2"), "it ended: one / two");
        assert_eq!(say("echo three >&2"), "it ended: three");
        assert_eq!(say(""), "it ended");
        let much = say("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done >&2");
        assert!(much.len() < 3000 && much.ends_with("19999"), "{much}");
    }
}
