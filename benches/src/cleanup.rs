//! Nothing is left behind: what is made outside this process (containers, directories, cgroups, other processes) is
//! removed when its handle is dropped, and also when the run is interrupted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::proc::end_group;

/// What undoes something.
type Undo = Box<dyn FnOnce() + Send>;

/// Everything that is to be undone, in the order it was done.
struct Undos {
    next: u64,
    undos: BTreeMap<u64, Undo>,
    /// How many threads are in a [`Section`].
    active: usize,
    /// Set when the process is about to end: nothing more may be begun.
    is_over: bool,
}

static UNDOS: Mutex<Undos> = Mutex::new(Undos { next: 0, undos: BTreeMap::new(), active: 0, is_over: false });
/// Told when a thread leaves its section.
static LEFT: Condvar = Condvar::new();

thread_local! {
    /// How many sections this thread is in, one within the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

fn undos() -> MutexGuard<'static, Undos> {
    UNDOS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is not to be cut in two: while a thread is in one, the process does not end.
struct Section(PhantomData<*const ()>);

impl Section {
    /// Does not come back once the process is about to end: whoever is still at work then must neither make anything new
    /// nor begin to undo what is being undone.
    fn enter() -> Self {
        if DEPTH.get() == 0 {
            let mut all = undos();
            if all.is_over {
                drop(all);
                loop {
                    std::thread::park();
                }
            }
            all.active += 1;
        }
        Self::within()
    }

    /// One that is counted already.
    fn within() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            undos().active -= 1;
            LEFT.notify_all();
        }
    }
}

/// The moment between something that is made and the guard that knows of it: nothing is undone before that is over, so
/// that nothing can slip through. To be held no longer than it takes to make one thing.
pub(crate) struct Beginning(Section);

impl Beginning {
    /// Does not come back once the process is about to end.
    pub(crate) fn new() -> Self {
        Self(Section::enter())
    }

    /// What undoes the thing that has been made.
    pub(crate) fn guard(self, undo: impl FnOnce() + Send + 'static) -> Guard {
        let mut all = undos();
        let id = all.next;
        all.next += 1;
        all.undos.insert(id, Box::new(undo));
        drop(all);
        drop(self.0);
        Guard(id)
    }
}

/// Undoes something when dropped, or when the process is interrupted.
#[must_use = "it is undone when this is dropped"]
pub struct Guard(u64);

impl Guard {
    /// Remembers what undoes something. To be made *before* it is done, so that no moment is without.
    pub fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        Beginning::new().guard(undo)
    }

    /// Forgets it: there is nothing to undo any more.
    pub fn disarm(self) {
        undos().undos.remove(&self.0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The process must not end in the middle of it, with half of it done and nobody who knows.
        let _section = Section::enter();
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
        Self::new_in(&std::env::temp_dir())
    }

    /// A new one in this directory.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new_in(parent: &Path) -> std::io::Result<Self> {
        let beginning = Beginning::new();
        let prefix = format!("coracle-bench-{}-", std::process::id());
        let path = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?.keep();
        let guard = beginning.guard({
            let path = path.clone();
            move || {
                detach_below(&path);
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

/// Takes away what is mounted in a directory: engines that are killed leave the root of a container.
fn detach_below(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let below: Vec<&Path> = places.filter(|place| place.starts_with(directory)).collect();
    // What was mounted last may lie in what was mounted before.
    for place in below.into_iter().rev() {
        let mut umount = Command::new("umount");
        umount.arg("--lazy").arg(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = umount.status();
    }
}

/// Starts a process in a group of its own. The guard ends the whole group, for a server has workers, and waits until the
/// process has gone; to be forgotten once somebody else has waited for it.
///
/// # Errors
/// If it can't be started.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<(Child, Guard)> {
    let beginning = Beginning::new();
    let child = command.process_group(0).spawn()?;
    let id = child.id();
    Ok((child, beginning.guard(move || end_group(id))))
}

/// Runs a program to its end, as [`Command::output`] does, and ends it when this process is interrupted.
///
/// # Errors
/// If it can't be run.
pub(crate) fn output(command: &mut Command) -> std::io::Result<Output> {
    let (child, guard) = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let output = child.wait_with_output();
    guard.disarm();
    output
}

/// Undoes everything, the last first, and lets nothing new begin. What others are just undoing is awaited.
pub fn undo_all() {
    let mut all = undos();
    all.is_over = true;
    loop {
        // Whoever was about to make something has made it by then, and its guard.
        while all.active > 0 {
            all = LEFT.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        let Some((_, undo)) = all.undos.pop_last() else { return };
        all.active += 1;
        drop(all);
        let section = Section::within();
        undo();
        drop(section);
        all = undos();
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
