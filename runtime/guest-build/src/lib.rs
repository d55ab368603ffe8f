//! Builds a workspace of components for `wasm32-wasip2` from inside a build script.
//!
//! Tests need guests, and the binary carries the examples for its demonstration. Both live in cargo workspaces of
//! their own, because they are built for another target and with other profiles than the rest. This room runs the
//! nested cargo for them: it makes sure the target is installed, keeps the outer build's settings from leaking
//! in, and tells the outer cargo which files to watch.
//!
//! It deliberately knows neither what the components do nor who embeds them, and has no dependencies: it is
//! compiled for the build machine before anything else.
//!
//! ```no_run
//! // In the main function of build.rs:
//! let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
//! for guest in coracle_guest_build::build_or_exit(&workspace, coracle_guest_build::Members::All) {
//!     println!("cargo::rustc-env=GUEST_{}={}", guest.env_name(), guest.path.display());
//! }
//! ```

mod nested;
mod sources;
mod target;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The target all components are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// One component that a workspace produced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// The file name without `.wasm`: cargo's name of the crate's library or binary target.
    pub name: String,
    /// The absolute path of the component, below `OUT_DIR`.
    pub path: PathBuf,
}

impl Guest {
    /// The name as part of an environment variable: upper case, with `_` for `-`.
    #[must_use]
    pub fn env_name(&self) -> String {
        self.name.to_uppercase().replace('-', "_")
    }
}

/// What of a workspace is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members<'a> {
    /// Every member.
    All,
    /// One member and what it depends on: who needs one component does not wait for the tools of the others.
    One(&'a str),
}

/// Why a workspace of components could not be built. The texts are for the person who ran cargo.
#[derive(Debug)]
pub enum BuildError {
    /// A variable that cargo sets for build scripts is missing.
    NotABuildScript {
        /// The variable's name.
        variable: &'static str,
    },
    /// The target's standard library is missing and could not be installed.
    TargetMissing {
        /// What was tried, and how it ended.
        attempt: String,
    },
    /// A program could not be started.
    Start {
        /// The program, as it was called.
        program: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The nested cargo failed; its own messages have gone to stderr.
    Cargo {
        /// The workspace that did not build.
        workspace: PathBuf,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// The build succeeded without leaving a component.
    Nothing {
        /// The workspace that produced nothing.
        workspace: PathBuf,
    },
    /// A file or folder could not be read or written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotABuildScript { variable } => {
                write!(f, "{variable} is not set: components are built from a build script, run by cargo")
            }
            Self::TargetMissing { attempt } => write!(
                f,
                "the Rust target {TARGET} is not installed and could not be added ({attempt}); \
                 run `rustup target add {TARGET}`, or install the target with your toolchain's package manager, \
                 and build again"
            ),
            Self::Start { program, source } => write!(f, "could not start {}: {source}", program.display()),
            Self::Cargo { workspace, status } => write!(
                f,
                "the components in {} did not build ({status}); cargo's messages are above",
                workspace.display()
            ),
            Self::Nothing { workspace } => write!(f, "{} built no component", workspace.display()),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Builds members of the cargo workspace in `workspace` as release components, into a folder below `OUT_DIR`
/// named after the workspace's folder, and prints the `rerun-if-changed` lines for its sources.
///
/// The workspace must have an up-to-date `Cargo.lock`. The answer is sorted by name and holds only what the
/// workspace has now, not what an earlier build left behind.
///
/// # Errors
/// When not run by cargo as a build script, when the target is missing and rustup can't add it, and when the
/// nested build fails.
pub fn build(workspace: &Path, members: Members<'_>) -> Result<Vec<Guest>, BuildError> {
    sources::watch(workspace)?;
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    target::ensure_installed(&out_dir)?;
    nested::build(workspace, members, &out_dir)
}

/// [`build`], for the `main` of a build script: on failure the reason becomes cargo's error message for the crate
/// and the process ends with code 1.
#[must_use]
pub fn build_or_exit(workspace: &Path, members: Members<'_>) -> Vec<Guest> {
    build(workspace, members).unwrap_or_else(|error| {
        // One line, because a directive ends where its line ends.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
        std::process::exit(1)
    })
}

/// A variable that cargo always sets for build scripts.
fn variable(name: &'static str) -> Result<std::ffi::OsString, BuildError> {
    std::env::var_os(name).ok_or(BuildError::NotABuildScript { variable: name })
}

/// The error for a file or folder, for `map_err`.
fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError + '_ {
    move |source| BuildError::Io { path: path.to_owned(), source }
}
