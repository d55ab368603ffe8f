//! `wasi:filesystem` 0.2, with quotas and bounds.
//!
//! The files are wasmtime's. The functions here stand before wasmtime's own, which they call; reading a directory is
//! ours.

use super::listing::Listing;
use super::quota::{Charge, NoSpace, growth, growth_at_end};
use super::walk::{ENTRY, blocks};
use super::{DiskQuota, Lent, answer};
use crate::host::HostState;
use bytes::Bytes;
use rustix::fs::FileType;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, File};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

/// The versions wasmtime links; others of 0.2 match them.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

type Store<'a> = StoreContextMut<'a, HostState>;

/// Puts the functions here before wasmtime's, which have to be in the linker already.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    open(&mut types)?;
    write(&mut types)?;
    entries(&mut types)?;
    names(&mut types)?;
    list(&mut types)?;
    linker.instance(PREOPENS)?.func_wrap("get-directories", directories)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Directories, and how guests call them.
type Directories = Vec<(Resource<Descriptor>, String)>;

/// The directories that are lent, as `get-directories` answers.
pub(super) fn directories(mut store: Store<'_>, (): ()) -> wasmtime::Result<(Directories,)> {
    let state = store.data_mut();
    let lent = state.lent();
    let directories = lent.descriptors().map(|(descriptor, guest)| {
        let descriptor: Resource<Descriptor> = state.filesystem().table.push(descriptor)?;
        Ok((descriptor, guest))
    });
    Ok((directories.collect::<wasmtime::Result<Vec<_>>>()?,))
}

/// The same descriptor once more.
pub(super) fn again(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}

impl HostState {
    /// The quota that what is done with this descriptor counts in.
    pub(super) fn disk_quota(
        &mut self,
        descriptor: &Resource<Descriptor>,
    ) -> wasmtime::Result<Option<DiskQuota>> {
        let lent = self.lent();
        Ok(lent.quota(self.filesystem().table.get(descriptor)?))
    }

    /// A file and its quota, where it is a file and has one.
    fn bounded_file(
        &mut self,
        descriptor: &Resource<Descriptor>,
    ) -> wasmtime::Result<Option<(File, DiskQuota)>> {
        let lent = self.lent();
        let descriptor = self.filesystem().table.get(descriptor)?;
        let quota = lent.quota(descriptor);
        Ok(match descriptor {
            Descriptor::File(file) => quota.map(|quota| (file.clone(), quota)),
            Descriptor::Dir(_) => None,
        })
    }
}

fn open(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    type Arguments = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>, (dir, path_flags, path, open_flags, flags): Arguments| {
            Box::new(async move {
                let state = store.data_mut();
                let (lent, quota) = (state.lent(), state.disk_quota(&dir)?);
                if !lent.files.has_room() {
                    return Ok((Err(ErrorCode::Quota),));
                }
                let mut charge = None;
                if let Some(quota) = quota.as_ref().filter(|_| open_flags.contains(OpenFlags::CREATE)) {
                    let mut files = state.filesystem();
                    if HostDescriptor::stat_at(&mut files, again(&dir), path_flags, path.clone())
                        .await
                        .is_err()
                    {
                        match lent.charge(Some(quota), ENTRY).await {
                            Ok(charged) => charge = charged,
                            Err(NoSpace) => return Ok((Err(ErrorCode::InsufficientSpace),)),
                        }
                    }
                }
                let _freeing = Freeing(quota.clone().filter(|_| open_flags.contains(OpenFlags::TRUNCATE)));
                let mut files = state.filesystem();
                let opened =
                    HostDescriptor::open_at(&mut files, dir, path_flags, path, open_flags, flags).await;
                if let Ok(opened) = &opened {
                    lent.opened(files.table.get(opened)?, quota.as_ref());
                }
                settle(&opened, charge);
                answer(opened)
            })
        },
    )
}

