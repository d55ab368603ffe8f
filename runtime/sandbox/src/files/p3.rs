//! `wasi:filesystem` 0.3, with quotas and bounds: see [`super::p2`].

use super::listing::{Entry, Listing, Piece};
use super::p2::{Freeing, Moving, again, directories, same, settle};
use super::quota::{NoSpace, growth, growth_at_end};
use super::walk::{ENTRY, blocks};
use super::{DiskQuota, Lent, answer};
use crate::host::HostState;
use rustix::fs::FileType;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Linker, LinkerInstance, Resource, Source, StreamConsumer,
    StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
};

/// The versions wasmtime links; others of 0.3 match them.
const TYPES: &str = "wasi:filesystem/types@0.3.0";
const PREOPENS: &str = "wasi:filesystem/preopens@0.3.0";

type Store<'a> = StoreContextMut<'a, HostState>;

/// What wasmtime's own functions are asked through.
type Wasi = WasiFilesystem;

/// How reading or writing as a stream ended.
type End = Result<(), ErrorCode>;

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

/// What a descriptor's functions count in.
fn place(
    accessor: &Accessor<HostState>,
    descriptor: &Resource<Descriptor>,
) -> wasmtime::Result<(Arc<Lent>, Option<DiskQuota>)> {
    accessor.with(|mut store| {
        let state = store.get();
        Ok((state.lent(), state.disk_quota(descriptor)?))
    })
}

fn open(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    type Arguments = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<HostState>, (dir, path_flags, path, open_flags, flags): Arguments| {
            Box::pin(async move {
                let (lent, quota) = place(accessor, &dir)?;
                if !lent.files.has_room() {
                    return Ok((Err(ErrorCode::Quota),));
                }
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                let mut charge = None;
                if let Some(quota) = quota.as_ref().filter(|_| open_flags.contains(OpenFlags::CREATE)) {
                    let found = <Wasi as HostDescriptorWithStore<HostState>>::stat_at(
                        &wasi,
                        again(&dir),
                        path_flags,
                        path.clone(),
                    );
                    if found.await.is_err() {
                        match lent.charge(Some(quota), ENTRY).await {
                            Ok(charged) => charge = charged,
                            Err(NoSpace) => return Ok((Err(ErrorCode::InsufficientSpace),)),
                        }
                    }
                }
                let _freeing = Freeing(quota.clone().filter(|_| open_flags.contains(OpenFlags::TRUNCATE)));
                let opened = <Wasi as HostDescriptorWithStore<HostState>>::open_at(
                    &wasi, dir, path_flags, path, open_flags, flags,
                );
                let opened = opened.await;
                if let Ok(opened) = &opened {
                    accessor.with(|mut store| {
                        lent.opened(store.get().filesystem().table.get(opened)?, quota.as_ref());
                        wasmtime::error::Ok(())
                    })?;
                }
                settle(&opened, charge);
                answer(opened)
            })
        },
    )
}

