//! What the kernel says of processes: memory, CPU time, and who is whose child; and how they are ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// Bytes of memory a process has to itself, shared pages counted in proportion.
pub(crate) fn pss(pid: u32) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The same of several, without those that have gone.
pub(crate) fn pss_of(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| pss(*pid).ok()).sum()
}

/// Bytes of memory a process has resident.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Every process there is.
fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Those of which an argument is this text, or ends in `=` and this text.
pub(crate) fn with_argument(text: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let names = |argument: &str| {
            argument == text || argument.strip_suffix(text).is_some_and(|it| it.ends_with('='))
        };
        String::from_utf8_lossy(&line).split('\0').any(names)
    };
    all().filter(has).collect()
}

/// Those that have a part of this directory mounted somewhere, as those in a container have that is given one.
pub(crate) fn that_see(directory: &Path) -> Vec<u32> {
    // Within its file system, which may begin at any directory above; its own name is nobody else's.
    let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let has = |pid: &u32| {
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let mut roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
        roots.any(|root| root.split('/').any(|part| part == name))
    };
    all().filter(has).collect()
}

/// How long a process that is killed may take to go.
const GOING: Duration = Duration::from_secs(10);

/// Kills a process that leads a group, with the whole group, and waits until it has gone, or only its parent has to hear
/// of that.
pub(crate) fn end_group(leader: u32) {
    let Some(pid) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) else { return };
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    let begun = Instant::now();
    while stat(leader).is_some_and(|fields| fields[0] != "Z") && begun.elapsed() < GOING {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills these processes, and those that turn up meanwhile, until there are none.
pub(crate) fn end_all(mut processes: impl FnMut() -> Vec<u32>) {
    let begun = Instant::now();
    loop {
        let mut left = processes();
        left.retain(|pid| *pid != std::process::id());
        if left.is_empty() || begun.elapsed() > GOING {
            return;
        }
        for pid in left.into_iter().filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process with all that it started and that still hangs below it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for child in all() {
        if let Some(parent) = stat(child).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(next) = found.get(at) {
        found.extend(children.remove(next).unwrap_or_default());
        at += 1;
    }
    found
}

/// The fields of /proc/PID/stat after the name: state, parent, and so on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold spaces and parentheses.
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// What one field of `stat` counts in, as every Linux of today has it.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process's threads, and of all its children that have ended and been waited for.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    sum_of_fields(pid, 11..15)
}

/// CPU time of this process's children that have ended and been waited for.
pub(crate) fn children_cpu_time() -> Duration {
    sum_of_fields(std::process::id(), 13..15)
}

fn sum_of_fields(pid: u32, fields: std::ops::Range<usize>) -> Duration {
    let stat = stat(pid).unwrap_or_default();
    let ticks: u32 =
        stat.get(fields).unwrap_or_default().iter().filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// CPU time of this process.
pub(crate) fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let me = std::process::id();
        assert!(pss(me).unwrap() > 0 && resident(me).unwrap() > 0);
        assert!(own_cpu_time() > Duration::ZERO);
        assert!(pss(u32::MAX).is_err());
        assert_eq!(pss_of(&[u32::MAX]), 0);
    }

    #[test]
    fn a_group_ends_as_a_whole() {
        use std::io::Read as _;
        use std::os::unix::process::CommandExt as _;

        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "sleep 600 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut child = shell.process_group(0).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut line = [0; 32];
        let read = output.read(&mut line).unwrap();
        let grandchild: u32 = String::from_utf8_lossy(&line[..read]).trim().parse().unwrap();
        end_group(child.id());
        // The pipe is closed when nobody is left that could write to it.
        assert_eq!(output.read(&mut line).unwrap(), 0);
        assert!(stat(grandchild).is_none_or(|fields| fields[0] == "Z"));
        child.wait().unwrap();
    }

    #[test]
    fn processes_are_found_by_an_argument_and_ended() {
        // A name that no other process has.
        let name = format!("coracle-bench-test-{}", std::process::id());
        let script = format!("exec -a {name} sleep 600");
        let mut child = std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap();
        while with_argument(&name).is_empty() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        assert_eq!(with_argument(&name), [child.id()]);
        end_all(|| with_argument(&name));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        assert_eq!(family(child.id()), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
