//! Components that are no fixtures, because they take their time or need the network: built once for each target folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::text;

fn tmp() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Says that something was not tested, because what it needs can't be fetched; fails instead where
/// `CORACLE_REQUIRE_TOOLCHAINS` is set.
///
/// # Panics
/// Then.
pub fn skip(what: &str, reason: &str) {
    assert!(std::env::var_os("CORACLE_REQUIRE_TOOLCHAINS").is_none(), "{what}: {reason}");
    // Not `eprintln`, which the test harness keeps to itself.
    writeln!(std::io::stderr().lock(), "SKIPPED: {what}: {reason}").unwrap();
}

/// The example `thumbnails`, which is a workspace of its own.
pub fn thumbnails() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/thumbnails/Cargo.toml");
    let target = tmp().join("thumbnails");
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--manifest-path"]);
    let built = cargo.arg(manifest).arg("--target-dir").arg(&target).output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
    target.join("wasm32-wasip2/release/thumbnails.wasm")
}

/// Runs the tests that examples on the SDK have of their own, natively.
pub fn test_examples(packages: &[&str]) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/Cargo.toml");
    let mut cargo = cargo();
    cargo.args(["test", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(tmp().join("examples"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    let tested = cargo.output().unwrap();
    assert!(tested.status.success(), "{}", text(&tested));
}

/// Where the programs of the example `pipeline` are installed, as its README installs them: `bin/comrak.wasm` and
/// `bin/brotli.wasm`.
///
/// # Errors
/// When they can't be had from crates.io.
pub fn pipeline() -> Result<PathBuf, String> {
    let root = tmp().join("crates");
    std::fs::create_dir_all(&root).unwrap();
    let lock = std::fs::File::create(root.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let programs: [&[&str]; 2] = [
        &["comrak", "--version", "0.59.0", "--no-default-features", "--features", "cli"],
        &["brotli", "--version", "8.0.4"],
    ];
    for program in programs {
        let component = root.join("bin").join(program[0]).with_extension("wasm");
        if component.exists() {
            continue;
        }
        let mut cargo = cargo();
        cargo.args(["install", "--quiet", "--target", "wasm32-wasip2"]).args(program);
        cargo.arg("--root").arg(&root).current_dir(&root);
        cargo.env("CARGO_TARGET_DIR", root.join("target")).env("CARGO_PROFILE_RELEASE_STRIP", "true");
        let output = cargo.output().map_err(|error| error.to_string())?;
        if !component.exists() {
            return Err(text(&output));
        }
    }
    Ok(root)
}

/// A cargo of its own: what the one that runs this test has set is not meant for it.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME"
            || name == "RUSTFLAGS"
            || name.starts_with("RUSTC")
        {
            cargo.env_remove(name);
        }
    }
    cargo.stdin(Stdio::null());
    cargo
}
