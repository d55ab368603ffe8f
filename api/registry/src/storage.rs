//! The registry's directory.
//!
//! ```text
//! blobs/sha256/<hex>     an image's bytes
//! names/<name>.json      one record per name; `/` is written `+`, which no name contains
//! tmp/                   files being written; emptied on open
//! ```
//!
//! A push writes and syncs the blob before the record that mentions it, each as a temporary file renamed
//! into place, so a crash at any moment leaves the old state or the new one. Nothing is deleted short of
//! [`Registry::clear`]: a task definition may name an old digest for ever.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::{DigestCache, digest_file};
use crate::error::RegistryError;
use crate::reference::{Digest, ImageReference};
use crate::{MAX_IMAGE_BYTES, MAX_VERSIONS_PER_NAME, sniff};

const RECORD_VERSION: u32 = 1;

/// The built-in registry: a directory of images. Reads go to the disk each time; only `file:` digests
/// are cached. One process uses a directory at a time (the data directory's lock sees to that).
pub struct Registry {
    dir: PathBuf,
    /// Held while something is written: a push reads a record, changes it and writes it back.
    writing: Mutex<u64>,
    pub(crate) files: DigestCache,
}

/// What a push stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// `sha256:` and the hexadecimal digest of the bytes.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// One line of [`Registry::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageEntry {
    /// The name, for example `acme/web`.
    pub name: String,
    /// The tag; `None` for a digest no tag of this name points at any more.
    pub tag: Option<String>,
    /// `sha256:` and the hexadecimal digest.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
    /// When the tag (or, without one, the digest) was last pushed; milliseconds since 1970.
    pub pushed_at_ms: i64,
}

/// What is known of one name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, TagRecord>,
    pub(crate) digests: BTreeMap<Digest, DigestRecord>,
}

/// Where a tag points.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) digest: Digest,
    pushed_at_ms: i64,
}

/// One image pushed under a name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DigestRecord {
    pub(crate) size: u64,
    pushed_at_ms: i64,
}

