//! A store in one redb file, for one process on one machine.
//!
//! One thread writes. It takes everything that waits in its queue, checks each commit against the state
//! that has the ones before it, writes all of them in one redb transaction with one fsync, and only
//! then publishes the new state and answers: under load the fsync is shared, and what was answered
//! survives a crash.
//!
//! ```text
//! commit() ─ encode ─▶ queue ─▶ writer: check all ─▶ one transaction, fsync ─▶ publish ─▶ answer all
//! ```

mod format;
mod queue;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use ::redb::{Builder, Database, DatabaseError};
use coracle_types::{Changes, State};
use tokio::sync::{oneshot, watch};

use self::queue::{Queue, Request};
use crate::core::Published;
use crate::{BoxFuture, CommitError, Store};

/// Bytes of pages redb may keep. Small, because reads come from the state in memory.
const CACHE_BYTES: usize = 32 << 20;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store in this one, has it open.
    #[error("the database {0} is in use by another process; stop that one, or use another data directory")]
    InUse(PathBuf),
    /// A newer version of the program wrote it.
    #[error(
        "the database {path} has format {found}, and this version knows formats up to {known}; use the version that wrote it, or a newer one"
    )]
    Version {
        /// Where it is.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format this version reads.
        known: u64,
    },
    /// It was read, but a record in it makes no sense.
    #[error("the database {path} holds a record that can't be read, {key}: {reason}")]
    Corrupt {
        /// Where it is.
        path: PathBuf,
        /// The record's key as it is stored.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk, or redb, refused.
    #[error("could not open the database {path}")]
    Io {
        /// Where it is.
        path: PathBuf,
        /// What was refused.
        #[source]
        source: ::redb::Error,
    },
}

/// A store in one file; every commit is fsync'd before it is answered.
#[derive(Debug)]
pub struct RedbStore {
    published: Arc<Published>,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the database at `path`, or makes one there; the folder must exist. Reads all of it, so it
    /// blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let refused = |source: ::redb::Error| OpenError::Io { path: path.to_owned(), source };
        ensure_file(path).map_err(|error| refused(error.into()))?;
        let database = open_file(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
            error => refused(error.into()),
        })?;
        Self::start(path, database).map_err(|error| match error {
            StartError::Open(error) => error,
            StartError::Redb(error) => refused(error),
        })
    }

    fn start(path: &Path, database: Database) -> Result<Self, StartError> {
        format::ensure_tables(&database, path)?;
        let state = format::load(&database, path)?;
        let published = Arc::new(Published::new(state));
        let queue = Arc::new(Queue::new());
        let writer =
            writer::Writer::new(path.to_owned(), database, Arc::clone(&published), Arc::clone(&queue));
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StartError::Redb(error.into()))?;
        Ok(Self { published, queue, writer: Some(writer) })
    }
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE_BYTES).create(path)
}

/// An error before it knows the path.
enum StartError {
    Open(OpenError),
    Redb(::redb::Error),
}

impl<E: Into<::redb::Error>> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

/// Makes the file, readable by its owner only (records hold environment variables), and makes its name
/// durable: the fsyncs of later commits cover its content, not its directory entry.
fn ensure_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => {
            file.sync_all()?;
            #[cfg(unix)]
            if let Some(folder) = path.parent() {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Arc<State> {
        self.published.snapshot()
    }

    fn commit(
        &self,
        base: Arc<State>,
        changes: Changes,
    ) -> BoxFuture<'static, Result<Arc<State>, CommitError>> {
        let queue = Arc::clone(&self.queue);
        Box::pin(async move {
            let permit = queue.admit().await?;
            // Encoding here spreads the work over the callers' threads; the writer only copies.
            let writes = format::encode(&changes);
            let (answer, answered) = oneshot::channel();
            queue.push(Request { base, changes, writes, answer, _permit: permit })?;
            answered.await.unwrap_or(Err(CommitError::Closed))
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.published.watch()
    }
}

impl Drop for RedbStore {
    /// Commits what is queued, then closes the file, so that it can be opened again at once.
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}
