//! Components that are no fixtures, because they take their time or need the network: built once for each target folder.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coracle_fixtures::zig;
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

/// Makes the cargo of a command, or of what it runs, leave what it compiles in one place for all tests, below the
/// workspace's target folder: what several projects need is compiled once. Nobody debugs it, so it carries nothing for
/// that.
pub fn share_builds(command: &mut Command) -> &mut Command {
    command
        .env("CARGO_BUILD_BUILD_DIR", tmp().join("cargo"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
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

/// The programs of the example `pipeline`, and what they were built with.
pub struct Pipeline {
    /// Where they are installed: `bin/comrak.wasm`, and so on.
    pub root: PathBuf,
    /// A Python with zig, which compiles the C in one of them.
    pub python: PathBuf,
}

/// Each as `cargo install` is told to install it, in the example's README as well, and the file it leaves.
const PIPELINE: [(&str, &str); 5] = [
    ("comrak", "comrak --version 0.59.0 --no-default-features --features cli"),
    ("brotli", "brotli --version 8.0.4"),
    ("rg", "ripgrep --version 15.2.0"),
    ("coreutils", "coreutils --version 0.12.0 --no-default-features --features sha256sum,sort,wc"),
    ("oxipng", "oxipng --version 10.2.1 --no-default-features --features binary,zopfli"),
];

/// Installs the programs of the example `pipeline`, as its README does.
///
/// # Errors
/// When they can't be had from crates.io, or zig from PyPI.
pub fn pipeline() -> Result<Pipeline, String> {
    let root = tmp().join("crates");
    std::fs::create_dir_all(&root).unwrap();
    let python = zig::python_with(zig::ZIG, tmp())?;
    let lock = std::fs::File::create(root.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let target = root.join("target");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipeline/README.md");
    let readme = std::fs::read_to_string(readme).unwrap().replace("\\\n ", "");
    for (name, program) in PIPELINE {
        assert!(readme.contains(program), "the README does not say `{program}`");
        let component = root.join("bin").join(name).with_extension("wasm");
        if component.exists() {
            continue;
        }
        let mut cargo = cargo();
        cargo.args(["install", "--quiet", "--target", "wasm32-wasip2"]).args(program.split(' '));
        cargo.arg("--root").arg(&root).current_dir(&root);
        cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_BUILD_BUILD_DIR", &target);
        // The programs are what is tried, not how fast they are: to optimise them as a whole takes most of the time.
        for (setting, value) in
            [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1"), ("STRIP", "true")]
        {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        for (variable, tool) in [("CC_wasm32_wasip2", "cc"), ("AR_wasm32_wasip2", "ar")] {
            cargo.env(variable, zig_tool(&root, &python, tool));
        }
        cargo.env("ZIG_GLOBAL_CACHE_DIR", tmp().join("zig-cache"));
        let output = cargo.output().map_err(|error| error.to_string())?;
        if !component.exists() {
            return Err(text(&output));
        }
    }
    // They stay, and what they were made of is not wanted again.
    if target.exists() {
        std::fs::remove_dir_all(target).unwrap();
    }
    Ok(Pipeline { root, python })
}

/// A script that is one of zig's tools under the name of its own that build scripts want. Their name of the target is
/// none of zig's.
fn zig_tool(dir: &Path, python: &Path, tool: &str) -> PathBuf {
    let script = dir.join(format!("zig-{tool}"));
    let target = if tool == "cc" { "-target wasm32-wasi " } else { "" };
    let text = format!(
        "#!/bin/sh\nfor it; do shift; case $it in --target=*) ;; *) set -- \"$@\" \"$it\";; esac; done\n\
         exec {} -m ziglang {tool} {target}\"$@\"\n",
        python.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
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
    share_builds(&mut cargo);
    cargo
}