fn write(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (file, bytes, offset): (Resource<Descriptor>, Vec<u8>, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let _charge =
                    match charge_up_to(state, &file, offset.saturating_add(bytes.len() as u64)).await? {
                        Ok(charge) => charge,
                        Err(code) => return Ok((Err(code),)),
                    };
                answer(HostDescriptor::write(&mut state.filesystem(), file, bytes, offset).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-size",
        |mut store: Store<'_>, (file, size): (Resource<Descriptor>, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                let charge = match charge_up_to(state, &file, size).await? {
                    Ok(charge) => charge,
                    Err(code) => return Ok((Err(code),)),
                };
                let _freeing = Freeing(state.disk_quota(&file)?);
                let done = HostDescriptor::set_size(&mut state.filesystem(), file, size).await;
                settle(&done, charge);
                answer(done)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: Store<'_>, (file, offset): (Resource<Descriptor>, u64)| {
            let state = store.data_mut();
            let bounded = state.bounded_file(&file)?;
            let stream = HostDescriptor::write_via_stream(&mut state.filesystem(), file, offset);
            bound_stream(state, stream, bounded, Some(offset))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: Store<'_>, (file,): (Resource<Descriptor>,)| {
            let state = store.data_mut();
            let bounded = state.bounded_file(&file)?;
            let stream = HostDescriptor::append_via_stream(&mut state.filesystem(), file);
            bound_stream(state, stream, bounded, None)
        },
    )
}

/// Charges what a file grows by when it becomes this long.
async fn charge_up_to(
    state: &mut HostState,
    file: &Resource<Descriptor>,
    end: u64,
) -> wasmtime::Result<Result<Option<Charge>, ErrorCode>> {
    let Some((file, quota)) = state.bounded_file(file)? else { return Ok(Ok(None)) };
    let bytes = match growth(&file.file, end) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.into())),
    };
    let charge = state.lent().charge(Some(&quota), bytes).await;
    Ok(charge.map_err(|NoSpace| ErrorCode::InsufficientSpace))
}

/// Puts [`Bounded`] around a file's stream.
fn bound_stream(
    state: &mut HostState,
    stream: wasmtime_wasi::p2::FsResult<Resource<DynOutputStream>>,
    bounded: Option<(File, DiskQuota)>,
    position: Option<u64>,
) -> wasmtime::Result<(Result<Resource<DynOutputStream>, ErrorCode>,)> {
    let (Ok(stream), Some((file, quota))) = (&stream, bounded) else { return answer(stream) };
    let lent = state.lent();
    let table = state.filesystem().table;
    let inner = table.delete(Resource::<DynOutputStream>::new_own(stream.rep()))?;
    let bounded: DynOutputStream =
        Box::new(Bounded { inner, file, quota, lent, position, waiting: Waiting::No });
    Ok((Ok(table.push(bounded)?),))
}

/// A stream into a file that counts in a quota.
struct Bounded {
    inner: DynOutputStream,
    file: File,
    quota: DiskQuota,
    lent: Arc<Lent>,
    /// Where the next bytes go; None is the end of the file.
    position: Option<u64>,
    waiting: Waiting,
}

/// What a stream waits for.
enum Waiting {
    No,
    /// That this is written.
    Written(#[expect(dead_code, reason = "held until it is")] Charge),
    /// That there is room for this.
    Room(Bytes),
    /// It has ended without room.
    Full,
    Closed,
}

fn no_space() -> StreamError {
    // As the operating system would say it, for `filesystem-error-code` to know it by.
    StreamError::LastOperationFailed(io::Error::from(rustix::io::Errno::NOSPC).into())
}

impl Bounded {
    fn growth(&self, bytes: u64) -> StreamResult<u64> {
        let growth = match self.position {
            Some(position) => growth(&self.file.file, position.saturating_add(bytes)),
            None => growth_at_end(&self.file.file, bytes),
        };
        growth.map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(position) = &mut self.position {
            *position = position.saturating_add(bytes);
        }
    }

