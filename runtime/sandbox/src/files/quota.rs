//! How much may be in a directory.
//!
//! Every write is charged with what it adds before it is made, and what is deleted is not given back at once: who
//! deleted what, under how many names, and whether somebody still has it open, nobody can say without a look. So the
//! count is never less than what is there, and when it reaches the limit the directory is measured, once for all who
//! wait, by a thread that may block. The time that takes is charged to the guest that asked. A full directory in which
//! nothing has been deleted since is not measured again.
//!
//! What is counted is the length of files in blocks, and a block for each file, directory and link. A hole counts as if
//! it were written: what fills it later costs nothing more, and so can't fill a disk.

use super::directory::Directory;
use super::walk::{self, ENTRY, blocks};
use crate::cpu::{CpuBudget, thread_cpu};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The most that may be in a directory, over all guests it is lent to. Clones count together.
#[derive(Clone)]
pub struct DiskQuota(Arc<Inner>);

struct Inner {
    root: Directory,
    limit: u64,
    parent: Option<DiskQuota>,
    state: Mutex<State>,
    /// Held by whoever measures.
    measuring: tokio::sync::Mutex<()>,
    /// Files that were opened in it: one whose last name is gone takes space until it is closed.
    watched: Mutex<Vec<Weak<File>>>,
}

/// Before it is measured for the first time: nothing fits.
const UNKNOWN: u64 = u64::MAX;

struct State {
    /// Bytes that are there, at most: what was measured, and all that was charged since.
    used: u64,
    /// Of these, what is being written and may not be there yet.
    in_flight: u64,
    /// How often something may have become less.
    frees: u64,
    /// `frees` when it was measured last, where all was seen: until there are more, another look would find no less.
    measured: Option<u64>,
    /// How often something got another name. What moves while the directory is measured may be missed.
    moves: u64,
}

/// There is no room for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoSpace;

impl DiskQuota {
    /// At most `limit_bytes` in `root`, what is there already included. Measures nothing yet.
    #[must_use]
    pub fn new(root: Directory, limit_bytes: u64) -> Self {
        Self::with_parent(root, limit_bytes, None)
    }

    /// A directory in this one, with a limit of its own: what is written there counts in both.
    #[must_use]
    pub fn child(&self, root: Directory, limit_bytes: u64) -> Self {
        Self::with_parent(root, limit_bytes, Some(self.clone()))
    }

