//! Nothing is left behind: what is made outside this process (containers, directories, cgroups, other processes) is
//! removed when its handle is dropped, and also when the run is interrupted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What undoes something.
type Undo = Box<dyn FnOnce() + Send>;

/// Everything that is to be undone, in the order it was done.
struct Undos {
    next: u64,
    undos: BTreeMap<u64, Undo>,
    /// Set when the process is about to end: nothing more may be begun.
    is_over: bool,
}

static UNDOS: Mutex<Undos> = Mutex::new(Undos { next: 0, undos: BTreeMap::new(), is_over: false });

fn undos() -> MutexGuard<'static, Undos> {
    UNDOS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Undoes something when dropped, or when the process is interrupted.
#[must_use = "it is undone when this is dropped"]
pub struct Guard(u64);

impl Guard {
    /// Remembers what undoes something. To be made *before* it is done, so that no moment is without.
    pub fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        let mut all = undos();
        if all.is_over {
            // The process ends at any moment; whoever is still at work must not make anything new.
            drop(all);
            // What has been made already is known to nobody else.
            undo();
            loop {
                std::thread::park();
            }
        }
        let id = all.next;
        all.next += 1;
        all.undos.insert(id, Box::new(undo));
        Self(id)
    }
}

impl Guard {
    /// Forgets it: there is nothing to undo any more.
    pub fn disarm(self) {
        undos().undos.remove(&self.0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let undo = undos().undos.remove(&self.0);
        if let Some(undo) = undo {
            undo();
        }
    }
}

/// A directory that goes with its handle.
pub struct Directory {
    path: PathBuf,
    _guard: Guard,
}

impl Directory {
    /// A new one, in the system's directory for temporary files.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new() -> std::io::Result<Self> {
        let path = tempfile::Builder::new().prefix("coracle-bench-").tempdir()?.keep();
        let guard = Guard::new({
            let path = path.clone();
            move || {
                let _ = std::fs::remove_dir_all(path);
            }
        });
        Ok(Self { path, _guard: guard })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Undoes everything, the last first, and lets nothing new begin.
pub fn undo_all() {
    loop {
        let mut all = undos();
        all.is_over = true;
        let last = all.undos.pop_last();
        drop(all);
        match last {
            Some((_, undo)) => undo(),
            None => return,
        }
    }
}

/// From now on an interrupt, a hang-up or a request to terminate undoes everything before the process ends, with the
/// exit code that shells use for that.
///
/// # Errors
/// If signals can't be listened for.
pub fn on_interrupt() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (ready, is_ready) = std::sync::mpsc::channel();
    // A thread of its own, because a bench may keep every worker of the runtime busy.
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listening = runtime.and_then(|runtime| {
            let _entered = runtime.enter();
            let signals = (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            );
            drop(_entered);
            Ok((runtime, signals))
        });
        let (runtime, (mut interrupt, mut terminate, mut hangup)) = match listening {
            Ok(listening) => listening,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
            }
        });
        eprintln!("\ninterrupted: cleaning up");
        undo_all();
        std::process::exit(code);
    })?;
    is_ready.recv().unwrap_or_else(|_| Err(std::io::Error::other("the signal thread has gone")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_guard_undoes_once() {
        let count = Arc::new(AtomicU32::new(0));
        let guard = Guard::new({
            let count = Arc::clone(&count);
            move || {
                let _before = count.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(guard);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_directory_goes_with_what_is_in_it() {
        let directory = Directory::new().unwrap();
        let path = directory.path().to_owned();
        std::fs::create_dir(path.join("deep")).unwrap();
        std::fs::write(path.join("deep/file"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