    async fn charge(&mut self, bytes: u64) -> StreamResult<Charge> {
        let growth = self.growth(bytes)?;
        self.quota.charge(growth, &self.lent.cpu).await.map_err(|NoSpace| no_space())
    }
}

impl Pollable for Bounded {
    // What `async_trait` would make of `async fn ready(&mut self)`.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {
            if let Waiting::Room(bytes) = &self.waiting {
                let bytes = bytes.clone();
                let length = bytes.len() as u64;
                // Should it be dropped meanwhile, the next to ask begins anew.
                self.waiting = match self.charge(length).await {
                    Ok(charge) => match self.inner.write(bytes) {
                        Ok(()) => {
                            self.advance(length);
                            Waiting::Written(charge)
                        }
                        Err(_) => Waiting::Closed,
                    },
                    Err(_) => Waiting::Full,
                };
            }
            self.inner.ready().await;
            if let Waiting::Written(_) = self.waiting {
                self.waiting = Waiting::No;
            }
        })
    }
}

impl OutputStream for Bounded {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.waiting {
            Waiting::No => {}
            Waiting::Closed => return Err(StreamError::Closed),
            _ => return Err(StreamError::trap("wrote without `check-write`")),
        }
        let length = bytes.len() as u64;
        match self.quota.try_charge(self.growth(length)?) {
            Ok(charge) => {
                self.inner.write(bytes)?;
                self.advance(length);
                self.waiting = Waiting::Written(charge);
            }
            // There may be room after a look, which takes a while.
            Err(_) => self.waiting = Waiting::Room(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.waiting {
            Waiting::Full => {
                self.waiting = Waiting::Closed;
                Err(no_space())
            }
            Waiting::Closed => Err(StreamError::Closed),
            Waiting::Room(_) => Ok(()),
            Waiting::No | Waiting::Written(_) => self.inner.flush(),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.waiting {
            Waiting::Full => {
                self.waiting = Waiting::Closed;
                Err(no_space())
            }
            Waiting::Closed => Err(StreamError::Closed),
            Waiting::Room(_) => Ok(0),
            Waiting::No | Waiting::Written(_) => {
                let permit = self.inner.check_write()?;
                if permit > 0 {
                    self.waiting = Waiting::No;
                }
                Ok(permit)
            }
        }
    }

    // What `async_trait` would make of `async fn blocking_write_and_flush(&mut self, bytes: Bytes)`.
    fn blocking_write_and_flush<'a, 'b>(
        &'a mut self,
        bytes: Bytes,
    ) -> Pin<Box<dyn Future<Output = StreamResult<()>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            self.ready().await;
            // What went wrong before is said now.
            self.flush()?;
            let length = bytes.len() as u64;
            let charge = match self.charge(length).await {
                Ok(charge) => charge,
                Err(error) => {
                    self.waiting = Waiting::Closed;
                    return Err(error);
                }
            };
            self.inner.blocking_write_and_flush(bytes).await?;
            self.advance(length);
            drop(charge);
            Ok(())
        })
    }

    // What `async_trait` would make of `async fn cancel(&mut self)`.
    fn cancel<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { self.inner.cancel().await })
    }
}

/// Functions that make an entry: charged, and given back if it is not made.
fn entries(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |mut store: Store<'_>, (dir, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let charge = match charge_entry(state, &dir).await? {
                    Ok(charge) => charge,
                    Err(code) => return Ok((Err(code),)),
                };
                let made = HostDescriptor::create_directory_at(&mut state.filesystem(), dir, path).await;
                settle(&made, charge);
                answer(made)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut store: Store<'_>, (dir, target, path): (Resource<Descriptor>, String, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let charge = match charge_entry(state, &dir).await? {
                    Ok(charge) => charge,
                    Err(code) => return Ok((Err(code),)),
                };
                let made = HostDescriptor::symlink_at(&mut state.filesystem(), dir, target, path).await;
                settle(&made, charge);
                answer(made)
            })
        },
    )
}

/// Charges a directory, a link, or another name: an entry, and a block for what a link says.
async fn charge_entry(
    state: &mut HostState,
    dir: &Resource<Descriptor>,
) -> wasmtime::Result<Result<Option<Charge>, ErrorCode>> {
    let quota = state.disk_quota(dir)?;
    let charge = state.lent().charge(quota.as_ref(), ENTRY + blocks(1)).await;
    Ok(charge.map_err(|NoSpace| ErrorCode::InsufficientSpace))
}

/// Gives back what was charged for something that was not made.
pub(super) fn settle<T, E>(made: &Result<T, E>, charge: Option<Charge>) {
    if let (Err(_), Some(charge)) = (made, charge) {
        charge.refund();
    }
}