    fn with_parent(root: Directory, limit: u64, parent: Option<DiskQuota>) -> Self {
        // The first charge finds it full, and measures.
        let state = State { used: UNKNOWN, in_flight: 0, frees: 0, measured: None, moves: 0 };
        Self(Arc::new(Inner {
            root,
            limit,
            parent,
            state: Mutex::new(state),
            measuring: tokio::sync::Mutex::default(),
            watched: Mutex::default(),
        }))
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Whether both are the same, so that what moves from one to the other changes nothing.
    pub(super) fn is(&self, other: &DiskQuota) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// This one and those it counts in, innermost first.
    fn chain(&self) -> impl Iterator<Item = &DiskQuota> {
        std::iter::successors(Some(self), |quota| quota.0.parent.as_ref())
    }

    /// Charges bytes that are about to be written, and measures what is there if they seem not to fit. `payer` pays for
    /// that.
    pub(super) async fn charge(&self, bytes: u64, payer: &CpuBudget) -> Result<Charge, NoSpace> {
        for _ in 0..=self.chain().count() {
            match self.try_charge(bytes) {
                Ok(charge) => return Ok(charge),
                Err(full) => full.look_for_room(bytes, payer).await?,
            }
        }
        Err(NoSpace)
    }

    /// Charges all of the chain, or answers which of it is full.
    pub(super) fn try_charge(&self, bytes: u64) -> Result<Charge, &DiskQuota> {
        if bytes == 0 {
            // What adds nothing fits, also where there is too much already.
            return Ok(Charge { quota: self.clone(), bytes });
        }
        for (depth, quota) in self.chain().enumerate() {
            let mut state = quota.0.state.lock();
            if state.used.saturating_add(bytes) > quota.0.limit {
                drop(state);
                for quota in self.chain().take(depth) {
                    quota.0.state.lock().end(bytes, true);
                }
                return Err(quota);
            }
            state.used += bytes;
            state.in_flight += bytes;
        }
        Ok(Charge { quota: self.clone(), bytes })
    }

    /// Measures, unless nothing can have changed.
    async fn look_for_room(&self, bytes: u64, payer: &CpuBudget) -> Result<(), NoSpace> {
        let inner = &self.0;
        let _one_at_a_time = inner.measuring.lock().await;
        let fits = |state: &State| state.used.saturating_add(bytes) <= inner.limit;
        let look = {
            let state = inner.state.lock();
            if fits(&state) {
                // Somebody has measured meanwhile.
                return Ok(());
            }
            if !state.is_stale() {
                return Err(NoSpace);
            }
            state.look()
        };
        let quota = self.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let started = thread_cpu();
            let measured = quota.measure();
            (measured, thread_cpu().saturating_sub(started))
        });
        let (measured, took) = measured.await.unwrap_or((None, 0));
        payer.bill(Duration::from_nanos(took));
        let mut state = inner.state.lock();
        state.take_in(&look, measured.as_ref());
        if fits(&state) { Ok(()) } else { Err(NoSpace) }
    }

    /// What is in it. None if it can't be read.
    fn measure(&self) -> Option<Measured> {
        let named = walk::measure(self.0.root.as_fd()).ok()?;
        let open: Vec<Arc<File>> = {
            let mut watched = self.0.watched.lock();
            watched.retain(|file| file.strong_count() > 0);
            watched.iter().filter_map(Weak::upgrade).collect()
        };
        let mut seen = HashSet::new();
        let mut unlinked = 0_u64;
        for file in open {
            let metadata = file.metadata().ok()?;
            if metadata.nlink() == 0 && seen.insert((metadata.dev(), metadata.ino())) {
                unlinked = unlinked.saturating_add(ENTRY).saturating_add(blocks(metadata.len()));
            }
        }
        Some(Measured { bytes: named.saturating_add(unlinked), unlinked: !seen.is_empty() })
    }

    /// Counts a file that was opened in it, once nobody can find it any more.
    pub(super) fn watch(&self, file: &Arc<File>) {
        for quota in self.chain() {
            let mut watched = quota.0.watched.lock();
            // Doubled since those that are closed were last forgotten: a constant for each.
            if watched.len() >= 64 && watched.len() == watched.capacity() {
                watched.retain(|file| file.strong_count() > 0);
                let room = watched.len();
                watched.reserve_exact(room.max(64));
            }
            watched.push(Arc::downgrade(file));
        }
    }

    /// Something may take less space now.
    pub(super) fn freed(&self) {
        for quota in self.chain() {
            quota.0.state.lock().frees += 1;
        }
    }

    /// Something gets another name. Called before and after.
    pub(super) fn moved(&self) {
        for quota in self.chain() {
            quota.0.state.lock().moves += 1;
        }
    }
}

struct Measured {
    bytes: u64,
    /// Whether part of it is in files without a name, which are gone when they are closed.
    unlinked: bool,
}

/// How things were when somebody began to measure.
struct Look {
    used: u64,
    in_flight: u64,
    frees: u64,
    moves: u64,
}

impl State {
    /// Whether a look may find less than `used`.
    fn is_stale(&self) -> bool {
        self.measured != Some(self.frees)
    }

    fn look(&self) -> Look {
        Look { used: self.used, in_flight: self.in_flight, frees: self.frees, moves: self.moves }
    }

    /// Takes in what was found. None if it could not be read: what is not known to fit does not.
    fn take_in(&mut self, look: &Look, measured: Option<&Measured>) {
        let Some(&Measured { bytes: found, unlinked }) = measured else {
            self.used = UNKNOWN;
            self.measured = None;
            return;
        };
        // What was being written when it began may or may not have been seen; what was charged since, too.
        let now = match look.used {
            UNKNOWN => found.saturating_add(look.in_flight),
            used => found.saturating_add(look.in_flight).saturating_add(self.used).saturating_sub(used),
        };
        let moved = self.moves != look.moves;
        self.used = if moved { self.used.max(now) } else { now };
        self.measured = (!moved && !unlinked).then_some(look.frees);
    }

    /// The end of what was charged; with `refund` it has not been written.
    fn end(&mut self, bytes: u64, refund: bool) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if refund && self.used != UNKNOWN {
            self.used = self.used.saturating_sub(bytes);
        }
    }
}

impl fmt::Debug for DiskQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskQuota {{ {} bytes in {} }}", self.0.limit, self.0.root.path().display())
    }
}

/// What is being written, until dropped.
pub(super) struct Charge {
    quota: DiskQuota,
    bytes: u64,
}

impl Charge {
    /// It has not been written after all.
    pub(super) fn refund(mut self) {
        self.end(true);
    }

