//! Files as guests see them: directories of the host, lent to a guest, with bounds on what a guest may fill and hold.
//!
//! Paths never lead out of a lent directory, and what is read-only stays as it is: that is wasmtime's work. Here is what
//! wasmtime leaves open:
//!
//! | module | what it is |
//! |---|---|
//! | `directory` | a directory that is opened once: what was checked is what is lent, whatever its path leads to later |
//! | `quota` | how much may be in a directory, counted as it is written and measured when it seems full |
//! | `walk` | measuring: what is in a directory, however deep |
//! | `listing` | reading a directory in pieces, so that its size is nobody's concern |
//! | `p1`, `p2`, `p3` | the functions of `wasi:filesystem` that open, write, make, move and list, in three versions |
//!
//! All containers of a task share one [`Files`], in which the open ones are counted.

mod directory;
mod listing;
mod p1;
mod p2;
mod p3;
mod quota;
mod walk;

use crate::cpu::CpuBudget;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode};
use wasmtime_wasi::{FsPerms, TrappableError};

pub use directory::Directory;
pub use quota::DiskQuota;

pub(crate) use p1::{P1Files, link as link_p1};
pub(crate) use p2::link as link_p2;
pub(crate) use p3::link as link_p3;

use quota::{Charge, NoSpace};

/// A host directory lent to a guest.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The directory on the host.
    pub host: Directory,
    /// The absolute path the guest sees it at, such as `/data`.
    pub guest: String,
    /// Whether every write, create, rename and delete below it is refused.
    pub read_only: bool,
    /// How much may be in it. Mounts with the same quota are counted together; nothing is renamed or linked from one
    /// quota to another.
    pub quota: Option<DiskQuota>,
}

impl Mount {
    /// Lends a directory for reading and writing, without a bound but the disk's.
    pub fn new(host: Directory, guest: impl Into<String>) -> Self {
        Mount { host, guest: guest.into(), read_only: false, quota: None }
    }
}

/// The files that guests hold open, of one container or of several that share it. Clones count together.
#[derive(Clone, Debug)]
pub struct Files(Arc<Mutex<OpenFiles>>);

#[derive(Debug)]
struct OpenFiles {
    limit: usize,
    /// By the address of what is held. A descriptor, the streams made of it and the work under way on a thread all share
    /// it: the file is closed when the last of them goes, and that is noticed here when its place is wanted.
    held: HashMap<usize, Held>,
    /// How many there may be until those that are closed are looked for again.
    look_again: usize,
}

#[derive(Debug)]
struct Held {
    handle: Weak<dyn Any + Send + Sync>,
    quota: Option<DiskQuota>,
}

impl Files {
    /// The default: what Linux lets a process open unless it asks for more.
    pub const DEFAULT_LIMIT: u32 = 1024;

    /// At most so many files and directories may be open at the same time. At least 1.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(OpenFiles { limit, held: HashMap::new(), look_again: 64.min(limit) })))
    }

    /// Files and directories that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        let mut files = self.0.lock();
        files.forget_closed();
        files.held.len()
    }

    /// Whether another may be opened.
    fn has_room(&self) -> bool {
        let mut files = self.0.lock();
        if files.held.len() >= files.look_again {
            files.forget_closed();
        }
        files.held.len() < files.limit
    }

    /// Counts what was opened.
    fn hold(&self, handle: &Arc<impl Any + Send + Sync>, quota: Option<&DiskQuota>) {
        let handle: Arc<dyn Any + Send + Sync> = handle.clone();
        let held = Held { handle: Arc::downgrade(&handle), quota: quota.cloned() };
        self.0.lock().held.insert(address(&handle), held);
    }

    /// Whether this has been counted.
    fn knows(&self, address: usize) -> bool {
        self.0.lock().held.contains_key(&address)
    }

    /// The quota of what was opened here, if it has one.
    fn quota(&self, address: usize) -> Option<DiskQuota> {
        self.0.lock().held.get(&address)?.quota.clone()
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LIMIT)
    }
}