/// Functions that move and remove names.
fn names(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    type Link = (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String);
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: Store<'_>, (from, flags, old, to, new): Link| {
            Box::new(async move {
                let state = store.data_mut();
                let quota = state.disk_quota(&to)?;
                if !same(state.disk_quota(&from)?.as_ref(), quota.as_ref()) {
                    return Ok((Err(ErrorCode::CrossDevice),));
                }
                let charge = match charge_entry(state, &to).await? {
                    Ok(charge) => charge,
                    Err(code) => return Ok((Err(code),)),
                };
                let _moving = Moving::new(quota);
                let made = HostDescriptor::link_at(&mut state.filesystem(), from, flags, old, to, new).await;
                settle(&made, charge);
                answer(made)
            })
        },
    )?;
    type Rename = (Resource<Descriptor>, String, Resource<Descriptor>, String);
    types.func_wrap_async(
        "[method]descriptor.rename-at",
        |mut store: Store<'_>, (from, old, to, new): Rename| {
            Box::new(async move {
                let state = store.data_mut();
                let quota = state.disk_quota(&to)?;
                if !same(state.disk_quota(&from)?.as_ref(), quota.as_ref()) {
                    return Ok((Err(ErrorCode::CrossDevice),));
                }
                let _moving = Moving::new(quota);
                answer(HostDescriptor::rename_at(&mut state.filesystem(), from, old, to, new).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.unlink-file-at",
        |mut store: Store<'_>, (dir, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let _freeing = Freeing(state.disk_quota(&dir)?);
                answer(HostDescriptor::unlink_file_at(&mut state.filesystem(), dir, path).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.remove-directory-at",
        |mut store: Store<'_>, (dir, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let state = store.data_mut();
                let _freeing = Freeing(state.disk_quota(&dir)?);
                answer(HostDescriptor::remove_directory_at(&mut state.filesystem(), dir, path).await)
            })
        },
    )
}

/// Whether nothing changes for quotas when something moves from the one to the other.
pub(super) fn same(from: Option<&DiskQuota>, to: Option<&DiskQuota>) -> bool {
    match (from, to) {
        (Some(from), Some(to)) => from.is(to),
        (None, None) => true,
        _ => false,
    }
}

/// Names are being moved, until dropped. What had the new name may be gone then.
pub(super) struct Moving(Option<DiskQuota>);

impl Moving {
    pub(super) fn new(quota: Option<DiskQuota>) -> Self {
        if let Some(quota) = &quota {
            quota.moved();
        }
        Moving(quota)
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if let Some(quota) = &self.0 {
            quota.moved();
            quota.freed();
        }
    }
}

/// Something is being made smaller or removed, until dropped.
pub(super) struct Freeing(pub(super) Option<DiskQuota>);

impl Drop for Freeing {
    fn drop(&mut self) {
        if let Some(quota) = &self.0 {
            quota.freed();
        }
    }
}

fn list(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, rep| {
        store.data_mut().filesystem().table.delete(Resource::<Listing>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: Store<'_>, (dir,): (Resource<Descriptor>,)| {
            let state = store.data_mut();
            let lent = state.lent();
            let table = state.filesystem().table;
            let Descriptor::Dir(dir) = table.get(&dir)? else { return Ok((Err(ErrorCode::NotDirectory),)) };
            let listing = Listing::new(dir.dir.clone(), &lent);
            Ok((Ok(table.push(listing)?),))
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>, (listing,): (Resource<Listing>,)| {
            Box::new(async move {
                let listing = store.data_mut().filesystem().table.get_mut(&listing)?;
                Ok((match listing.next().await {
                    Ok(None) => Ok(None),
                    Ok(Some(entry)) => match String::from_utf8(entry.name) {
                        Ok(name) => Ok(Some(DirectoryEntry { type_: kind(entry.kind), name })),
                        Err(_) => Err(ErrorCode::IllegalByteSequence),
                    },
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                        Err(ErrorCode::Quota)
                    }
                    Err(error) => Err(error.into()),
                },))
            })
        },
    )
}

fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}
