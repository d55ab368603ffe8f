//! The one thread that writes.

use std::sync::Arc;

use ::redb::{Database, Durability};
use coracle_types::{Key, State};

use super::format;
use super::queue::{Queue, Request};
use crate::CommitError;
use crate::core::{Published, admit};

pub(super) struct Writer {
    database: Database,
    published: Arc<Published>,
    queue: Arc<Queue>,
}

impl Writer {
    pub(super) fn new(database: Database, published: Arc<Published>, queue: Arc<Queue>) -> Self {
        Self { database, published, queue }
    }

    /// Commits until the queue is closed and empty.
    pub(super) fn run(self) {
        let mut failed = false;
        while let Some(batch) = self.queue.take() {
            if let Err(error) = self.commit(batch)
                && !failed
            {
                // Once is enough: after an I/O error redb refuses everything until it is reopened.
                failed = true;
                tracing::error!(%error, "the state can't be written; nothing can be changed until a restart");
            }
        }
    }

    /// Commits everything in `batch` that does not conflict, then answers all of it. Conflicts, too,
    /// are answered only now: whoever is told of one must be able to read what it lost against.
    fn commit(&self, mut batch: Vec<Request>) -> Result<(), ::redb::Error> {
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
            self.write(&mut batch, &verdicts, next.revision).map(|()| {
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
                (Err(error), _) => Err(CommitError::Io(error.to_string())),
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
        let mut transaction = self.database.begin_write()?;
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

    #[tokio::test]
    async fn a_writer_that_is_gone_leaves_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join("state.redb")).unwrap();
        let (published, queue) = (Arc::new(Published::new(State::default())), Arc::new(Queue::new()));
        let writer = Writer::new(database, published, Arc::clone(&queue));
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
