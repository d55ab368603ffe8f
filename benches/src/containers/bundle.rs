//! OCI bundles: what a runtime such as `crun` is told to run.

use std::path::Path;

use serde_json::{Value, json};

use super::native::Native;
use super::seccomp::{CAPABILITIES, default_profile};

/// How much of a container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confinement {
    /// Namespaces, a root, /proc and /dev: the least one would call a container.
    Bare,
    /// What an engine sets by default: seccomp, capabilities, masked paths, and limits on memory, CPU and processes.
    Usual,
}

/// CPU and memory of a container with limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of one processor.
    pub(super) cpu_percent: u64,
    /// MiB of memory.
    pub(super) memory_mib: u64,
}

/// The limits of a start.
pub(super) const LIMITS: Limits = Limits { cpu_percent: 100, memory_mib: 64 };

/// A bundle's configuration, and the directory mounted at /run. It runs in the host's network if it is to be reached
/// by a port.
pub(super) fn config(
    native: &Native,
    run: &Path,
    environment: &[String],
    cgroup: &str,
    confinement: Confinement,
    limits: Limits,
    shares_network: bool,
) -> anyhow::Result<Value> {
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if !shares_network {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": native.command_line(),
            "env": environment,
            "cwd": "/",
        },
        "root": { "path": native.root(), "readonly": true },
        // Runtimes make devices and links in /dev. Without a file system of its own there they would make them in the
        // root that all containers of a program share, and trip over each other's when several start at once.
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/run", "type": "bind", "source": run, "options": ["rbind", "rw"] },
        ],
        "linux": { "cgroupsPath": cgroup, "namespaces": namespaces },
    });
    if confinement == Confinement::Usual {
        let capabilities = json!({
            "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
        });
        config["process"]["capabilities"] = capabilities;
        config["process"]["noNewPrivileges"] = json!(true);
        let mounts = config["mounts"].as_array_mut();
        mounts.into_iter().for_each(|mounts| mounts.extend(usual_mounts()));
        let linux = &mut config["linux"];
        linux["seccomp"] = default_profile()?;
        linux["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
        ]);
        linux["readonlyPaths"] =
            json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
        linux["resources"] = json!({
            "memory": { "limit": limits.memory_mib << 20 },
            "cpu": { "period": 100_000, "quota": 1000 * limits.cpu_percent, "shares": 1024 },
            "pids": { "limit": 64 },
        });
    }
    Ok(config)
}

/// What engines mount in every container beside those.
fn usual_mounts() -> Vec<Value> {
    vec![
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::Speaks;

    #[test]
    fn no_container_makes_devices_in_the_root_it_shares() {
        let source = "fn main() {}";
        let native = Native::build("nothing", source, &[], &[], Speaks::Nothing).unwrap();
        for confinement in [Confinement::Bare, Confinement::Usual] {
            // Where the profile of the usual one is not installed, there is no such container either.
            let Ok(config) = config(&native, Path::new("/x"), &[], "/x", confinement, LIMITS, false) else {
                continue;
            };
            let mounts = config["mounts"].as_array().unwrap();
            let dev: Vec<_> = mounts.iter().filter(|mount| mount["destination"] == "/dev").collect();
            assert_eq!(dev.len(), 1, "{config}");
            assert_eq!(dev[0]["type"], "tmpfs");
        }
    }
}
