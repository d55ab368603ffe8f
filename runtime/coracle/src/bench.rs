//! `coracle bench`: hands over to the program `coracle-bench`, as git and cargo do with their external subcommands, so
//! that the one binary carries no benchmarks and their peers.
//!
//! It stands beside this program. Where the sources are, cargo builds it, or brings it up to date, first.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use crate::output::note;

/// What it is called.
const PROGRAM: &str = "coracle-bench";

/// Becomes that program.
pub(crate) fn bench(arguments: &[OsString]) -> anyhow::Result<Infallible> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    let sibling = this.with_file_name(PROGRAM);
    let plan = plan(&this, &sibling, sources(), cfg!(debug_assertions));
    let mut command = match &plan {
        Plan::Run(program) => Command::new(program),
        Plan::Build(sources) => {
            note!("coracle: building {PROGRAM}, or seeing that it is up to date");
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            // The workspace's default selection of packages, as for this program: wasmtime is compiled already.
            cargo.args(["run", "--release", "--bin", PROGRAM, "--manifest-path"]);
            cargo.arg(sources.join("Cargo.toml")).arg("--");
            forget_package(&mut cargo);
            cargo
        }
        Plan::None => bail!(
            "{} is not there. In a checkout of Coracle, `cargo install --locked --path benches` installs it beside \
             this program, and `cargo run --release -- bench` builds and runs it in place",
            sibling.display()
        ),
    };
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// If cargo runs this program, it has told it of its package. Dependencies whose build scripts look at such variables would
/// be built anew if they changed, and all of ours that depend on them.
fn forget_package(cargo: &mut Command) {
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
}

/// How to get there.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Run this.
    Run(PathBuf),
    /// Let cargo build it from these sources, and run it.
    Build(PathBuf),
    /// There is no way.
    None,
}

/// A sibling that is older than this program may be of older sources, and cargo knows. Not in debug builds: these are
/// of tests, which have just been built, and to build in release takes minutes.
fn plan(this: &Path, sibling: &Path, sources: Option<PathBuf>, is_debug: bool) -> Plan {
    let changed = |path: &Path| {
        path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let is_there = sibling.is_file();
    let is_current = is_there && (is_debug || changed(sibling) >= changed(this));
    match sources {
        Some(sources) if !is_current => Plan::Build(sources),
        _ if is_there => Plan::Run(sibling.to_owned()),
        _ => Plan::None,
    }
}

/// The workspace this program was built from, if it is still there; else one that the current directory is in.
fn sources() -> Option<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let here = std::env::current_dir().ok()?;
    let is_workspace =
        |path: &&Path| path.join("benches/Cargo.toml").is_file() && path.join("runtime/coracle").is_dir();
    [built_from].into_iter().chain(here.ancestors()).find(is_workspace).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_test_are_there() {
        assert!(sources().unwrap().join("benches/src/main.rs").is_file());
    }

    #[test]
    fn cargo_is_not_told_of_the_package_that_cargo_runs() {
        // Set for every test.
        assert!(
            std::env::var_os("CARGO_PKG_NAME").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some()
        );
        let mut cargo = Command::new("cargo");
        forget_package(&mut cargo);
        let changed: Vec<_> = cargo.get_envs().collect();
        assert!(changed.contains(&("CARGO_PKG_NAME".as_ref(), None)));
        assert!(changed.contains(&("CARGO_MANIFEST_DIR".as_ref(), None)));
        assert!(!changed.iter().any(|(name, _)| *name == "PATH" || *name == "CARGO"));
    }

    #[test]
    fn the_sibling_is_run_unless_cargo_knows_better() {
        let dir = tempfile::tempdir().unwrap();
        let (this, sibling) = (dir.path().join("coracle"), dir.path().join(PROGRAM));
        let sources = || Some(PathBuf::from("sources"));
        std::fs::write(&this, "").unwrap();
        assert_eq!(plan(&this, &sibling, None, false), Plan::None);
        assert_eq!(plan(&this, &sibling, sources(), false), Plan::Build("sources".into()));
        std::fs::write(&sibling, "").unwrap();
        assert_eq!(plan(&this, &sibling, sources(), false), Plan::Run(sibling.clone()));
        // Somebody has built this program anew.
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        std::fs::File::options().write(true).open(&this).unwrap().set_modified(later).unwrap();
        assert_eq!(plan(&this, &sibling, sources(), false), Plan::Build("sources".into()));
        assert_eq!(plan(&this, &sibling, None, false), Plan::Run(sibling.clone()));
        assert_eq!(plan(&this, &sibling, sources(), true), Plan::Run(sibling.clone()));
    }
}
