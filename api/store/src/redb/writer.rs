//! The one thread that writes.

use std::path::PathBuf;
use std::sync::Arc;

use ::redb::{Database, Durability};
use coracle_types::{Key, State};

use super::queue::{Queue, Request};
use super::{StartError, format};
use crate::CommitError;
use crate::core::{Published, admit};

pub(super) struct Writer {
    path: PathBuf,
    /// None after the disk refused: redb then refuses everything, until the file is opened again.
    database: Option<Database>,
    published: Arc<Published>,
    queue: Arc<Queue>,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        database: Database,
        published: Arc<Published>,
        queue: Arc<Queue>,
    ) -> Self {
        Self { path, database: Some(database), published, queue }
    }

    /// Commits until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut failed = false;
        while let Some(batch) = self.queue.take() {
            let written = match self.reopen() {
                Ok(()) => self.commit(batch),
                Err(error) => {
                    batch.into_iter().for_each(|request| request.refuse(&error));
                    Err(error)
                }
            };
            match written {
                Ok(()) if failed => tracing::info!("the state can be written again"),
                Err(error) => {
                    self.database = None;
                    if !failed {
                        // Once is enough.
                        tracing::error!(%error, "the state can't be written; it is tried again with each change");
                    }
                    failed = true;
                    continue;
                }
                Ok(()) => {}
            }
            failed = false;
        }
    }

    /// Opens the file again after the disk refused, and goes on from what is in it: the changes of the commit that
    /// failed may be there or not.
    fn reopen(&mut self) -> Result<(), String> {
        if self.database.is_some() {
            return Ok(());
        }
        let database = super::open_file(&self.path).map_err(|error| error.to_string())?;
        let state = format::load(&database, &self.path).map_err(|error| match error {
            StartError::Open(error) => error.to_string(),
            StartError::Redb(error) => error.to_string(),
        })?;
        if state.revision != self.published.snapshot().revision {
            self.published.publish(Arc::new(state));
        }
        self.database = Some(database);
        Ok(())
    }

    /// Commits everything in `batch` that does not conflict, then answers all of it. Conflicts, too,
    /// are answered only now: whoever is told of one must be able to read what it lost against.
    fn commit(&self, mut batch: Vec<Request>) -> Result<(), String> {
        let before = self.published.snapshot();
        let mut next = State::clone(&before);
        let verdicts: Vec<Result<u64, Key>> = batch
            .iter()
            .map(|request| {
                admit(&mut next, &request.base, &request.changes)?;
                Ok(next.revision)
            })
            .collect();

        let written = if next.revision == before.revision {
            Ok(before)
        } else {
            self.write(&mut batch, &verdicts, next.revision).map_err(|error| error.to_string()).map(|()| {
                let next = Arc::new(next);
                self.published.publish(Arc::clone(&next));
                next
            })
        };

        // Those that lost go first: they queue up again before those that won, so that writers who
        // want the same record take turns, and nobody loses for ever.
        let (lost, won): (Vec<_>, Vec<_>) =
            batch.into_iter().zip(verdicts).partition(|(_, verdict)| verdict.is_err());
        for (request, verdict) in lost.into_iter().chain(won) {
            let answer = match (&written, verdict) {
                (Err(error), _) => Err(CommitError::Io(error.clone())),
                (Ok(_), Err(key)) => Err(CommitError::Conflict(key)),
                (Ok(state), Ok(_)) => Ok(Arc::clone(state)),
            };
            // Nobody waiting any more is fine.
            let _ = request.answer.send(answer);
        }
        written.map(|_| ())
    }

    /// One redb transaction, on the disk when this returns.
    fn write(
        &self,
        batch: &mut [Request],
        verdicts: &[Result<u64, Key>],
        last: u64,
    ) -> Result<(), ::redb::Error> {
        let Some(database) = &self.database else { return Err(::redb::Error::PreviousIo) };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        for (request, verdict) in batch.iter_mut().zip(verdicts) {
            if let Ok(revision) = verdict {
                format::write(&transaction, &mut request.writes, *revision)?;
            }
        }
        format::write_revision(&transaction, last)?;
        transaction.commit()?;
        Ok(())
    }
}

impl Drop for Writer {
    /// However the thread ends, also by a panic: nobody is left waiting for an answer that won't come.
    fn drop(&mut self) {
        self.queue.close();
        drop(self.queue.take());
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::Changes;
    use tokio::sync::oneshot;

    use super::*;

    /// A disk that was full makes redb refuse everything from then on.
    #[tokio::test]
    async fn after_the_disk_refused_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let (published, queue) = (Arc::new(Published::new(State::default())), Arc::new(Queue::new()));
        let database = super::super::open_file(&path).unwrap();
        assert!(format::ensure_tables(&database, &path).is_ok());
        let mut writer = Writer::new(path.clone(), database, Arc::clone(&published), queue);
        // As after a failed commit; meanwhile the path leads nowhere.
        writer.database = None;
        writer.path = folder.path().join("nowhere").join("state.redb");
        assert!(writer.reopen().is_err());
        writer.path = path;
        assert_eq!(writer.reopen(), Ok(()));
        assert!(writer.database.is_some());
        assert_eq!(published.snapshot().revision, 0);
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_leaves_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let database = Database::create(&path).unwrap();
        let (published, queue) = (Arc::new(Published::new(State::default())), Arc::new(Queue::new()));
        let writer = Writer::new(path, database, published, Arc::clone(&queue));
        let permit = queue.admit().await.unwrap();
        let request = |permit| {
            let (answer, answered) = oneshot::channel();
            let base = Arc::new(State::default());
            let (changes, writes) = (Changes::new(), Vec::new());
            (Request { base, changes, writes, answer, _permit: permit }, answered)
        };
        let (waiting, answered) = request(permit);
        let (late, _) = request(queue.admit().await.unwrap());
        queue.push(waiting).unwrap();
        // As a panic does while it unwinds.
        drop(writer);
        assert!(answered.await.is_err());
        assert_eq!(queue.push(late), Err(CommitError::Closed));
        assert!(matches!(queue.admit().await, Err(CommitError::Closed)));
    }
}
