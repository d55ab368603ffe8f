//! Files of core modules, with quotas and bounds: see [`super::p2`].
//!
//! wasmtime's functions of `wasi_snapshot_preview1` and `wasi_unstable` call its own of WASI 0.2 directly, so what stands
//! before those is not asked. Here the same is done one level up, where a file is a number. Where its content ends, that
//! level does not say, so every write is charged with all it writes; what was written twice comes back when the
//! directory is measured.
//!
//! What is not bounded: `fd_readdir` reads all of a directory each time it is called.

use super::quota::{Charge, NoSpace};
use super::walk::{ENTRY, blocks};
use super::{DiskQuota, Lent, address, handle, p2};
use crate::host::HostState;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker, Memory};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p0::wasi_unstable;
use wasmtime_wasi::p1::types::Fd;
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::GuestMemory;

/// Which files of a core module count in which quota, by their numbers.
pub(crate) struct P1Files {
    lent: Arc<Lent>,
    quotas: HashMap<u32, DiskQuota>,
}

/// The first number that is not one of the standard streams: the directories come in order from here on.
const FIRST: u32 = 3;

impl P1Files {
    pub(crate) fn new(lent: Arc<Lent>) -> Self {
        let quotas = lent.directories.iter().zip(FIRST..);
        let quotas = quotas.filter_map(|(lent, number)| Some((number, lent.quota.clone()?))).collect();
        P1Files { lent, quotas }
    }
}

/// What these functions answer, as in `errno`.
const SUCCESS: i32 = 0;
const INVALID: i32 = 28;
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
    Some((files.lent.clone(), files.quotas.get(&fd.cast_unsigned())?.clone()))
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
    if let Some(number) = number {
        match quota.clone() {
            Some(quota) => files.quotas.insert(u32::from_le_bytes(number), quota),
            None => files.quotas.remove(&u32::from_le_bytes(number)),
        };
    }
    // wasmtime does not say which of them it is: whichever is not known yet.
    for entry in state.p1().ctx().table.iter_mut() {
        if let Some(descriptor) = entry.downcast_ref::<Descriptor>()
            && !lent.files.knows(address(handle(descriptor)))
        {
            lent.opened(descriptor, quota.as_ref());
        }
    }
    Ok(())
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
        $linker.func_wrap_async($name, "fd_close", |mut caller: Guest<'_>, (fd,): (i32,)| {
            Box::new(async move {
                let code = wasi!(caller, $module::$interface::fd_close(fd));
                if code == SUCCESS && let Some(files) = caller.data_mut().p1_files() {
                    files.quotas.remove(&fd.cast_unsigned());
                }
                Ok(code)
            })
        })?;
        $linker.func_wrap_async($name, "fd_renumber", |mut caller: Guest<'_>, (from, to): (i32, i32)| {
            Box::new(async move {
                let code = wasi!(caller, $module::$interface::fd_renumber(from, to));
                if code == SUCCESS && from != to && let Some(files) = caller.data_mut().p1_files() {
                    files.quotas.remove(&to.cast_unsigned());
                    if let Some(quota) = files.quotas.remove(&from.cast_unsigned()) {
                        files.quotas.insert(to.cast_unsigned(), quota);
                    }
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
