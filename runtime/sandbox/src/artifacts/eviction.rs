//! Which artifacts go when there is no room: those nobody asked for longest.

use super::{ARTIFACT, tag_file};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Removes artifacts of `dir` until those left take `max_bytes` at most, or all are `in_use`; answers how many went.
pub(super) fn evict(dir: &Path, max_bytes: u64, in_use: &HashSet<PathBuf>) -> io::Result<u64> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ARTIFACT)
            // Somebody else may be making room, too.
            && let Ok(about) = fs::metadata(&path)
        {
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Found { path, bytes: about.len(), used });
        }
    }
    let mut total: u64 = found.iter().map(|found| found.bytes).sum();
    found.sort_by_key(|found| found.used);
    let mut gone = 0;
    for Found { path, bytes, .. } in found {
        if total <= max_bytes {
            break;
        }
        if in_use.contains(&path) {
            continue;
        }
        // The tag first: an artifact without one is never loaded.
        let _ = fs::remove_file(tag_file(&path));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => gone += 1,
        }
        total -= bytes;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let artifact = |name: &str, age: u64| {
            let path = dir.path().join(name).with_extension(ARTIFACT);
            fs::write(&path, [0; 100]).unwrap();
            fs::write(tag_file(&path), [0; 32]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age);
            File::options().write(true).open(&path).unwrap().set_modified(used).unwrap();
            path
        };
        let (oldest, old, new) = (artifact("a", 300), artifact("b", 200), artifact("c", 100));
        fs::write(dir.path().join("key"), [0; 32]).unwrap();
        let in_use = HashSet::from([oldest.clone()]);

        assert_eq!(evict(dir.path(), 300, &in_use).unwrap(), 0, "it fits");
        assert_eq!(evict(dir.path(), 299, &in_use).unwrap(), 1);
        assert!(oldest.exists() && !old.exists() && !tag_file(&old).exists() && new.exists());
        assert_eq!(evict(dir.path(), 0, &in_use).unwrap(), 1, "what is in use stays");
        assert!(oldest.exists() && tag_file(&oldest).exists() && !new.exists());
        assert!(dir.path().join("key").exists());
    }
}
