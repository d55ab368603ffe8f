//! Measuring what is in a directory.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

/// What each file, directory and link costs beside its content: its inode, and its part of the directory it is in.
pub(super) const ENTRY: u64 = 4096;

/// Content is counted in whole blocks of this many bytes.
const BLOCK: u64 = 4096;

/// How deep directories are followed; each level takes a file descriptor while the walk lasts.
const DEEPEST: usize = 256;

/// What content of this length costs.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Tells one file from all others.
pub(super) type Identity = (u64, u64);

/// What is below a directory, itself not counted. A hole counts as if it were written, and a file with several names
/// once. `u64::MAX` where directories are deeper than anybody needs: they can't be counted, so nothing more may come.
pub(super) fn measure(root: impl AsFd) -> rustix::io::Result<u64> {
    let mut total = 0_u64;
    let mut linked: HashSet<Identity> = HashSet::new();
    let mut open = vec![Dir::read_from(root)?];
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let below: Option<OwnedFd> = {
            let directory = directory.fd()?;
            let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                // Gone meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
            let counted = is_directory || found.st_nlink < 2 || linked.insert(identity(&found));
            if counted {
                let content = if is_directory { 0 } else { u64::try_from(found.st_size).unwrap_or(0) };
                total = total.saturating_add(ENTRY).saturating_add(blocks(content));
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
            match is_directory.then(|| openat(directory, name, flags, Mode::empty())).transpose() {
                Ok(below) => below,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => return Err(error),
            }
        };
        if let Some(below) = below {
            if open.len() == DEEPEST {
                return Ok(u64::MAX);
            }
            open.push(Dir::new(below)?);
        }
    }
    Ok(total)
}

fn identity(found: &Stat) -> Identity {
    (found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn measured(path: &std::path::Path) -> u64 {
        measure(File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn everything_is_counted_once() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        assert_eq!(measured(root.path()), 0);
        std::fs::write(path("empty"), "").unwrap();
        std::fs::write(path("one"), "x").unwrap();
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("sub/two"), vec![0; 4097]).unwrap();
        let so_far = 4 * ENTRY + BLOCK + 2 * BLOCK;
        assert_eq!(measured(root.path()), so_far);
        std::fs::hard_link(path("sub/two"), path("again")).unwrap();
        assert_eq!(measured(root.path()), so_far, "the same file under another name");
        std::os::unix::fs::symlink("/", path("out")).unwrap();
        assert_eq!(measured(root.path()), so_far + ENTRY + BLOCK, "a link, and not what it leads to");
        File::create(path("hole")).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(measured(root.path()), so_far + 2 * ENTRY + BLOCK + (1 << 30), "as if it were written");
    }

    #[test]
    fn what_is_too_deep_to_be_counted_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let (deep, next) = (root.path().join("deep"), root.path().join("next"));
        std::fs::create_dir(&deep).unwrap();
        for _ in 0..300 {
            std::fs::create_dir(&next).unwrap();
            std::fs::rename(&deep, next.join("d")).unwrap();
            std::fs::rename(&next, &deep).unwrap();
        }
        assert_eq!(measured(root.path()), u64::MAX);
    }
}
