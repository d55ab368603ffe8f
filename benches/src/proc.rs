//! What the kernel says of processes: memory, CPU time, and who is whose child.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// A process with all that it started and that still hangs below it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = stat(child).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(next) = all.get(at) {
        all.extend(children.remove(next).unwrap_or_default());
        at += 1;
    }
    all
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
    fn children_belong_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        assert_eq!(family(child.id()), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
