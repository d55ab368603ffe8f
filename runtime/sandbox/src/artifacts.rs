//! The artifact cache: machine code on disk, so that a component is compiled once per machine.
//!
//! An artifact is executed as it is, so whoever can write one can run anything in this process. Therefore the
//! directory is the user's alone, and each artifact is stored with a keyed hash of its content, made with a key
//! that lies in the directory too. The hash is checked before the artifact is mapped; what does not pass is
//! compiled again. This guards against torn writes, bit rot and files from elsewhere, not against the user himself.

use crate::code::Code;
use crate::engine::{Engine, Flavour};
use crate::prepare::{Inner, PrepareError, Prepared};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::component::Component;
use wasmtime::{Module, Precompiled};

/// A directory of artifacts. Clones share it.
#[derive(Clone)]
pub struct ArtifactCache(Arc<Cache>);

struct Cache {
    engine: Engine,
    dir: PathBuf,
    key: [u8; 32],
    /// What an artifact depends on beside the component: wasmtime's version, its settings, the CPU's features.
    compatibility: [u8; 32],
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    compiles: AtomicU64,
    temporary: AtomicU64,
}

/// One digest. Whoever holds `flight` is loading or compiling it.
#[derive(Default)]
struct Entry {
    prepared: Mutex<Weak<Inner>>,
    flight: tokio::sync::Mutex<()>,
}

/// How often what was needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArtifactStats {
    /// Components that some container had in use already.
    pub memory_hits: u64,
    /// Components whose artifact was loaded from disk.
    pub disk_hits: u64,
    /// Components that were compiled.
    pub compiles: u64,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
#[error("artifact cache {}: {source}", path.display())]
pub struct ArtifactError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Digests that are remembered although nobody uses their component any more.
const FORGET_ABOVE: usize = 256;

const KEY_FILE: &str = "key";

/// What files are called while they are written.
const TEMPORARY: &str = "tmp-";

impl ArtifactCache {
    /// Opens the directory, creating it and its key (mode 0700 and 0600) if they are not there.
    pub fn open(engine: Engine, dir: &Path) -> Result<Self, ArtifactError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ArtifactError { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed(dir))?;
        remove_leftovers(dir).map_err(failed(dir))?;
        let key_file = dir.join(KEY_FILE);
        let key = read_or_create_key(&key_file).map_err(failed(&key_file))?;
        let compatibility = compatibility(&engine);
        Ok(ArtifactCache(Arc::new(Cache {
            engine,
            dir: dir.to_owned(),
            key,
            compatibility,
            entries: Mutex::default(),
            memory_hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            compiles: AtomicU64::new(0),
            temporary: AtomicU64::new(0),
        })))
    }

    /// The component with this digest (`sha256:…`), ready to run: from memory, from disk, or compiled from the file
    /// `wasm`, which is read only then. Many may ask for the same at once; it is loaded or compiled once.
    ///
    /// A file that is compiled must have that digest, if it is a whole SHA-256. An artifact is found by the digest
    /// alone.
    pub async fn prepare(&self, digest: &str, wasm: &Path) -> Result<Prepared, PrepareError> {
        let entry = self.0.entry(digest);
        if let Some(prepared) = self.0.in_use(&entry) {
            return Ok(prepared);
        }
        let _flight = entry.flight.lock().await;
        if let Some(prepared) = self.0.in_use(&entry) {
            return Ok(prepared);
        }
        let cache = self.0.clone();
        let (digest, wasm) = (digest.to_owned(), wasm.to_owned());
        let prepared = tokio::task::spawn_blocking(move || cache.load_or_compile(&digest, &wasm))
            .await
            .map_err(|error| PrepareError::Io(format!("the compiler failed: {error}")))??;
        *entry.prepared.lock() = Arc::downgrade(&prepared.0);
        Ok(prepared)
    }

    /// How often what was needed.
    pub fn stats(&self) -> ArtifactStats {
        ArtifactStats {
            memory_hits: self.0.memory_hits.load(Ordering::Relaxed),
            disk_hits: self.0.disk_hits.load(Ordering::Relaxed),
            compiles: self.0.compiles.load(Ordering::Relaxed),
        }
    }
}

