//! Files of core modules, with quotas and bounds: see [`super::p2`].
//!
//! wasmtime's functions of `wasi_snapshot_preview1` and `wasi_unstable` call its own of WASI 0.2 directly, so what stands
//! before those is not asked. Here the same is done one level up, where a file is a number. Where its content ends, that
//! level does not say, so every write is charged with all it writes; what was written twice comes back when the
//! directory is measured.
//!
//! Reading a directory is ours, as in the other versions: `fd_readdir` goes on where it was, as long as it is asked for
//! what comes next.

use super::listing::{Entry, Listing};
use super::quota::{Charge, NoSpace};
use super::walk::{ENTRY, blocks};
use super::{DiskQuota, Lent, LentDirectory, address, handle, p2};
use crate::host::HostState;
use rustix::fs::FileType;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Weak};
use wasmtime::{AsContextMut as _, Caller, Extern, Linker, Memory, Trap};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p0::wasi_unstable;
use wasmtime_wasi::p1::types::Fd;
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::GuestMemory;

/// What is known of a core module's files, by their numbers.
pub(crate) struct P1Files {
    lent: Arc<Lent>,
    open: HashMap<u32, Open>,
    /// The directories as wasmtime opened them for the guest, known when it has.
    preopened: Option<Vec<Weak<File>>>,
}

/// A file that is open.
#[derive(Default)]
struct Open {
    /// What it counts in.
    quota: Option<DiskQuota>,
    /// If it is a directory: that, for as long as wasmtime has it open.
    directory: Option<Weak<File>>,
    /// If somebody reads it: how far.
    reading: Option<Reading>,
}

/// A directory of which a part has been read.
struct Reading {
    listing: Listing,
    /// The device it is on, and its inode there.
    device: u64,
    inode: u64,
    /// The number of the next entry, and that entry if it has been seen in part already.
    next: u64,
    again: Option<Entry>,
}

/// The first number that is not one of the standard streams: the directories come in order from here on.
const FIRST: u32 = 3;

impl P1Files {
    pub(crate) fn new(lent: Arc<Lent>) -> Self {
        let open = |lent: &LentDirectory| Open {
            quota: lent.quota.clone(),
            directory: Some(Arc::downgrade(&lent.dir.dir)),
            reading: None,
        };
        let open = (FIRST..).zip(lent.directories.iter().map(open)).collect();
        P1Files { lent, open, preopened: None }
    }
}

/// What these functions answer, as in `errno`.
const SUCCESS: i32 = 0;
const ILLEGAL_BYTES: i32 = 25;
const INVALID: i32 = 28;
const IO: i32 = 29;
const TOO_MANY: i32 = 33;
const NO_SPACE: i32 = 51;
const OTHER_DEVICE: i32 = 75;

/// `O_CREAT` and `O_TRUNC` of `path_open`.
const CREATE: i32 = 1;
const TRUNCATE: i32 = 8;

type Guest<'a> = Caller<'a, HostState>;

/// The quota of a file, and who pays for measuring.
fn place(caller: &mut Guest<'_>, fd: i32) -> Option<(Arc<Lent>, DiskQuota)> {
    let files = caller.data_mut().p1_files()?;
    Some((files.lent.clone(), files.open.get(&fd.cast_unsigned())?.quota.clone()?))
}

fn quota(caller: &mut Guest<'_>, fd: i32) -> Option<DiskQuota> {
    place(caller, fd).map(|(_, quota)| quota)
}

fn memory(caller: &mut Guest<'_>) -> wasmtime::Result<Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::format_err!("missing required memory export"))
}

/// Charges what is made or written through a file; an error code if it does not fit.
async fn charge(caller: &mut Guest<'_>, fd: i32, bytes: u64) -> Result<Option<Charge>, i32> {
    match place(caller, fd) {
        Some((lent, quota)) => lent.charge(Some(&quota), bytes).await.map_err(|NoSpace| NO_SPACE),
        None => Ok(None),
    }
}

/// Gives back what was charged for something that was not made.
fn settle(code: i32, charge: Option<Charge>) {
    p2::settle(&if code == SUCCESS { Ok(()) } else { Err(()) }, charge);
}

