//! What a connection reads into and writes from. Both hold no memory while there is nothing in them, if their owner
//! wants it so.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Bytes that are read at once at first, and when reads keep being that long.
const MIN_READ: usize = 4 * 1024;
const MAX_READ: usize = 64 * 1024;

/// What is read into a buffer this full is copied out, so that the buffer stays.
pub(crate) const SMALL: usize = 2 * 1024;

/// What is written from a buffer larger than this leaves none behind.
const MAX_KEPT: usize = 16 * 1024;

/// Bytes that are read at once where nothing may be kept.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// What idle connections read into: nearly always there is nothing, or a whole head.
    static READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    /// What connections write heads into. One is enough: a head is nearly always written at once.
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads into memory of this thread, and gives what was read to `take`: nothing at the end of the stream.
pub(crate) fn poll_peruse<T: AsyncRead + Unpin, R>(
    io: &mut T,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    let mut scratch = READ.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let mut buffer = ReadBuf::new(&mut scratch);
    let polled = Pin::new(io).poll_read(cx, &mut buffer);
    let taken = polled.map_ok(|()| take(buffer.filled()));
    READ.set(Some(scratch));
    taken
}

/// What was read, and not looked at yet.
pub(crate) struct Input {
    pub(crate) buffer: BytesMut,
    read_size: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), read_size: MIN_READ }
    }
}

impl Input {
    /// Reads more, and gives how much: nothing at the end of the stream.
    pub(crate) fn poll_read<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        T: AsyncRead + Unpin,
    {
        if self.buffer.capacity() - self.buffer.len() < self.read_size {
            self.buffer.reserve(self.read_size);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        // The future keeps nothing from one poll to the next.
        let read = ready!(pin!(io.read_buf(&mut self.buffer)).poll(cx));
        if read.as_ref().is_ok_and(|len| *len == room) {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        }
        Poll::Ready(read)
    }

    /// Lets go of what was only needed for much at once.
    pub(crate) fn shrink(&mut self) {
        if self.read_size > MIN_READ {
            self.read_size = MIN_READ;
            self.buffer = BytesMut::new();
        }
    }
}

/// What is to be written: three parts, one behind the other.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) buffer: Vec<u8>,
    written: usize,
    pub(crate) data: Bytes,
    pub(crate) tail: &'static [u8],
    /// Something was written since the last flush.
    is_dirty: bool,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.buffer.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether more can be added behind what there is.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.buffer.len() < MAX_KEPT
    }

    /// Adds a part of a body, and what follows it.
    pub(crate) fn add(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= SMALL {
            // Copied, it costs less than as a part of its own.
            self.buffer.extend_from_slice(&data);
            self.buffer.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Takes memory of this thread, if there is none here.
    pub(crate) fn borrow(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = WRITE.take();
        }
    }

    /// Gives the memory to this thread, once all was written.
    pub(crate) fn give_back(&mut self) {
        if self.is_empty() && self.buffer.capacity() > 0 {
            WRITE.set(std::mem::take(&mut self.buffer));
        }
    }

    /// Writes and flushes all there is.
    pub(crate) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut io = Pin::new(io);
        while !self.is_empty() {
            let head = &self.buffer[self.written..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                io.as_mut().poll_write(cx, head)
            } else {
                let parts = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                io.as_mut().poll_write_vectored(cx, &parts)
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.advance(len),
            }
        }
        if self.is_dirty {
            ready!(io.poll_flush(cx))?;
            self.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut len: usize) {
        self.is_dirty = true;
        let of_head = len.min(self.buffer.len() - self.written);
        self.written += of_head;
        len -= of_head;
        if self.written == self.buffer.len() {
            self.written = 0;
            self.buffer.clear();
            self.buffer.shrink_to(MAX_KEPT);
        }
        let of_data = len.min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[len - of_data..];
    }
}