fn write(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.func_wrap_concurrent(
        "[method]descriptor.set-size",
        |accessor: &Accessor<HostState>, (file, size): (Resource<Descriptor>, u64)| {
            Box::pin(async move {
                let (lent, quota) = place(accessor, &file)?;
                let growth =
                    accessor.with(|mut store| match store.get().filesystem().table.get(&file)? {
                        Descriptor::File(file) if quota.is_some() => {
                            wasmtime::error::Ok(growth(&file.file, size))
                        }
                        Descriptor::File(_) | Descriptor::Dir(_) => Ok(Ok(0)),
                    })?;
                let charge = match growth {
                    Ok(bytes) => lent.charge(quota.as_ref(), bytes).await,
                    Err(error) => return Ok((Err(error.into()),)),
                };
                let Ok(charge) = charge else { return Ok((Err(ErrorCode::InsufficientSpace),)) };
                let _freeing = Freeing(quota);
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                let done = <Wasi as HostDescriptorWithStore<HostState>>::set_size(&wasi, file, size).await;
                settle(&done, charge);
                answer(done)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |store: Store<'_>, (file, data, offset): (Resource<Descriptor>, StreamReader<u8>, u64)| {
            write_stream(store, &file, data, Some(offset))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |store: Store<'_>, (file, data): (Resource<Descriptor>, StreamReader<u8>)| {
            write_stream(store, &file, data, None)
        },
    )
}

/// Writes what a guest streams, from `position` on or at the end of the file.
fn write_stream(
    mut store: Store<'_>,
    file: &Resource<Descriptor>,
    mut data: StreamReader<u8>,
    position: Option<u64>,
) -> wasmtime::Result<(FutureReader<End>,)> {
    let state = store.data_mut();
    let (lent, quota) = (state.lent(), state.disk_quota(file)?);
    let writable = match state.filesystem().table.get(file)? {
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
        Descriptor::File(file) if file.perms.write_not_permitted() => Err(ErrorCode::NotPermitted),
        Descriptor::File(file) => Ok(file.file.clone()),
    };
    let (end, ended) = oneshot::channel();
    match writable {
        Ok(file) => {
            let writer =
                Writer { target: Target { file, quota, lent }, position, work: None, end: Some(end) };
            data.pipe(&mut store, writer)?;
        }
        Err(code) => {
            data.close(&mut store)?;
            let _ = end.send(Err(code));
        }
    }
    Ok((FutureReader::new(&mut store, ended)?,))
}

/// The most that is written at once, in bytes.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// A file, and what it counts in.
#[derive(Clone)]
struct Target {
    file: Arc<File>,
    quota: Option<DiskQuota>,
    lent: Arc<Lent>,
}

impl Target {
    /// Writes a part of `bytes`, as much as the operating system takes.
    async fn write(self, bytes: Vec<u8>, position: Option<u64>) -> io::Result<usize> {
        let length = bytes.len() as u64;
        let growth = match position {
            _ if self.quota.is_none() => 0,
            Some(position) => growth(&self.file, position.saturating_add(length))?,
            None => growth_at_end(&self.file, length)?,
        };
        let charge = self.lent.charge(self.quota.as_ref(), growth).await;
        let charge = charge.map_err(|NoSpace| io::Error::from(rustix::io::Errno::NOSPC))?;
        let written = tokio::task::spawn_blocking(move || {
            // It goes on when the guest is gone, and counts for as long.
            let _charge = charge;
            match position {
                Some(position) => std::os::unix::fs::FileExt::write_at(&*self.file, &bytes, position),
                None => append(&self.file, &bytes),
            }
        });
        written.await.map_err(io::Error::other)?
    }
}

/// Writes at the end, wherever that is by then.
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?)
}

/// Writes a stream to a file.
struct Writer {
    target: Target,
    position: Option<u64>,
    work: Option<Pin<Box<dyn Future<Output = io::Result<usize>> + Send>>>,
    /// Told how it ended, when it does.
    end: Option<oneshot::Sender<End>>,
}

impl Writer {
    fn end(&mut self, end: End) -> StreamResult {
        if let Some(told) = self.end.take() {
            let _ = told.send(end);
        }
        StreamResult::Dropped
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D> StreamConsumer<D> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        let mut source = source.as_direct(store);
        let work = this.work.get_or_insert_with(|| {
            let bytes = source.remaining();
            let bytes = bytes[..bytes.len().min(WRITE_AT_ONCE)].to_vec();
            Box::pin(this.target.clone().write(bytes, this.position))
        });
        // What has begun can't be taken back, so its end is waited for, also where the guest would rather not.
        let written = ready!(work.as_mut().poll(cx));
        this.work = None;
        Poll::Ready(Ok(match written {
            Ok(bytes) => {
                source.mark_read(bytes);
                if let Some(position) = &mut this.position {
                    *position = position.saturating_add(bytes as u64);
                }
                StreamResult::Completed
            }
            Err(error) => this.end(Err(error.into())),
        }))
    }
}