/// How much a write writes: the first of its parts that has something in it. None if that is far down the list.
fn first_part(caller: &mut Guest<'_>, parts: i32, count: i32) -> wasmtime::Result<Option<u64>> {
    // As in Linux, which refuses longer lists.
    const MOST: usize = 1024;
    let memory = memory(caller)?;
    let (start, count) = (parts.cast_unsigned() as usize, count.cast_unsigned() as usize);
    let parts = memory.data(&caller).get(start..).unwrap_or_default().chunks_exact(8).take(count);
    let lengths = parts.map(|part| u64::from(u32::from_le_bytes([part[4], part[5], part[6], part[7]])));
    let first = lengths.take(MOST).find(|&length| length > 0);
    Ok(first.or((count <= MOST).then_some(0)))
}

/// The length of a file, as far as it can be said.
async fn length(caller: &mut Guest<'_>, fd: i32) -> wasmtime::Result<u64> {
    let memory = memory(caller)?;
    let (bytes, state) = memory.data_and_store_mut(caller);
    let found =
        state.p1().fd_filestat_get(&mut GuestMemory::Unshared(bytes), Fd::from(fd.cast_unsigned())).await;
    Ok(found.map_or(0, |found| found.size))
}

/// Whether a core module may open another file.
fn has_room(caller: &mut Guest<'_>) -> bool {
    caller.data_mut().p1_files().is_none_or(|files| files.lent.files.has_room())
}

/// Counts what has been opened, as this number, by way of a directory.
fn opened(caller: &mut Guest<'_>, dir: i32, place: i32) -> wasmtime::Result<()> {
    let quota = quota(caller, dir);
    let memory = memory(caller)?;
    let place = place.cast_unsigned() as usize;
    let number =
        memory.data(&caller).get(place..place + 4).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
    let state = caller.data_mut();
    let Some(files) = state.p1_files() else { return Ok(()) };
    let lent = files.lent.clone();
    // The first time, those are there which are lent; they are no more files than it has without opening any.
    let unseen = |lent: &LentDirectory| identity(&lent.dir.dir);
    let (mut preopened, mut unseen) = match files.preopened.take() {
        Some(preopened) => (preopened, Vec::new()),
        None => (Vec::new(), lent.directories.iter().map(unseen).collect()),
    };
    let mut open = Open { quota, ..Open::default() };
    // wasmtime does not say which of them it is: whichever is not known yet.
    for entry in state.p1().ctx().table.iter_mut() {
        let Some(descriptor) = entry.downcast_ref::<Descriptor>() else { continue };
        let file = handle(descriptor);
        if lent.files.knows(address(file)) || preopened.iter().any(|seen| seen.as_ptr() == Arc::as_ptr(file))
        {
            continue;
        }
        if let Some(place) = unseen.iter().position(|directory| *directory == identity(file)) {
            unseen.remove(place);
            preopened.push(Arc::downgrade(file));
            continue;
        }
        lent.opened(descriptor, open.quota.as_ref());
        if let Descriptor::Dir(_) = descriptor {
            open.directory = Some(Arc::downgrade(file));
        }
    }
    if let Some(files) = state.p1_files() {
        files.preopened = Some(preopened);
        if let Some(number) = number {
            files.open.insert(u32::from_le_bytes(number), open);
        }
    }
    Ok(())
}

/// Device and inode of a file.
fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|found| (found.dev(), found.ino()))
}

impl Reading {
    /// Reads a directory from its beginning.
    fn new(directory: Arc<File>, lent: &Lent) -> io::Result<Reading> {
        let found = directory.metadata()?;
        let listing = Listing::new(directory, lent);
        Ok(Reading { listing, device: found.dev(), inode: found.ino(), next: 0, again: None })
    }

    async fn step(&mut self) -> io::Result<Option<Entry>> {
        let entry = match self.again.take() {
            Some(entry) => Some(entry),
            None => self.listing.next().await?,
        };
        self.next += u64::from(entry.is_some());
        Ok(entry)
    }

    /// The entry of this number, which is not before the next one. None after the last.
    async fn entry(&mut self, number: u64) -> io::Result<Option<Entry>> {
        while self.next < number {
            if self.step().await?.is_none() {
                return Ok(None);
            }
        }
        self.step().await
    }

    /// Keeps the entry that was given last, to be given again.
    fn put_back(&mut self, entry: Entry) {
        self.next -= 1;
        self.again = Some(entry);
    }
}