    fn end(&mut self, refund: bool) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            for quota in self.quota.chain() {
                quota.0.state.lock().end(bytes, refund);
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// What a file grows by when it is written up to `end`.
pub(super) fn growth(file: &File, end: u64) -> std::io::Result<u64> {
    Ok(blocks(end).saturating_sub(blocks(file.metadata()?.len())))
}

/// What a file grows by when so many bytes are appended.
pub(super) fn growth_at_end(file: &File, bytes: u64) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    Ok(blocks(length.saturating_add(bytes)).saturating_sub(blocks(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn quota(limit: u64) -> (tempfile::TempDir, DiskQuota, CpuBudget) {
        let root = tempfile::tempdir().unwrap();
        let quota = DiskQuota::new(Directory::open(root.path()).unwrap(), limit);
        (root, quota, CpuBudget::unlimited())
    }

    #[tokio::test]
    async fn what_is_there_already_counts() {
        let (root, quota, payer) = quota(64 * KIB);
        std::fs::write(root.path().join("old"), vec![0; 40 * 1024]).unwrap();
        assert!(quota.charge(32 * KIB, &payer).await.is_err());
        assert!(quota.charge(16 * KIB, &payer).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_deleted_comes_back_when_it_is_wanted() {
        let (root, quota, payer) = quota(64 * KIB);
        let path = root.path().join("file");
        let charge = quota.charge(60 * KIB, &payer).await.unwrap();
        std::fs::write(&path, vec![0; 56 * 1024]).unwrap();
        drop(charge);
        assert!(quota.charge(8 * KIB, &payer).await.is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(quota.charge(8 * KIB, &payer).await.is_err(), "nobody has said that something is gone");
        quota.freed();
        assert!(quota.charge(8 * KIB, &payer).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_without_a_name_counts_until_it_is_closed() {
        let (root, quota, payer) = quota(64 * KIB);
        let path = root.path().join("file");
        let charge = quota.charge(60 * KIB, &payer).await.unwrap();
        std::fs::write(&path, vec![0; 56 * 1024]).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        quota.watch(&file);
        drop(charge);
        std::fs::remove_file(&path).unwrap();
        quota.freed();
        assert!(quota.charge(8 * KIB, &payer).await.is_err());
        drop(file);
        assert!(quota.charge(8 * KIB, &payer).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_being_written_counts_before_it_is_there() {
        let (_root, quota, payer) = quota(64 * KIB);
        let first = quota.charge(40 * KIB, &payer).await.unwrap();
        quota.freed();
        assert!(quota.charge(40 * KIB, &payer).await.is_err());
        first.refund();
        assert!(quota.charge(40 * KIB, &payer).await.is_ok());
    }

    #[test]
    fn what_happens_while_it_is_measured_makes_no_room() {
        let measured = |bytes| Some(Measured { bytes, unlinked: false });
        let begin = || {
            let state = State { used: 60, in_flight: 0, frees: 0, measured: None, moves: 0 };
            let look = state.look();
            (state, look)
        };
        let (mut state, look) = begin();
        state.take_in(&look, measured(10).as_ref());
        assert_eq!((state.used, state.is_stale()), (10, false));
        // What moved may have been missed.
        let (mut state, look) = begin();
        state.moves += 2;
        state.take_in(&look, measured(10).as_ref());
        assert_eq!((state.used, state.is_stale()), (60, true));
        // What was written may have been, too.
        let (mut state, look) = begin();
        state.used += 5;
        state.take_in(&look, measured(10).as_ref());
        assert_eq!(state.used, 15);
        // What was deleted may still have been seen.
        let (mut state, look) = begin();
        state.frees += 1;
        state.take_in(&look, measured(60).as_ref());
        assert_eq!((state.used, state.is_stale()), (60, true));
        let (mut state, look) = begin();
        state.take_in(&look, None);
        assert_eq!((state.used, state.is_stale()), (UNKNOWN, true));
    }

    #[tokio::test]
    async fn a_child_counts_in_its_parent() {
        let (root, task, payer) = quota(64 * KIB);
        let own = Directory::open(root.path()).unwrap().make_child("own").unwrap();
        let own = task.child(own, 32 * KIB);
        assert!(own.charge(40 * KIB, &payer).await.is_err(), "over its own limit");
        let charge = own.charge(24 * KIB, &payer).await.unwrap();
        assert!(task.charge(48 * KIB, &payer).await.is_err());
        assert!(own.charge(16 * KIB, &payer).await.is_err());
        charge.refund();
        assert!(task.charge(48 * KIB, &payer).await.is_ok());
    }
}
