//! The seccomp profile that podman and Docker use by default, in the form that OCI runtimes read.
//!
//! The distribution has it as a file with conditions on capabilities, architectures and kernels; engines resolve these
//! and hand the rest to the runtime, and so do we.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// Where Debian, Fedora and others put the profile.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// What Docker leaves a container's root: the field's default, by their names in the kernel.
pub(super) const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The profile for this machine and [`CAPABILITIES`].
pub(super) fn default_profile() -> anyhow::Result<Value> {
    read(Path::new(PROFILE)).with_context(|| {
        format!("no seccomp profile at {PROFILE}; Debian's golang-github-containers-common has it")
    })
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let profile: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let (arch, name) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        other => anyhow::bail!("not known for {other}"),
    };
    resolve(&profile, arch, name)
}

fn resolve(profile: &Value, arch: &str, arch_name: &str) -> anyhow::Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names_any = |condition: &Value, names: &[&str]| {
        list(condition).iter().filter_map(Value::as_str).any(|name| names.contains(&name))
    };
    let mut rules = Vec::new();
    for rule in list(&profile["syscalls"]) {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let needs =
            |key: &str, have: &[&str]| list(&includes[key]).is_empty() || names_any(&includes[key], have);
        let is_included = needs("arches", &[arch]) && needs("caps", CAPABILITIES);
        let is_excluded =
            names_any(&excludes["arches"], &[arch]) || names_any(&excludes["caps"], CAPABILITIES);
        if !is_included || is_excluded {
            continue;
        }
        let mut resolved = json!({ "names": rule["names"], "action": rule["action"] });
        if !list(&rule["args"]).is_empty() {
            resolved["args"] = rule["args"].clone();
        }
        if rule["errnoRet"].is_u64() {
            resolved["errnoRet"] = rule["errnoRet"].clone();
        }
        rules.push(resolved);
    }
    let of_this = |map: &Value| map["architecture"] == arch_name;
    let map = list(&profile["archMap"]);
    let mut architectures = vec![json!(arch_name)];
    architectures
        .extend(map.iter().filter(|map| of_this(map)).flat_map(|map| list(&map["subArchitectures"])));
    let mut resolved = json!({
        "defaultAction": profile["defaultAction"].as_str().context("no defaultAction")?,
        "architectures": architectures,
        "syscalls": rules,
    });
    if profile["defaultErrnoRet"].is_u64() {
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_resolved() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [
                { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
                { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
            ],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {} },
                { "names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm64"] } },
                { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["chroot"], "action": "SCMP_ACT_ERRNO", "excludes": { "caps": ["CAP_SYS_CHROOT"] } },
            ],
        });
        let resolved = resolve(&profile, "amd64", "SCMP_ARCH_X86_64").unwrap();
        assert_eq!(resolved["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        assert_eq!(resolved["defaultErrnoRet"], 38);
        let rules = resolved["syscalls"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0], json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW" }));
        assert_eq!(rules[1], json!({ "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }));
    }
}