/// Functions that make an entry: charged, and given back if it is not made.
fn entries(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |accessor: &Accessor<HostState>, (dir, path): (Resource<Descriptor>, String)| {
            Box::pin(async move {
                let (lent, quota) = place(accessor, &dir)?;
                let charge = lent.charge(quota.as_ref(), ENTRY + blocks(1)).await;
                let Ok(charge) = charge else { return Ok((Err(ErrorCode::InsufficientSpace),)) };
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                let made =
                    <Wasi as HostDescriptorWithStore<HostState>>::create_directory_at(&wasi, dir, path).await;
                settle(&made, charge);
                answer(made)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.symlink-at",
        |accessor: &Accessor<HostState>, (dir, target, path): (Resource<Descriptor>, String, String)| {
            Box::pin(async move {
                let (lent, quota) = place(accessor, &dir)?;
                let charge = lent.charge(quota.as_ref(), ENTRY + blocks(1)).await;
                let Ok(charge) = charge else { return Ok((Err(ErrorCode::InsufficientSpace),)) };
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                let made =
                    <Wasi as HostDescriptorWithStore<HostState>>::symlink_at(&wasi, dir, target, path).await;
                settle(&made, charge);
                answer(made)
            })
        },
    )
}

/// Functions that move and remove names.
fn names(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    type Link = (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String);
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<HostState>, (from, flags, old, to, new): Link| {
            Box::pin(async move {
                let ((_, from_quota), (lent, quota)) = (place(accessor, &from)?, place(accessor, &to)?);
                if !same(from_quota.as_ref(), quota.as_ref()) {
                    return Ok((Err(ErrorCode::CrossDevice),));
                }
                let charge = lent.charge(quota.as_ref(), ENTRY).await;
                let Ok(charge) = charge else { return Ok((Err(ErrorCode::InsufficientSpace),)) };
                let _moving = Moving::new(quota);
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                let made =
                    <Wasi as HostDescriptorWithStore<HostState>>::link_at(&wasi, from, flags, old, to, new)
                        .await;
                settle(&made, charge);
                answer(made)
            })
        },
    )?;
    type Rename = (Resource<Descriptor>, String, Resource<Descriptor>, String);
    types.func_wrap_concurrent(
        "[method]descriptor.rename-at",
        |accessor: &Accessor<HostState>, (from, old, to, new): Rename| {
            Box::pin(async move {
                let ((_, from_quota), (_, quota)) = (place(accessor, &from)?, place(accessor, &to)?);
                if !same(from_quota.as_ref(), quota.as_ref()) {
                    return Ok((Err(ErrorCode::CrossDevice),));
                }
                let _moving = Moving::new(quota);
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                answer(
                    <Wasi as HostDescriptorWithStore<HostState>>::rename_at(&wasi, from, old, to, new).await,
                )
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.unlink-file-at",
        |accessor: &Accessor<HostState>, (dir, path): (Resource<Descriptor>, String)| {
            Box::pin(async move {
                let _freeing = Freeing(place(accessor, &dir)?.1);
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                answer(<Wasi as HostDescriptorWithStore<HostState>>::unlink_file_at(&wasi, dir, path).await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.remove-directory-at",
        |accessor: &Accessor<HostState>, (dir, path): (Resource<Descriptor>, String)| {
            Box::pin(async move {
                let _freeing = Freeing(place(accessor, &dir)?.1);
                let wasi = accessor.with_getter::<Wasi>(HostState::filesystem);
                answer(
                    <Wasi as HostDescriptorWithStore<HostState>>::remove_directory_at(&wasi, dir, path).await,
                )
            })
        },
    )
}

fn list(types: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: Store<'_>, (dir,): (Resource<Descriptor>,)| {
            let state = store.data_mut();
            let lent = state.lent();
            let dir = match state.filesystem().table.get(&dir)? {
                Descriptor::Dir(dir) => Some(dir.dir.clone()),
                Descriptor::File(_) => None,
            };
            let (end, ended) = oneshot::channel();
            let stream = match dir {
                Some(dir) => {
                    let listing = Listing::new(dir, &lent);
                    StreamReader::new(&mut store, Reader { listing, piece: None, end: Some(end) })?
                }
                None => {
                    let _ = end.send(Err(ErrorCode::NotDirectory));
                    StreamReader::new(&mut store, std::iter::empty())?
                }
            };
            Ok(((stream, FutureReader::new(&mut store, ended)?),))
        },
    )
}

/// Reads a directory as a stream.
struct Reader {
    listing: Listing,
    piece: Option<Piece>,
    /// Told how it ended, when it does.
    end: Option<oneshot::Sender<End>>,
}

impl Reader {
    fn end(&mut self, end: End) -> StreamResult {
        if let Some(told) = self.end.take() {
            let _ = told.send(end);
        }
        StreamResult::Dropped
    }

    /// The next name. None after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Entry>>> {
        loop {
            if let Some(entry) = self.listing.ready() {
                return Poll::Ready(Ok(Some(entry)));
            }
            if self.piece.is_none() {
                self.piece = self.listing.more();
            }
            let Some(piece) = &mut self.piece else { return Poll::Ready(Ok(None)) };
            let read = ready!(Pin::new(piece).poll(cx));
            self.piece = None;
            self.listing.take_in(read)?;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D> StreamProducer<D> for Reader {
    type Item = DirectoryEntry;
    type Buffer = Option<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, DirectoryEntry, Option<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of nothing asks whether something is there, which only reading tells.
        if destination.remaining(store.as_context_mut()) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.poll_next(cx) {
            Poll::Ready(Ok(Some(entry))) => match String::from_utf8(entry.name) {
                Ok(name) => {
                    destination.set_buffer(Some(DirectoryEntry { type_: kind(entry.kind), name }));
                    StreamResult::Completed
                }
                Err(_) => self.end(Err(ErrorCode::IllegalByteSequence)),
            },
            Poll::Ready(Ok(None)) => self.end(Ok(())),
            Poll::Ready(Err(error))
                if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
            {
                self.end(Err(ErrorCode::Quota))
            }
            Poll::Ready(Err(error)) => self.end(Err(error.into())),
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        }))
    }
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
        FileType::Unknown => DescriptorType::Other(None),
    }
}