impl Cache {
    fn entry(&self, digest: &str) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(digest) {
            return entry.clone();
        }
        if entries.len() >= FORGET_ABOVE {
            // Those in flight are held by somebody else as well.
            entries
                .retain(|_, entry| Arc::strong_count(entry) > 1 || entry.prepared.lock().strong_count() > 0);
        }
        entries.entry(digest.to_owned()).or_default().clone()
    }

    fn in_use(&self, entry: &Entry) -> Option<Prepared> {
        let prepared = Prepared(entry.prepared.lock().upgrade()?);
        self.memory_hits.fetch_add(1, Ordering::Relaxed);
        Some(prepared)
    }

    fn load_or_compile(&self, digest: &str, wasm: &Path) -> Result<Prepared, PrepareError> {
        // Which flavour it is of is known once it has been compiled.
        for flavour in [Flavour::Plain, Flavour::Concurrent] {
            if let Some(code) = self.load(flavour, &self.artifact(digest, flavour)) {
                self.disk_hits.fetch_add(1, Ordering::Relaxed);
                return Prepared::link(&self.engine, flavour, &code, None);
            }
        }
        let bytes =
            fs::read(wasm).map_err(|error| PrepareError::Io(format!("{}: {error}", wasm.display())))?;
        // A file may change between the moment it was hashed and this one. What is compiled from it would be kept
        // under the wrong name for ever.
        check_digest(digest, wasm, &bytes)?;
        let (flavour, machine_code) = Code::precompile(&self.engine, &bytes)?;
        let artifact = self.artifact(digest, flavour);
        self.compiles.fetch_add(1, Ordering::Relaxed);
        drop(bytes);
        let stored = self.store(&artifact, &machine_code);
        if let Err(error) = &stored {
            tracing::warn!("the artifact of {digest} is not kept: {error}");
        }
        // Mapped from the file its memory images are shared with the page cache; from memory they are copied.
        let code = match stored.ok().and_then(|()| self.load(flavour, &artifact)) {
            Some(code) => code,
            None => deserialize_own(&self.engine.runtime(flavour)?.wasmtime, &machine_code)
                .map_err(|error| PrepareError::Invalid(format!("{error:#}")))?,
        };
        Prepared::link(&self.engine, flavour, &code, None)
    }

    /// A file name that says everything the artifact depends on.
    fn artifact(&self, digest: &str, flavour: Flavour) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.compatibility);
        hasher.update(match flavour {
            Flavour::Plain => b"plain",
            Flavour::Concurrent => b"concurrent",
        });
        hasher.update(digest.as_bytes());
        self.dir.join(format!("{}.cwasm", &hasher.finalize().to_hex()[..40]))
    }

    /// The artifact, if it is there and ours.
    fn load(&self, flavour: Flavour, artifact: &Path) -> Option<Code> {
        let tag = fs::read(tag_file(artifact)).ok()?;
        let actual = self.tag_of(&mut File::open(artifact).ok()?).ok()?;
        // blake3 compares hashes in constant time.
        let expected = blake3::Hash::from_bytes(tag.try_into().ok()?);
        if actual != expected {
            tracing::warn!("{} is damaged or not ours; compiling again", artifact.display());
            return None;
        }
        let engine = &self.engine.runtime(flavour).ok()?.wasmtime;
        match deserialize_checked(engine, artifact) {
            Ok(code) => Some(code),
            Err(error) => {
                tracing::warn!("{} can't be loaded; compiling again: {error:#}", artifact.display());
                None
            }
        }
    }

    fn tag_of(&self, artifact: &mut impl Read) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match artifact.read(&mut chunk)? {
                0 => return Ok(hasher.finalize()),
                read => hasher.update(&chunk[..read]),
            };
        }
    }

    /// Writes artifact and tag so that each appears whole or not at all. A crash in between leaves a tag that
    /// does not fit, which is as good as none.
    fn store(&self, artifact: &Path, code: &[u8]) -> io::Result<()> {
        let tag = self.tag_of(&mut &code[..])?;
        self.write_whole(artifact, code)?;
        self.write_whole(&tag_file(artifact), tag.as_bytes())
    }

    fn write_whole(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Removes what a process that died in the middle of writing left behind. Another process may be writing now, so
/// only what is old is a leftover.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        let age = || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other);
        if temporary && age().is_ok_and(|age| age > Duration::from_secs(3600)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// What is not `sha256:` and 64 digits is only a name, and taken on trust.
fn check_digest(digest: &str, wasm: &Path, bytes: &[u8]) -> Result<(), PrepareError> {
    let Some(expected) = digest.strip_prefix("sha256:").filter(|digits| digits.len() == 64) else {
        return Ok(());
    };
    let actual = hex::encode(Sha256::digest(bytes));
    if actual.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(PrepareError::Changed {
        path: wasm.display().to_string(),
        expected: digest.to_owned(),
        actual: format!("sha256:{actual}"),
    })
}

fn tag_file(artifact: &Path) -> PathBuf {
    artifact.with_extension("tag")
}

#[expect(unsafe_code, reason = "machine code is loaded from a file; its keyed hash was checked first")]
fn deserialize_checked(engine: &wasmtime::Engine, artifact: &Path) -> wasmtime::Result<Code> {
    let is_module = wasmtime::Engine::detect_precompiled_file(artifact)? == Some(Precompiled::Module);
    // SAFETY: the file must be an artifact that wasmtime made, unchanged. It was made by `Code::precompile` and
    // written by `Cache::store`, because its content has a keyed hash only we could make; `Cache::load` has just
    // checked it. Nobody but this user can write to the directory (mode 0700), and we only ever replace files by
    // renaming, never write into them, so the mapping does not change either.
    unsafe {
        if is_module {
            Module::deserialize_file(engine, artifact).map(Code::Module)
        } else {
            Component::deserialize_file(engine, artifact).map(Code::Component)
        }
    }
}

#[expect(unsafe_code, reason = "machine code is loaded from bytes this process has just compiled")]
fn deserialize_own(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Code> {
    let is_module = wasmtime::Engine::detect_precompiled(code) == Some(Precompiled::Module);
    // SAFETY: the bytes must be what wasmtime's precompilation returned, unchanged: they are, from a moment ago.
    unsafe {
        if is_module {
            Module::deserialize(engine, code).map(Code::Module)
        } else {
            Component::deserialize(engine, code).map(Code::Component)
        }
    }
}

fn read_or_create_key(path: &Path) -> io::Result<[u8; 32]> {
    loop {
        match fs::read(path) {
            Ok(key) => {
                if let Ok(key) = <[u8; 32]>::try_from(key) {
                    return Ok(key);
                }
                // A key that was damaged authenticates nothing; a new one makes the old artifacts strangers.
                fs::remove_file(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Several processes may open a new cache at once. The key appears whole, and whoever comes second takes it.
        let key: [u8; 32] = rand::random();
        let temporary = path.with_file_name(format!("{TEMPORARY}{:032x}", rand::random::<u128>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let linked = file
            .write_all(&key)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&temporary, path));
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked.map(|()| key),
        }
    }
}

fn compatibility(engine: &Engine) -> [u8; 32] {
    struct Blake(blake3::Hasher);
    impl Hasher for Blake {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Blake(blake3::Hasher::new());
    // The flavours differ in nothing else, and an artifact's name has its flavour.
    let plain = engine.runtime(Flavour::Plain).expect("every engine has it");
    plain.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
    *hasher.0.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_open_a_new_cache_agree_on_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let open = || {
            std::thread::scope(|scope| {
                let all: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| read_or_create_key(&path).unwrap())).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let keys = open();
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(open(), keys, "and keep it");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        fs::write(&path, "short").unwrap();
        assert_ne!(read_or_create_key(&path).unwrap(), keys[0]);
    }
}
