//! Directories of the host, opened once.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of the host that has been opened. It stays this one, whatever is done to the path it was found at: what
/// has been checked of it holds for as long as it is used. Clones share it.
#[derive(Clone, Debug)]
pub struct Directory {
    file: Arc<File>,
    /// Where it was found, for messages.
    path: PathBuf,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens what is at a path now. Symbolic links are followed.
    ///
    /// # Errors
    /// What the operating system says; where something else than a directory is, that too.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = rustix::fs::open(&path, DIRECTORY, Mode::empty())?;
        Ok(Self { file: Arc::new(file.into()), path })
    }

    /// Opens a directory in this one. No symbolic link is followed: where one is, that is an error.
    ///
    /// # Errors
    /// What the operating system says, and a name that is not one of a directory's entries.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no plain name")));
        }
        let file = rustix::fs::openat(&*self.file, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { file: Arc::new(file.into()), path: self.path.join(name) })
    }

    /// The same, and makes it first if nothing is there.
    ///
    /// # Errors
    /// As [`child`](Self::child).
    pub fn make_child(&self, name: &str) -> io::Result<Self> {
        match self.child(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Another may be faster.
                match rustix::fs::mkdirat(&*self.file, name, Mode::from(0o777)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => self.child(name),
                    Err(error) => Err(error.into()),
                }
            }
            child => child,
        }
    }

    /// Where it was when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle of its own.
    pub(super) fn try_clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn as_fd(&self) -> impl AsFd {
        &*self.file
    }

    /// A path by which it can be opened again, if only by this process.
    pub(crate) fn reopen_path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        if cfg!(target_os = "linux") {
            format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
        } else {
            self.path.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_stays_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        std::fs::write(root.path().join("data/mine"), "x").unwrap();
        let data = Directory::open(root.path()).unwrap().child("data").unwrap();
        // Somebody puts a link in its place, after it was checked and before it is used.
        std::fs::rename(root.path().join("data"), root.path().join("moved")).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("data")).unwrap();
        let entries: Vec<_> =
            std::fs::read_dir(data.reopen_path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(entries, ["mine"]);
    }

    #[test]
    fn no_link_is_followed_and_no_name_leads_out() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", root.path().join("out")).unwrap();
        std::fs::write(root.path().join("file"), "x").unwrap();
        let directory = Directory::open(root.path()).unwrap();
        for name in ["out", "file", "..", ".", "", "a/b", "missing"] {
            assert!(directory.child(name).is_err(), "{name:?}");
        }
        for name in ["out", "file", "..", "a/b"] {
            assert!(directory.make_child(name).is_err(), "{name:?}");
        }
        directory.make_child("new").unwrap().make_child("below").unwrap();
        directory.make_child("new").unwrap();
        assert!(root.path().join("new/below").is_dir());
    }
}
