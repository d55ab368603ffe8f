//! The artifact cache: machine code on disk, so that a component is compiled once per machine.
//!
//! An artifact is executed as it is, so whoever can write one can run anything in this process. Therefore the
//! directory is the user's alone, and each artifact is stored with a keyed hash of its name and content, made with
//! a key that lies in the directory too. The hash is checked before the artifact is mapped; what does not pass is
//! compiled again. This guards against torn writes, bit rot and files from elsewhere, not against the user himself.
//!
//! The name says what the artifact depends on: the component's digest, wasmtime's version and settings, the CPU's
//! features. What nobody asked for longest goes when there is no room.

mod eviction;

use crate::code::{Code, Kind};
use crate::compile::Compiler;
use crate::engine::{Engine, Flavour};
use crate::prepare::{Imports, Inner, PrepareError, Prepared};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Module, Precompiled};

/// A directory of artifacts. Clones share it.
#[derive(Clone)]
pub struct ArtifactCache(Arc<Cache>);

/// How an [`ArtifactCache`] works.
#[derive(Clone, Debug)]
pub struct ArtifactCacheConfig {
    /// Where components are compiled. The default is in this process.
    pub compiler: Compiler,
    /// How much the artifacts may take on disk, in bytes. Those of components in use stay all the same. The default
    /// is 2 GiB: 60 interpreters, or thousands of small programs.
    pub max_bytes: u64,
    /// The largest component that is compiled, in bytes. The default is 256 MiB.
    pub max_component_bytes: u64,
}

impl Default for ArtifactCacheConfig {
    fn default() -> Self {
        ArtifactCacheConfig {
            compiler: Compiler::default(),
            max_bytes: 2 << 30,
            max_component_bytes: 256 << 20,
        }
    }
}

struct Cache {
    engine: Engine,
    dir: PathBuf,
    config: ArtifactCacheConfig,
    /// Compilations that may go on at once. Each uses all processors.
    compilers: Semaphore,
    key: [u8; 32],
    /// What an artifact depends on beside the component: wasmtime's version, its settings, the CPU's features.
    compatibility: [u8; 32],
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    compiles: AtomicU64,
    evictions: AtomicU64,
    temporary: AtomicU64,
}

/// How many components are compiled at once: a small one need not wait for a large one, and memory is bounded.
const COMPILERS: usize = 2;

/// One digest. Whoever holds `flight` is loading or compiling it.
#[derive(Default)]
struct Entry {
    prepared: Mutex<Weak<Inner>>,
    /// How the last attempt failed, and when.
    failed: Mutex<Option<(Instant, PrepareError)>>,
    flight: tokio::sync::Mutex<()>,
}

/// How long a component that exceeded a compiler's limits is refused without trying again: a service would have its
/// tasks started over and over, and each would cost as much.
const REFUSED_FOR: Duration = Duration::from_secs(60);

impl Entry {
    /// The failure of an attempt that ended after `asked`, or that is not worth repeating yet.
    fn failure(&self, asked: Instant) -> Option<PrepareError> {
        let failed = self.failed.lock();
        let (at, error) = failed.as_ref()?;
        let costly = matches!(error, PrepareError::CompileLimit(_) | PrepareError::CompilerFailed(_));
        (*at >= asked || (costly && at.elapsed() < REFUSED_FOR)).then(|| error.clone())
    }
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
    /// Artifacts that were removed to make room.
    pub evictions: u64,
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
    /// Opens the directory, creating it and its key (mode 0700 and 0600) if they are not there. Components are
    /// compiled in this process.
    ///
    /// # Errors
    /// What can't be created or read.
    pub fn open(engine: Engine, dir: &Path) -> Result<Self, ArtifactError> {
        Self::with_config(engine, dir, ArtifactCacheConfig::default())
    }

