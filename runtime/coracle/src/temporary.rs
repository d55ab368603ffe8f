//! Directories that go with the process.

use std::path::{Path, PathBuf};

/// A directory of the process's own, removed with all that is in it when this is dropped.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// One whose name begins with `prefix`. Whoever is given its path makes it.
    pub(crate) fn new(prefix: &str) -> Self {
        Self(std::env::temp_dir().join(format!("{prefix}-{:016x}", rand::random::<u64>())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}
