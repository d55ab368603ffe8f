//! Makes sure the target's standard library is installed before anything is built for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{BuildError, TARGET, io_error, variable};

/// Adds the target through rustup when the toolchain in use lacks it.
///
/// A `rust-toolchain.toml` that names the target is not enough: with `RUSTUP_AUTO_INSTALL=0` rustup leaves a
/// toolchain as it finds it.
pub(crate) fn ensure_installed(out_dir: &Path) -> Result<(), BuildError> {
    let sysroot = sysroot()?;
    if is_installed(&sysroot) {
        return Ok(());
    }
    // Several build scripts may arrive here at once, and rustup does not expect company.
    let lock_path = out_dir.ancestors().nth(2).unwrap_or(out_dir).join("coracle-guest-build.lock");
    let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
    lock.lock().map_err(io_error(&lock_path))?;
    if is_installed(&sysroot) {
        return Ok(());
    }
    // rustup adds to the toolchain in RUSTUP_TOOLCHAIN, which its cargo proxy has set to the one in use. Its progress
    // goes to stderr; stdout belongs to cargo's directives.
    let attempt = match Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status()
    {
        Ok(status) if status.success() && is_installed(&sysroot) => return Ok(()),
        Ok(status) if status.success() => {
            format!("rustup added it to another toolchain than the one in use, {}", sysroot.display())
        }
        Ok(status) => format!("`rustup target add {TARGET}` ended with {status}"),
        Err(error) => format!("rustup could not be started: {error}"),
    };
    Err(BuildError::TargetMissing { attempt })
}

/// Where the compiler in use keeps its standard libraries.
fn sysroot() -> Result<PathBuf, BuildError> {
    let rustc = PathBuf::from(variable("RUSTC")?);
    let output = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| BuildError::Start { program: rustc, source })?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Whether the standard library is there, rather than just the folder: rustc ships linker parts for targets whose
/// library is not installed.
fn is_installed(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    fs::read_dir(library).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standard_library_counts_as_installed() {
        let sysroot = std::env::temp_dir().join(format!("coracle-guest-build-{}", std::process::id()));
        let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
        assert!(!is_installed(&sysroot));
        fs::create_dir_all(library.join("self-contained")).unwrap();
        assert!(!is_installed(&sysroot));
        File::create(library.join("libstd-0123456789abcdef.rlib")).unwrap();
        assert!(is_installed(&sysroot));
        fs::remove_dir_all(&sysroot).unwrap();
    }
}