    /// The same, with settings.
    ///
    /// # Errors
    /// What can't be created or read.
    pub fn with_config(
        engine: Engine,
        dir: &Path,
        config: ArtifactCacheConfig,
    ) -> Result<Self, ArtifactError> {
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
            config,
            compilers: Semaphore::new(COMPILERS),
            key,
            compatibility,
            entries: Mutex::default(),
            memory_hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            compiles: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            temporary: AtomicU64::new(0),
        })))
    }

    /// The component with this digest (`sha256:…`), ready to run: from memory, from disk, or compiled from the file
    /// `wasm`, which is read only then. Many may ask for the same at once; it is loaded or compiled once.
    ///
    /// Imports that are not the host's are left open, as [`Engine::prepare_open`] does.
    ///
    /// A file that is compiled must have that digest, if it is a whole SHA-256. An artifact is found by the digest
    /// alone.
    ///
    /// # Errors
    /// Why it can't be run. Those who wait for the same attempt get the same answer.
    pub async fn prepare(&self, digest: &str, wasm: &Path) -> Result<Prepared, PrepareError> {
        let asked = Instant::now();
        let entry = self.0.entry(digest);
        if let Some(prepared) = self.0.in_use(&entry) {
            return Ok(prepared);
        }
        let _flight = entry.flight.lock().await;
        if let Some(prepared) = self.0.in_use(&entry) {
            return Ok(prepared);
        }
        if let Some(error) = entry.failure(asked) {
            return Err(error);
        }
        match self.0.load_or_compile(digest, wasm).await {
            Ok(prepared) => {
                *entry.prepared.lock() = Arc::downgrade(&prepared.0);
                *entry.failed.lock() = None;
                Ok(prepared)
            }
            Err(error) => {
                *entry.failed.lock() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// How often what was needed.
    pub fn stats(&self) -> ArtifactStats {
        ArtifactStats {
            memory_hits: self.0.memory_hits.load(Ordering::Relaxed),
            disk_hits: self.0.disk_hits.load(Ordering::Relaxed),
            compiles: self.0.compiles.load(Ordering::Relaxed),
            evictions: self.0.evictions.load(Ordering::Relaxed),
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

    async fn load_or_compile(self: &Arc<Self>, digest: &str, wasm: &Path) -> Result<Prepared, PrepareError> {
        let loaded = self.blocking({
            let digest = digest.to_owned();
            move |cache| cache.find(&digest)
        });
        if let Some(prepared) = loaded.await? {
            self.disk_hits.fetch_add(1, Ordering::Relaxed);
            return prepared;
        }
        let bytes = self.blocking({
            let (digest, wasm) = (digest.to_owned(), wasm.to_owned());
            move |cache| cache.read(&digest, &wasm)
        });
        let bytes = bytes.await??;
        let temporary = self.temporary_file()?;
        let turn = self.compilers.acquire().await;
        let flavour = self.config.compiler.compile(&self.engine, bytes, temporary.path()).await?;
        drop(turn);
        self.compiles.fetch_add(1, Ordering::Relaxed);
        let name = self.name(digest, flavour);
        let stored = self.blocking(move |cache| {
            cache.keep(temporary, &name)?;
            cache.evict();
            let code = cache.load(flavour, &name).ok_or_else(|| {
                PrepareError::CompilerFailed("its artifact can't be loaded, see the log".to_owned())
            })?;
            Prepared::link(&cache.engine, flavour, &code, &Imports::Open)
        });
        stored.await?
    }

    /// What is on disk already. Which flavour it is of is known once it has been compiled.
    fn find(&self, digest: &str) -> Option<Result<Prepared, PrepareError>> {
        [Flavour::Plain, Flavour::Concurrent].into_iter().find_map(|flavour| {
            let code = self.load(flavour, &self.name(digest, flavour))?;
            Some(Prepared::link(&self.engine, flavour, &code, &Imports::Open))
        })
    }

    /// Does what waits for the disk or a processor on a thread for that.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Result<T, PrepareError> {
        let cache = self.clone();
        tokio::task::spawn_blocking(move || work(&cache))
            .await
            .map_err(|error| PrepareError::Io(format!("the artifact cache failed: {error}")))
    }

    /// Reads a component that is to be compiled.
    fn read(&self, digest: &str, wasm: &Path) -> Result<Vec<u8>, PrepareError> {
        let failed = |error: io::Error| PrepareError::Io(format!("{}: {error}", wasm.display()));
        let limit = self.config.max_component_bytes;
        let mut bytes = Vec::new();
        File::open(wasm).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(PrepareError::TooLarge { limit });
        }
        // A file may change between the moment it was hashed and this one. What is compiled from it would be kept
        // under the wrong name for ever.
        check_digest(digest, wasm, &bytes)?;
        Kind::of(&bytes)?;
        Ok(bytes)
    }

    /// A file name that says everything the artifact depends on.
    fn name(&self, digest: &str, flavour: Flavour) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.compatibility);
        hasher.update(match flavour {
            Flavour::Plain => b"plain",
            Flavour::Concurrent => b"concurrent",
        });
        hasher.update(digest.as_bytes());
        hasher.finalize().to_hex()[..40].to_owned()
    }

    fn artifact(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension(ARTIFACT)
    }

    /// The artifact, if it is there and ours.
    fn load(&self, flavour: Flavour, name: &str) -> Option<Code> {
        let path = self.artifact(name);
        let tag = fs::read(tag_file(&path)).ok()?;
        let mut artifact = File::open(&path).ok()?;
        let actual = self.tag_of(name, &mut artifact).ok()?;
        // blake3 compares hashes in constant time.
        let expected = blake3::Hash::from_bytes(tag.try_into().ok()?);
        if actual != expected {
            tracing::warn!("{} is damaged or not ours; compiling again", path.display());
            return None;
        }
        // When it was last asked for. Without that it may be evicted too early, no more.
        let _ = artifact.set_modified(SystemTime::now());
        match deserialize_checked(&self.engine.runtime(flavour).ok()?.wasmtime, &artifact) {
            Ok(code) => Some(code),
            Err(error) => {
                tracing::warn!("{} can't be loaded; compiling again: {error:#}", path.display());
                None
            }
        }
    }

    fn tag_of(&self, name: &str, artifact: &mut impl Read) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes());
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match artifact.read(&mut chunk)? {
                0 => return Ok(hasher.finalize()),
                read => hasher.update(&chunk[..read]),
            };
        }
    }

    /// Gives what was compiled its tag and its name, so that each appears whole or not at all. A crash in between
    /// leaves a tag that does not fit, which is as good as none.
    fn keep(&self, compiled: Temporary, name: &str) -> Result<(), PrepareError> {
        let path = self.artifact(name);
        let failed = |error: io::Error| {
            PrepareError::Io(format!("cannot keep the artifact {}: {error}", path.display()))
        };
        let tag = File::open(compiled.path()).and_then(|mut file| self.tag_of(name, &mut file));
        let tag = tag.map_err(failed)?;
        compiled.rename(&path).map_err(failed)?;
        let temporary = self.temporary_file()?;
        fs::write(temporary.path(), tag.as_bytes()).map_err(failed)?;
        temporary.rename(&tag_file(&path)).map_err(failed)
    }

    fn temporary_file(&self) -> Result<Temporary, PrepareError> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| PrepareError::Io(format!("cannot write {}: {error}", path.display())))?;
        Ok(Temporary(path))
    }

    /// Makes room, if there is too little.
    fn evict(&self) {
        let in_use: HashSet<PathBuf> = {
            let entries = self.entries.lock();
            let in_use = entries.iter().filter(|(_, entry)| {
                Arc::strong_count(entry) > 1 || entry.prepared.lock().strong_count() > 0
            });
            let flavours = [Flavour::Plain, Flavour::Concurrent];
            in_use
                .flat_map(|(digest, _)| flavours.map(|flavour| self.artifact(&self.name(digest, flavour))))
                .collect()
        };
        match eviction::evict(&self.dir, self.config.max_bytes, &in_use) {
            Ok(evicted) => _ = self.evictions.fetch_add(evicted, Ordering::Relaxed),
            Err(error) => tracing::warn!("cannot make room in {}: {error}", self.dir.display()),
        }
    }
}

