//! Reading a directory in pieces.
//!
//! wasmtime reads all of a directory at once for WASI 0.2, however many names there are, and once more for every call of
//! preview 1; it keeps a thread for as long as a guest of WASI 0.3 reads one, of which a process has 512. Here a piece is
//! read when the guest wants one, and the guest pays for the time it takes.

use super::{Files, Lent};
use crate::cpu::{CpuBudget, thread_cpu};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Names read at once: at most 256 bytes each.
const PIECE: usize = 128;

/// A directory that is being read.
pub(super) struct Listing {
    read: VecDeque<Entry>,
    rest: Rest,
    /// Pays for reading.
    cpu: CpuBudget,
}

enum Rest {
    /// Not read yet.
    Directory(Arc<File>, Files),
    Open(Box<Dir>, Token),
    /// A piece of it is being read, or was not read to its end.
    Taken,
    End,
}

/// Keeps a place among the open files: the directory is opened once more to be read.
type Token = Arc<()>;

/// A name, and what has it.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: FileType,
    /// The number of its inode.
    pub(super) inode: u64,
}

/// Names that were read, and where to go on reading.
type Names = (Vec<Entry>, Option<(Box<Dir>, Token)>);

/// More of a directory, on its way.
pub(super) type Piece = tokio::task::JoinHandle<io::Result<Names>>;

impl Listing {
    /// Of a directory that is open.
    pub(super) fn new(directory: Arc<File>, lent: &Lent) -> Self {
        let rest = Rest::Directory(directory, lent.files.clone());
        Self { read: VecDeque::new(), rest, cpu: lent.cpu.clone() }
    }

    /// A name that has been read already.
    pub(super) fn ready(&mut self) -> Option<Entry> {
        self.read.pop_front()
    }

    /// Begins to read more, where blocking is allowed. None at the end.
    pub(super) fn more(&mut self) -> Option<Piece> {
        let rest = std::mem::replace(&mut self.rest, Rest::Taken);
        if let Rest::Taken | Rest::End = rest {
            self.rest = Rest::End;
            return None;
        }
        let cpu = self.cpu.clone();
        Some(tokio::task::spawn_blocking(move || {
            let started = thread_cpu();
            let names = rest.read();
            cpu.bill(Duration::from_nanos(thread_cpu().saturating_sub(started)));
            names
        }))
    }

    /// Takes in what [`more`](Self::more) has read.
    pub(super) fn take_in(&mut self, piece: <Piece as Future>::Output) -> io::Result<()> {
        let (entries, rest) = piece.map_err(io::Error::other)??;
        self.read.extend(entries);
        self.rest = match rest {
            Some((dir, token)) => Rest::Open(dir, token),
            None => Rest::End,
        };
        Ok(())
    }

    /// The next name; None after the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready() {
                return Ok(Some(entry));
            }
            let Some(piece) = self.more() else { return Ok(None) };
            self.take_in(piece.await)?;
        }
    }
}

impl Rest {
    fn read(self) -> io::Result<Names> {
        match self {
            Rest::Directory(directory, files) => {
                if !files.has_room() {
                    return Err(rustix::io::Errno::MFILE.into());
                }
                let dir = Dir::read_from(&*directory)?;
                let token: Token = Arc::new(());
                files.hold(&token, None);
                piece(Box::new(dir), token)
            }
            Rest::Open(dir, token) => piece(dir, token),
            Rest::Taken | Rest::End => Ok((Vec::new(), None)),
        }
    }
}

fn piece(mut dir: Box<Dir>, token: Token) -> io::Result<Names> {
    let mut entries = Vec::new();
    while entries.len() < PIECE {
        let Some(entry) = dir.read() else { return Ok((entries, None)) };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system says.
            FileType::Unknown => statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |found| FileType::from_raw_mode(found.st_mode)),
            kind => kind,
        };
        entries.push(Entry { name: name.to_bytes().to_vec(), kind, inode: entry.ino() });
    }
    Ok((entries, Some((dir, token))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(files: &Files) -> Lent {
        Lent::new(&[], files.clone(), CpuBudget::unlimited()).unwrap()
    }

    #[tokio::test]
    async fn a_large_directory_is_read_in_pieces() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..PIECE * 2 + 3 {
            std::fs::write(root.path().join(format!("file-{number}")), "").unwrap();
        }
        std::fs::create_dir(root.path().join("sub")).unwrap();
        let files = Files::new(1);
        let lent = lent(&files);
        let mut listing = Listing::new(Arc::new(File::open(root.path()).unwrap()), &lent);
        let (mut names, mut directories) = (std::collections::BTreeSet::new(), 0);
        while let Some(entry) = listing.next().await.unwrap() {
            assert!(listing.read.len() < PIECE);
            directories += usize::from(entry.kind == FileType::Directory);
            names.insert(entry.name);
        }
        assert_eq!((names.len(), directories), (PIECE * 2 + 4, 1));
        assert!(listing.next().await.unwrap().is_none());
        assert_eq!(files.open(), 0, "closed at its end");
        assert!(lent.cpu.used() > Duration::ZERO, "reading is paid for");
    }

    #[tokio::test]
    async fn a_directory_that_is_read_is_an_open_file() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..=PIECE {
            std::fs::write(root.path().join(format!("file-{number}")), "").unwrap();
        }
        let files = Files::new(1);
        let directory = Arc::new(File::open(root.path()).unwrap());
        let lent = lent(&files);
        let mut first = Listing::new(directory.clone(), &lent);
        first.next().await.unwrap().unwrap();
        let mut second = Listing::new(directory, &lent);
        assert!(second.next().await.is_err(), "too many open files");
        drop(first);
        assert_eq!(files.open(), 0);
    }
}
