//! The digest of a file on this machine, computed once per content.
//!
//! Fifty tasks of one `file:` image start together after a restart; hashing the file fifty times would
//! cost more than starting them. The cache remembers a digest for as long as the file's identity
//! (device, inode, size, times) stays the same, and lets one caller hash while the others wait.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::MAX_IMAGE_BYTES;
use crate::error::PullError;
use crate::reference::Digest;
use crate::sniff;

/// How many files are remembered. Past it the cache starts over: there are never that many at once.
const ENTRIES_MAX: usize = 1024;

/// A file written to more recently than this is hashed again next time: its times may be too coarse to
/// tell two writes apart (the kernel stamps files in steps of some milliseconds, some file systems in
/// whole seconds).
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What must be unchanged for a digest to be taken on trust.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Catches a rewrite after which the modification time was set back.
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file's slot: its lock is held while the file is hashed.
type Slot = Arc<Mutex<Option<(Identity, Digest)>>>;

/// Digests of files, by path.
#[derive(Default)]
pub(crate) struct DigestCache {
    slots: Mutex<HashMap<PathBuf, Slot>>,
}

impl DigestCache {
    /// The digest and size in bytes of a regular file that starts as Wasm does.
    pub(crate) fn digest_of(&self, image: &str, path: &Path) -> Result<(Digest, u64), PullError> {
        self.digest_of_at(image, path, SystemTime::now())
    }

    fn digest_of_at(&self, image: &str, path: &Path, now: SystemTime) -> Result<(Digest, u64), PullError> {
        // Asked before opening: opening a FIFO would wait for a writer.
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PullError::NoSuchFile { path: path.to_owned() },
            _ => PullError::io("read", path)(error),
        })?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
            return Err(PullError::NotAFile { path: path.to_owned(), what });
        }

        let slot = self.slot(path);
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = Identity::of(&metadata);
        if let Some((known_identity, digest)) = *known
            && known_identity == identity
        {
            return Ok((digest, identity.bytes));
        }
        let (identity, digest) = hash_file(image, path)?;
        let seconds = u64::try_from(identity.modified.0).unwrap_or_default();
        let settled_at =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds).saturating_add(SETTLED_AFTER));
        *known = settled_at.is_some_and(|at| now >= at).then_some((identity, digest));
        Ok((digest, identity.bytes))
    }

    fn slot(&self, path: &Path) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= ENTRIES_MAX && !slots.contains_key(path) {
            slots.clear();
        }
        slots.entry(path.to_owned()).or_default().clone()
    }
}

fn hash_file(image: &str, path: &Path) -> Result<(Identity, Digest), PullError> {
    let mut file = File::open(path).map_err(PullError::io("open", path))?;
    let before = file.metadata().map_err(PullError::io("read", path))?;
    if before.len() > MAX_IMAGE_BYTES {
        let (bytes, bytes_max) = (before.len(), MAX_IMAGE_BYTES);
        return Err(PullError::TooLarge { image: image.to_owned(), bytes, bytes_max });
    }

    let mut head = Vec::with_capacity(sniff::SNIFF_BYTES);
    let head_limit = u64::try_from(sniff::SNIFF_BYTES).expect("a few hundred");
    (&mut file).take(head_limit).read_to_end(&mut head).map_err(PullError::io("read", path))?;
    if let Some(what) = sniff::what_else(&head) {
        return Err(PullError::NotWasm { image: image.to_owned(), what });
    }

    // The bound also holds for a file that grows while it is read; the check below then reports it.
    let mut rest = file.take(MAX_IMAGE_BYTES);
    let digest = hash(&head, &mut rest).map_err(PullError::io("read", path))?;
    let after = rest.get_ref().metadata().map_err(PullError::io("read", path))?;
    if Identity::of(&before) != Identity::of(&after) {
        return Err(PullError::Changed { path: path.to_owned() });
    }
    Ok((Identity::of(&after), digest))
}

/// The digest of a regular file, as `sha256:` and hexadecimal digits, for callers without a registry.
/// Nothing is cached and the content may be anything. Blocks.
///
/// # Errors
///
/// What the system said; `InvalidInput` for a directory, a device or a pipe, and `FileTooLarge` above
/// [`MAX_IMAGE_BYTES`].
pub fn digest_file(path: &Path) -> io::Result<String> {
    // Asked before opening: opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    if metadata.len() > MAX_IMAGE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is {} bytes; at most {MAX_IMAGE_BYTES} are accepted", metadata.len()),
        ));
    }
    let mut file = File::open(path)?.take(MAX_IMAGE_BYTES);
    hash(&[], &mut file).map(|digest| digest.to_string())
}

/// The digest of `head` followed by what the reader gives.
fn hash(head: &[u8], reader: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WASM: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A time at which a file written by this test counts as settled.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    fn is_cached(cache: &DigestCache, path: &Path) -> bool {
        cache.slot(path).lock().unwrap().is_some()
    }

    #[test]
    fn a_settled_file_is_hashed_once_and_again_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        std::fs::write(&path, WASM).unwrap();
        let cache = DigestCache::default();
        let (first, bytes) = cache.digest_of_at("x", &path, later()).unwrap();
        assert_eq!(bytes, 8);
        assert_eq!(first.hex(), hex::encode(Sha256::digest(WASM)));
        assert!(is_cached(&cache, &path));

        // Plant a wrong digest: if it comes back, the cache answered.
        let planted = Digest::from_bytes([7; 32]);
        cache.slot(&path).lock().unwrap().as_mut().unwrap().1 = planted;
        assert_eq!(cache.digest_of_at("x", &path, later()).unwrap().0, planted);

        std::fs::write(&path, [WASM, b"more"].concat()).unwrap();
        let (second, bytes) = cache.digest_of_at("x", &path, later()).unwrap();
        assert_eq!(bytes, 12);
        assert!(second != first && second != planted);
    }

    #[test]
    fn a_file_just_written_is_not_cached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        std::fs::write(&path, WASM).unwrap();
        let cache = DigestCache::default();
        cache.digest_of(&path.display().to_string(), &path).unwrap();
        assert!(!is_cached(&cache, &path));
    }

    #[test]
    fn a_file_has_one_digest_with_and_without_a_registry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        std::fs::write(&path, [WASM, &vec![7; 600 * 1024]].concat()).unwrap();
        let (digest, _) = DigestCache::default().digest_of("x", &path).unwrap();
        assert_eq!(digest_file(&path).unwrap(), digest.to_string());
        assert_eq!(digest_file(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(digest_file(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = DigestCache::default();
        for n in 0..2 * ENTRIES_MAX {
            cache.slot(Path::new(&format!("/{n}")));
        }
        assert!(cache.slots.lock().unwrap().len() <= ENTRIES_MAX);
    }

    #[test]
    fn a_huge_file_is_refused_by_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        File::create(&path).unwrap().set_len(MAX_IMAGE_BYTES + 1).unwrap();
        let error = DigestCache::default().digest_of("x", &path).unwrap_err();
        assert!(matches!(error, PullError::TooLarge { .. }), "{error}");
    }
}