impl Registry {
    /// Opens the registry in `dir`, creating it if it does not exist.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`] if the directories can't be created or written to.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let registry = Self { dir: dir.to_owned(), writing: Mutex::new(0), files: DigestCache::default() };
        for dir in [registry.blobs_dir(), registry.names_dir(), registry.tmp_dir()] {
            fs::create_dir_all(&dir).map_err(RegistryError::io("create directory", &dir))?;
        }
        // Whatever a crash left half-written.
        remove_files_in(&registry.tmp_dir())?;
        Ok(registry)
    }

    /// Stores an image under a reference: its tag (`latest` if it has none) then points at the bytes.
    /// With a digest in the reference the bytes must have it. The push is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWasm`], [`RegistryError::TooLarge`], [`RegistryError::DigestMismatch`] and
    /// [`RegistryError::TooManyVersions`] refuse the push; the others say what failed on disk.
    pub fn push(&self, reference: &ImageReference, bytes: &[u8]) -> Result<Pushed, RegistryError> {
        let size = u64::try_from(bytes.len()).expect("usize is at most 64 bits");
        if size > MAX_IMAGE_BYTES {
            return Err(RegistryError::TooLarge { bytes: size, bytes_max: MAX_IMAGE_BYTES });
        }
        if let Some(what) = sniff::what_else(&bytes[..bytes.len().min(sniff::SNIFF_BYTES)]) {
            return Err(RegistryError::NotWasm { what });
        }
        let digest = Digest::from_bytes(Sha256::digest(bytes).into());
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Err(RegistryError::DigestMismatch { reference: reference.clone(), actual: digest });
        }

        let mut writing = self.lock();
        let name = reference.name();
        let mut record = self.record(name)?.unwrap_or_else(|| Record {
            version: RECORD_VERSION,
            name: name.to_owned(),
            tags: BTreeMap::new(),
            digests: BTreeMap::new(),
        });
        let pushed_at_ms = now_ms();
        record.digests.insert(digest, DigestRecord { size, pushed_at_ms });
        if let Some(tag) = reference.effective_tag() {
            record.tags.insert(tag.to_owned(), TagRecord { digest, pushed_at_ms });
        }
        if record.tags.len().max(record.digests.len()) > MAX_VERSIONS_PER_NAME {
            let (name, count_max) = (name.to_owned(), MAX_VERSIONS_PER_NAME);
            return Err(RegistryError::TooManyVersions { name, count_max });
        }

        let blob = self.blob_path(&digest);
        // Content under its own digest never changes; a copy that has another is damaged, and pushing the
        // image again is how it is repaired.
        if !digest_file(&blob).is_ok_and(|found| found == digest.to_string()) {
            self.write_atomically(&mut writing, &blob, bytes)?;
        }
        let json = serde_json::to_vec_pretty(&record).expect("a record has string keys and no floats");
        self.write_atomically(&mut writing, &self.record_path(name), &json)?;
        tracing::debug!(%reference, %digest, size, "image pushed");
        Ok(Pushed { digest: digest.to_string(), size })
    }

    /// Everything in the registry, by name, then tag; digests without a tag come last under their name.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`] and [`RegistryError::DamagedRecord`].
    pub fn list(&self) -> Result<Vec<ImageEntry>, RegistryError> {
        let mut records = Vec::new();
        let dir = self.names_dir();
        for entry in fs::read_dir(&dir).map_err(RegistryError::io("list", &dir))? {
            let path = entry.map_err(RegistryError::io("list", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(record) = read_record(&path)?
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records.iter().flat_map(entries_of).collect())
    }

    /// Deletes every image and name.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`]; names are deleted first, so what remains after a failure is unreachable.
    pub fn clear(&self) -> Result<(), RegistryError> {
        let _writing = self.lock();
        for dir in [self.names_dir(), self.blobs_dir(), self.tmp_dir()] {
            remove_files_in(&dir)?;
            sync_dir(&dir)?;
        }
        Ok(())
    }

    /// The record of a name; `None` if nothing was ever pushed under it.
    pub(crate) fn record(&self, name: &str) -> Result<Option<Record>, RegistryError> {
        read_record(&self.record_path(name))
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.names_dir().join(format!("{}.json", name.replace('/', "+")))
    }

    fn blobs_dir(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn names_dir(&self) -> PathBuf {
        self.dir.join("names")
    }

    fn tmp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The guarded number names temporary files.
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_atomically(&self, serial: &mut u64, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
        *serial += 1;
        let temporary = self.tmp_dir().join(serial.to_string());
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        if let Err(error) = written {
            // A full disk should at least not stay full because of us.
            let _ = fs::remove_file(&temporary);
            return Err(RegistryError::io("write", &temporary)(error));
        }
        fs::rename(&temporary, path).map_err(RegistryError::io("replace", path))?;
        sync_dir(path.parent().expect("every path here is inside the registry's directory"))
    }
}

fn entries_of(record: &Record) -> Vec<ImageEntry> {
    let size_of = |digest: &Digest| record.digests.get(digest).map_or(0, |known| known.size);
    let entry = |tag: Option<&String>, digest: &Digest, pushed_at_ms: i64| ImageEntry {
        name: record.name.clone(),
        tag: tag.cloned(),
        digest: digest.to_string(),
        size: size_of(digest),
        pushed_at_ms,
    };
    let tagged = record.tags.iter().map(|(tag, to)| entry(Some(tag), &to.digest, to.pushed_at_ms));
    let untagged = record
        .digests
        .iter()
        .filter(|(digest, _)| !record.tags.values().any(|to| to.digest == **digest))
        .map(|(digest, known)| entry(None, digest, known.pushed_at_ms));
    tagged.chain(untagged).collect()
}

fn read_record(path: &Path) -> Result<Option<Record>, RegistryError> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RegistryError::io("read", path)(error)),
    };
    let damaged = |source| RegistryError::DamagedRecord { path: path.to_owned(), source };
    let record: Record = serde_json::from_slice(&json).map_err(damaged)?;
    if record.version != RECORD_VERSION {
        let text = format!("version {} is not {RECORD_VERSION}", record.version);
        return Err(damaged(serde::de::Error::custom(text)));
    }
    Ok(Some(record))
}

fn remove_files_in(dir: &Path) -> Result<(), RegistryError> {
    for entry in fs::read_dir(dir).map_err(RegistryError::io("list", dir))? {
        let path = entry.map_err(RegistryError::io("list", dir))?.path();
        if !path.is_dir() {
            fs::remove_file(&path).map_err(RegistryError::io("delete", &path))?;
        }
    }
    Ok(())
}

/// Makes renames and deletions in a directory survive a power loss.
fn sync_dir(dir: &Path) -> Result<(), RegistryError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(RegistryError::io("sync", dir))
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