/// What wasmtime tells core modules of an inode, which is to be the same wherever they see it.
fn inode(device: u64, number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, number).hash(&mut hasher);
    hasher.finish()
}

/// Its number as a `filetype`.
fn file_type(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Symlink => 7,
        FileType::Socket | FileType::Fifo | FileType::Unknown => 0,
    }
}

/// What `fd_readdir` answers where wasmtime is not asked: an error code, or how many bytes it wrote.
type Listed = Result<u32, i32>;

/// Writes entries of a directory from `cookie` on, the last one cut off where there is no more room: see `dirent`. None
/// where this is no directory.
async fn list(
    caller: &mut Guest<'_>,
    fd: i32,
    place: i32,
    length: i32,
    cookie: i64,
) -> wasmtime::Result<Option<Listed>> {
    let Some(files) = caller.data_mut().p1_files() else { return Ok(None) };
    let lent = files.lent.clone();
    let Some(open) = files.open.get_mut(&fd.cast_unsigned()) else { return Ok(None) };
    let Some(directory) = open.directory.as_ref().and_then(Weak::upgrade) else { return Ok(None) };
    let code = |error: &io::Error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::MFILE.raw_os_error() => TOO_MANY,
        _ => IO,
    };
    // Before all others are `.` and `..`.
    let number = cookie.cast_unsigned().saturating_sub(2);
    let reading = match open.reading.take().filter(|reading| reading.next == number) {
        Some(reading) => Ok(reading),
        None => Reading::new(directory, &lent),
    };
    let mut reading = match reading {
        Ok(reading) => reading,
        Err(error) => return Ok(Some(Err(code(&error)))),
    };
    let memory = memory(caller)?;
    let mut place = place.cast_unsigned() as usize;
    let mut room = length.cast_unsigned() as usize;
    let mut cookie = cookie.cast_unsigned();
    while room > 0 {
        let nearby = |name: &[u8]| Entry { name: name.to_vec(), kind: FileType::Directory, inode: 0 };
        let entry = match cookie {
            0 => nearby(b"."),
            1 => nearby(b".."),
            _ => match reading.entry(cookie - 2).await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return Ok(Some(Err(code(&error)))),
            },
        };
        if std::str::from_utf8(&entry.name).is_err() {
            return Ok(Some(Err(ILLEGAL_BYTES)));
        }
        let number = inode(reading.device, if cookie < 2 { reading.inode } else { entry.inode });
        let length = u32::try_from(entry.name.len()).unwrap_or(u32::MAX);
        let mut bytes = [cookie.saturating_add(1).to_le_bytes(), number.to_le_bytes()].concat();
        bytes.extend(length.to_le_bytes());
        bytes.extend([file_type(entry.kind), 0, 0, 0]);
        bytes.extend(&entry.name);
        if bytes.len() > room {
            bytes.truncate(room);
            // Whoever sees an entry only in part asks for it again.
            if cookie >= 2 {
                reading.put_back(entry);
            }
        }
        let there = memory.data_mut(&mut *caller).get_mut(place..place.saturating_add(bytes.len()));
        there.ok_or(Trap::MemoryOutOfBounds)?.copy_from_slice(&bytes);
        place += bytes.len();
        room -= bytes.len();
        cookie = cookie.saturating_add(1);
    }
    if let Some(files) = caller.data_mut().p1_files()
        && let Some(open) = files.open.get_mut(&fd.cast_unsigned())
    {
        open.reading = Some(reading);
    }
    Ok(Some(Ok(length.cast_unsigned() - u32::try_from(room).unwrap_or(0))))
}

/// Calls wasmtime's function.
macro_rules! wasi {
    ($caller:ident, $module:ident :: $interface:ident :: $function:ident($($argument:expr),*)) => {{
        let fuel = $caller.as_context_mut().hostcall_fuel();
        let memory = memory(&mut $caller)?;
        let (bytes, state) = memory.data_and_store_mut(&mut $caller);
        let context = state.p1();
        $module::$interface::set_hostcall_fuel(context, fuel);
        $module::$function(context, &mut GuestMemory::Unshared(bytes), $($argument),*).await?
    }};
}

