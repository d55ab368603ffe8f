//! The nested cargo: one workspace, one target, release profile, nothing inherited by accident.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{BuildError, Guest, Members, TARGET, io_error, variable};

/// Builds these members of the workspace and answers with the components it produced.
pub(crate) fn build(
    workspace: &Path,
    members: Members<'_>,
    out_dir: &Path,
) -> Result<Vec<Guest>, BuildError> {
    // Not the outer cargo's folders, whose locks it holds: it would be waited for, and wait. The components are below
    // OUT_DIR; what they are made of is beside all the packages' OUT_DIRs, so that workspaces with the same dependencies,
    // and this one when its OUT_DIR has another name, compile them once.
    let target_dir = out_dir.join(workspace.file_name().unwrap_or(OsStr::new("guests")));
    let build_dir = out_dir.ancestors().nth(2).unwrap_or(out_dir).join("coracle-guests");
    let built = target_dir.join(TARGET).join("release");
    // Cargo links fresh artifacts again, but leaves those of members that no longer exist.
    for stale in components(&built)? {
        fs::remove_file(&stale.path).map_err(io_error(&stale.path))?;
    }

    let cargo = PathBuf::from(variable("CARGO")?);
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    match members {
        Members::All => command.arg("--workspace"),
        Members::One(name) => command.args(["--package", name]),
    };
    command.current_dir(workspace).stdout(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if !name.to_str().is_some_and(is_inherited) {
            command.env_remove(name);
        }
    }
    // Set but empty: flags in a user's cargo configuration are meant for this machine, not for the guests.
    command.env("CARGO_ENCODED_RUSTFLAGS", "").env("CARGO_BUILD_BUILD_DIR", build_dir);

    let status = command.status().map_err(|source| BuildError::Start { program: cargo, source })?;
    if !status.success() {
        return Err(BuildError::Cargo { workspace: workspace.to_owned(), status });
    }
    let guests = components(&built)?;
    if guests.is_empty() {
        return Err(BuildError::Nothing { workspace: workspace.to_owned() });
    }
    Ok(guests)
}

/// Whether the nested build may see a variable of the outer one.
///
/// What describes the machine passes (where cargo keeps its registry, proxies, the job server that keeps both builds
/// within one set of processors). What describes the outer build does not: its flags, profiles and target, and the
/// wrapper by which clippy replaces the compiler.
fn is_inherited(name: &str) -> bool {
    const MACHINE: [&str; 3] = ["CARGO", "CARGO_HOME", "CARGO_MAKEFLAGS"];
    const MACHINE_PREFIXES: [&str; 5] =
        ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const OUTER_BUILD: [&str; 13] = [
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_LINKER",
        "RUSTC_LOG",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    if OUTER_BUILD.contains(&name) || name.starts_with("DEP_") {
        return false;
    }
    !name.starts_with("CARGO_")
        || MACHINE.contains(&name)
        || MACHINE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The components in a folder, sorted; none when the folder does not exist yet.
fn components(folder: &Path) -> Result<Vec<Guest>, BuildError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let path = entry.map_err(io_error(folder))?.path();
        if path.extension() == Some(OsStr::new("wasm"))
            && let Some(name) = path.file_stem().and_then(OsStr::to_str)
        {
            found.push(Guest { name: name.to_owned(), path });
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_stays_outside() {
        for name in [
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO",
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_inherited(name), "{name}");
        }
    }

    #[test]
    fn components_are_found_by_extension_and_sorted() {
        let folder = std::env::temp_dir().join(format!("coracle-guest-components-{}", std::process::id()));
        assert_eq!(components(&folder).unwrap(), []);
        fs::create_dir_all(&folder).unwrap();
        for file in ["web-app.wasm", "app.wasm", "app.d", "libapp.rlib"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let found = components(&folder).unwrap();
        assert_eq!(found.iter().map(|guest| guest.name.as_str()).collect::<Vec<_>>(), ["app", "web-app"]);
        assert_eq!(found[1].env_name(), "WEB_APP");
        fs::remove_dir_all(&folder).unwrap();
    }
}
