//! Tells the outer cargo what a nested workspace is made of.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{BuildError, io_error};

/// What decides a crate's component, by name in its folder. A whole folder is never watched: its `target`, left by
/// somebody who built the workspace by hand, would make every build start over.
const WATCHED: [&str; 5] = ["Cargo.toml", "Cargo.lock", "build.rs", "src", "wit"];

/// Prints a `rerun-if-changed` line for every source of the workspace.
pub(crate) fn watch(workspace: &Path) -> Result<(), BuildError> {
    for path in watched(workspace)? {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Ok(())
}

/// The files and folders to watch, in the workspace's folder and in every crate's below it.
fn watched(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut found: Vec<PathBuf> =
        WATCHED.iter().map(|name| folder.join(name)).filter(|path| path.exists()).collect();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let leads_elsewhere = name == "target" || name.starts_with('.') || WATCHED.contains(&&*name);
        if entry.path().is_dir() && !leads_elsewhere {
            found.extend(watched(&entry.path())?);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_watched_and_build_output_is_not() {
        let root = std::env::temp_dir().join(format!("coracle-guest-sources-{}", std::process::id()));
        for file in [
            "Cargo.toml",
            "Cargo.lock",
            "app/Cargo.toml",
            "app/src/main.rs",
            "app/README.md",
            "target/src/x.rs",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let expected: Vec<PathBuf> = ["Cargo.lock", "Cargo.toml", "app/Cargo.toml", "app/src"]
            .iter()
            .map(|name| root.join(name))
            .collect();
        assert_eq!(watched(&root).unwrap(), expected);
        fs::remove_dir_all(&root).unwrap();
    }
}