/// The functions of one of the two versions, which differ in their name alone.
macro_rules! link_functions {
    ($linker:ident, $name:literal, $module:ident :: $interface:ident) => {
        $linker.func_wrap_async(
            $name,
            "path_open",
            |mut caller: Guest<'_>,
             (dir, links, path, length, open, rights, inherited, flags, place): (
                i32,
                i32,
                i32,
                i32,
                i32,
                i64,
                i64,
                i32,
                i32,
            )| {
                Box::new(async move {
                    if !has_room(&mut caller) {
                        return Ok(TOO_MANY);
                    }
                    // It may be there already; then this comes back when the directory is measured.
                    let bytes = if open & CREATE == 0 { 0 } else { ENTRY + blocks(1) };
                    let charge = match charge(&mut caller, dir, bytes).await {
                        Ok(charge) => charge,
                        Err(code) => return Ok(code),
                    };
                    let _freeing = p2::Freeing(
                        quota(&mut caller, dir).filter(|_| open & (CREATE | TRUNCATE) != 0),
                    );
                    let code = wasi!(
                        caller,
                        $module::$interface::path_open(
                            dir, links, path, length, open, rights, inherited, flags, place
                        )
                    );
                    if code == SUCCESS {
                        opened(&mut caller, dir, place)?;
                    }
                    settle(code, charge);
                    Ok(code)
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "fd_write",
            |mut caller: Guest<'_>, (fd, parts, count, written): (i32, i32, i32, i32)| {
                Box::new(async move {
                    let freeing = p2::Freeing(quota(&mut caller, fd));
                    let mut _charged = None;
                    if freeing.0.is_some() {
                        let Some(bytes) = first_part(&mut caller, parts, count)? else { return Ok(INVALID) };
                        // Where in the file it goes is not known: at the most that many blocks are new.
                        match charge(&mut caller, fd, blocks(bytes)).await {
                            Ok(charge) => _charged = charge,
                            Err(code) => return Ok(code),
                        }
                    }
                    Ok(wasi!(caller, $module::$interface::fd_write(fd, parts, count, written)))
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "fd_pwrite",
            |mut caller: Guest<'_>, (fd, parts, count, offset, written): (i32, i32, i32, i64, i32)| {
                Box::new(async move {
                    let freeing = p2::Freeing(quota(&mut caller, fd));
                    let mut _charged = None;
                    if freeing.0.is_some() {
                        let Some(bytes) = first_part(&mut caller, parts, count)? else { return Ok(INVALID) };
                        let now = length(&mut caller, fd).await?;
                        let end = offset.cast_unsigned().saturating_add(bytes);
                        match charge(&mut caller, fd, blocks(end).saturating_sub(blocks(now))).await {
                            Ok(charge) => _charged = charge,
                            Err(code) => return Ok(code),
                        }
                    }
                    Ok(wasi!(caller, $module::$interface::fd_pwrite(fd, parts, count, offset, written)))
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "fd_filestat_set_size",
            |mut caller: Guest<'_>, (fd, size): (i32, i64)| {
                Box::new(async move {
                    let freeing = p2::Freeing(quota(&mut caller, fd));
                    let mut charged = None;
                    if freeing.0.is_some() {
                        let now = length(&mut caller, fd).await?;
                        let growth = blocks(size.cast_unsigned()).saturating_sub(blocks(now));
                        match charge(&mut caller, fd, growth).await {
                            Ok(charge) => charged = charge,
                            Err(code) => return Ok(code),
                        }
                    }
                    let code = wasi!(caller, $module::$interface::fd_filestat_set_size(fd, size));
                    settle(code, charged);
                    Ok(code)
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_create_directory",
            |mut caller: Guest<'_>, (dir, path, length): (i32, i32, i32)| {
                Box::new(async move {
                    let charge = match charge(&mut caller, dir, ENTRY + blocks(1)).await {
                        Ok(charge) => charge,
                        Err(code) => return Ok(code),
                    };
                    let code = wasi!(caller, $module::$interface::path_create_directory(dir, path, length));
                    settle(code, charge);
                    Ok(code)
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_symlink",
            |mut caller: Guest<'_>, (target, target_length, dir, path, length): (i32, i32, i32, i32, i32)| {
                Box::new(async move {
                    let charge = match charge(&mut caller, dir, ENTRY + blocks(1)).await {
                        Ok(charge) => charge,
                        Err(code) => return Ok(code),
                    };
                    let code = wasi!(
                        caller,
                        $module::$interface::path_symlink(target, target_length, dir, path, length)
                    );
                    settle(code, charge);
                    Ok(code)
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_link",
            |mut caller: Guest<'_>,
             (from, links, old, old_length, to, new, new_length): (i32, i32, i32, i32, i32, i32, i32)| {
                Box::new(async move {
                    let moving = quota(&mut caller, to);
                    if !p2::same(quota(&mut caller, from).as_ref(), moving.as_ref()) {
                        return Ok(OTHER_DEVICE);
                    }
                    let charge = match charge(&mut caller, to, ENTRY).await {
                        Ok(charge) => charge,
                        Err(code) => return Ok(code),
                    };
                    let _moving = p2::Moving::new(moving);
                    let code = wasi!(
                        caller,
                        $module::$interface::path_link(from, links, old, old_length, to, new, new_length)
                    );
                    settle(code, charge);
                    Ok(code)
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_rename",
            |mut caller: Guest<'_>,
             (from, old, old_length, to, new, new_length): (i32, i32, i32, i32, i32, i32)| {
                Box::new(async move {
                    let moving = quota(&mut caller, to);
                    if !p2::same(quota(&mut caller, from).as_ref(), moving.as_ref()) {
                        return Ok(OTHER_DEVICE);
                    }
                    let _moving = p2::Moving::new(moving);
                    Ok(wasi!(
                        caller,
                        $module::$interface::path_rename(from, old, old_length, to, new, new_length)
                    ))
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_unlink_file",
            |mut caller: Guest<'_>, (dir, path, length): (i32, i32, i32)| {
                Box::new(async move {
                    let _freeing = p2::Freeing(quota(&mut caller, dir));
                    Ok(wasi!(caller, $module::$interface::path_unlink_file(dir, path, length)))
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "path_remove_directory",
            |mut caller: Guest<'_>, (dir, path, length): (i32, i32, i32)| {
                Box::new(async move {
                    let _freeing = p2::Freeing(quota(&mut caller, dir));
                    Ok(wasi!(caller, $module::$interface::path_remove_directory(dir, path, length)))
                })
            },
        )?;
        $linker.func_wrap_async(
            $name,
            "fd_readdir",
            |mut caller: Guest<'_>, (fd, place, length, cookie, used): (i32, i32, i32, i64, i32)| {
                Box::new(async move {
                    match list(&mut caller, fd, place, length, cookie).await? {
                        Some(Ok(written)) => {
                            let used = used.cast_unsigned() as usize;
                            let memory = memory(&mut caller)?;
                            memory.write(&mut caller, used, &written.to_le_bytes())?;
                            Ok(SUCCESS)
                        }
                        Some(Err(code)) => Ok(code),
                        // Whatever it is, wasmtime says what is wrong with it.
                        None => Ok(wasi!(
                            caller,
                            $module::$interface::fd_readdir(fd, place, length, cookie, used)
                        )),
                    }
                })
            },
        )?;
        $linker.func_wrap_async($name, "fd_close", |mut caller: Guest<'_>, (fd,): (i32,)| {
            Box::new(async move {
                let code = wasi!(caller, $module::$interface::fd_close(fd));
                if code == SUCCESS && let Some(files) = caller.data_mut().p1_files() {
                    files.open.remove(&fd.cast_unsigned());
                }
                Ok(code)
            })
        })?;
        $linker.func_wrap_async($name, "fd_renumber", |mut caller: Guest<'_>, (from, to): (i32, i32)| {
            Box::new(async move {
                let code = wasi!(caller, $module::$interface::fd_renumber(from, to));
                if code == SUCCESS && from != to && let Some(files) = caller.data_mut().p1_files() {
                    match files.open.remove(&from.cast_unsigned()) {
                        Some(open) => files.open.insert(to.cast_unsigned(), open),
                        None => files.open.remove(&to.cast_unsigned()),
                    };
                }
                Ok(code)
            })
        })?;
    };
}

/// Puts the functions here before wasmtime's, which have to be in the linker already.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_functions!(linker, "wasi_snapshot_preview1", wasi_snapshot_preview1::WasiSnapshotPreview1);
    link_functions!(linker, "wasi_unstable", wasi_unstable::WasiUnstable);
    linker.allow_shadowing(false);
    Ok(())
}