/// A file that is removed unless it gets another name.
struct Temporary(PathBuf);

impl Temporary {
    fn path(&self) -> &Path {
        &self.0
    }

    fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.0, to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Almost always it is not there any more.
        let _ = fs::remove_file(&self.0);
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

const ARTIFACT: &str = "cwasm";

fn tag_file(artifact: &Path) -> PathBuf {
    artifact.with_extension("tag")
}

#[expect(unsafe_code, reason = "machine code is loaded from a file; its keyed hash was checked first")]
fn deserialize_checked(engine: &wasmtime::Engine, artifact: &File) -> wasmtime::Result<Code> {
    // This very file, whatever its name means by now.
    let path = format!("/proc/self/fd/{}", artifact.as_raw_fd());
    let is_module = wasmtime::Engine::detect_precompiled_file(&path)? == Some(Precompiled::Module);
    // SAFETY: the file must be an artifact that wasmtime made, unchanged. It was made by `Code::precompile` and
    // kept by `Cache::keep`, because its content has a keyed hash only we could make; `Cache::load` has just checked
    // it. Nobody but this user can write to the directory (mode 0700), and we only ever replace files by renaming,
    // never write into them once they have their name, so the mapping does not change either.
    unsafe {
        if is_module {
            Module::deserialize_file(engine, path).map(Code::Module)
        } else {
            Component::deserialize_file(engine, path).map(Code::Component)
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