impl OpenFiles {
    fn forget_closed(&mut self) {
        self.held.retain(|_, held| held.handle.strong_count() > 0);
        // Looked for again when as many have been opened as are open: each costs a constant then.
        self.look_again = (self.held.len() * 2).max(64).min(self.limit);
    }
}

fn address<T: ?Sized>(handle: &Arc<T>) -> usize {
    Arc::as_ptr(handle).cast::<()>() as usize
}

/// What a descriptor is open on.
fn handle(descriptor: &Descriptor) -> &Arc<std::fs::File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(dir) => &dir.dir,
    }
}

/// The directories lent to a container's guests, and the files they have open.
pub(crate) struct Lent {
    directories: Vec<LentDirectory>,
    files: Files,
    /// Pays for measuring.
    cpu: CpuBudget,
    has_quotas: bool,
}

struct LentDirectory {
    dir: Dir,
    guest: String,
    quota: Option<DiskQuota>,
}

impl Lent {
    pub(crate) fn new(mounts: &[Mount], files: Files, cpu: CpuBudget) -> std::io::Result<Lent> {
        let lend = |mount: &Mount| {
            let (perms, mode) = match mount.read_only {
                true => (FsPerms::ReadOnly, OpenMode::READ),
                false => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            };
            let dir = Dir::new(mount.host.try_clone_file()?, perms, mode, false);
            Ok(LentDirectory { dir, guest: mount.guest.clone(), quota: mount.quota.clone() })
        };
        let directories = mounts.iter().map(lend).collect::<std::io::Result<Vec<_>>>()?;
        let has_quotas = directories.iter().any(|lent| lent.quota.is_some());
        Ok(Lent { directories, files, cpu, has_quotas })
    }

    /// Each directory, as the guest gets it, and where.
    fn descriptors(&self) -> impl Iterator<Item = (Descriptor, String)> {
        self.directories.iter().map(|lent| (Descriptor::Dir(lent.dir.clone()), lent.guest.clone()))
    }

    /// The quota that what is made through this descriptor counts in.
    fn quota(&self, descriptor: &Descriptor) -> Option<DiskQuota> {
        if !self.has_quotas {
            return None;
        }
        let handle = handle(descriptor);
        match self.directories.iter().find(|lent| Arc::ptr_eq(&lent.dir.dir, handle)) {
            Some(lent) => lent.quota.clone(),
            None => self.files.quota(address(handle)),
        }
    }

    /// Counts what was opened by way of a directory of this quota.
    fn opened(&self, descriptor: &Descriptor, quota: Option<&DiskQuota>) {
        self.files.hold(handle(descriptor), quota);
        if let (Some(quota), Descriptor::File(file)) = (quota, descriptor) {
            quota.watch(&file.file);
        }
    }

    /// Charges bytes that are about to be written, if there is a quota, measuring what is there if need be.
    async fn charge(&self, quota: Option<&DiskQuota>, bytes: u64) -> Result<Option<Charge>, NoSpace> {
        match quota {
            Some(quota) => quota.charge(bytes, &self.cpu).await.map(Some),
            None => Ok(None),
        }
    }
}

/// An answer of wasmtime's, as it goes to the guest: an error that is not the guest's to see ends it.
fn answer<T, E>(result: Result<T, TrappableError<E>>) -> wasmtime::Result<(Result<T, E>,)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => error.downcast().map(|code| (Err(code),)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_counted_until_they_are_closed() {
        let files = Files::new(3);
        let mut held: Vec<Arc<u32>> = Vec::new();
        while files.has_room() {
            let handle = Arc::new(7);
            files.hold(&handle, None);
            held.push(handle);
        }
        assert_eq!((held.len(), files.open()), (3, 3));
        held.pop();
        assert!(files.has_room());
        assert_eq!(files.open(), 2);
    }
}
