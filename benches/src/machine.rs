//! The machine a report was made on: absolute figures mean nothing without it.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::peers::find;

/// What a reader must know of the machine, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// `Linux 6.1.0 x86_64`.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// What decides the processor's frequency; `unknown` where the kernel does not say, as in virtual machines.
    pub governor: String,
    /// The hypervisor, or `none`.
    pub virtualization: String,
    /// `v1`, `v2` or `hybrid`.
    pub cgroups: String,
    /// `vm.max_map_count`, which bounds how many instances there may be.
    pub max_map_count: String,
    /// Tasks that ran or waited to, on average over the last minute, when the run began: noise.
    pub load: String,
    /// This program and its peers, with what they call their version.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let is_guest = cpuinfo
            .lines()
            .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor"));
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(),
            kernel: format!("Linux {} {}", read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH),
            system: system(),
            governor: if governor.is_empty() { "unknown".to_owned() } else { governor.trim().to_owned() },
            virtualization: if is_guest { "a virtual machine" } else { "none" }.to_owned(),
            cgroups: cgroups().to_owned(),
            max_map_count: read("/proc/sys/vm/max_map_count").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions: versions(),
        }
    }

    /// Each thing with its name, to be printed.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("processor".to_owned(), format!("{} × {}", self.cores, self.cpu)),
            ("memory".to_owned(), crate::report::Unit::Bytes.show(bytes(self.memory))),
            ("kernel".to_owned(), self.kernel.clone()),
            ("system".to_owned(), self.system.clone()),
            ("frequency governor".to_owned(), self.governor.clone()),
            ("virtualization".to_owned(), self.virtualization.clone()),
            ("cgroups".to_owned(), self.cgroups.clone()),
            ("vm.max_map_count".to_owned(), self.max_map_count.clone()),
            ("load before the run".to_owned(), self.load.clone()),
        ];
        lines.extend(self.versions.iter().cloned());
        lines
    }
}

#[expect(clippy::cast_precision_loss, reason = "to be read by people")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn memory() -> u64 {
    let meminfo = read("/proc/meminfo");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn system() -> String {
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}

fn cgroups() -> &'static str {
    let root = Path::new("/sys/fs/cgroup");
    match (
        root.join("cgroup.controllers").is_file(),
        root.join("unified").is_dir(),
        root.join("memory").is_dir(),
    ) {
        (true, _, _) => "v2",
        (_, true, true) => "hybrid",
        (_, _, true) => "v1",
        _ => "unknown",
    }
}

/// How each peer is asked for its version.
const PEERS: &[(&str, &str)] = &[
    ("wasmtime", "--version"),
    ("crun", "--version"),
    ("runc", "--version"),
    ("runsc", "--version"),
    ("podman", "--version"),
    ("docker", "--version"),
    ("nginx", "-v"),
    ("haproxy", "-v"),
    ("etcd", "--version"),
    ("rustc", "--version"),
];

fn versions() -> Vec<(String, String)> {
    let mut versions = vec![("coracle".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    for (program, flag) in PEERS {
        let Some(path) = find(program) else { continue };
        let Ok(output) = Command::new(path).arg(flag).output() else { continue };
        let text = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
        versions.push(((*program).to_owned(), line));
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory > 0);
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        assert!(machine.lines().iter().all(|(name, _)| !name.is_empty()));
    }
}
