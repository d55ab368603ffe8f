//! Standard output and standard error: traits for where they go, and the streams guests write to.

use bytes::Bytes;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where a container's output goes.
pub trait Output: Send + Sync + 'static {
    /// Called at an instance's first write to a stream; instances that write nothing cost nothing.
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink>;
}

/// One instance's stream. Dropping it is the end of the stream: whatever is held back is to be passed on then.
pub trait OutputSink: Send {
    /// Takes all of `bytes`. Never blocks, and is only called after [`poll_ready`](Self::poll_ready) was ready.
    fn write(&mut self, bytes: &[u8]);

    /// Whether more may be written. While it is pending, the guest waits.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Output nobody wants.
pub(crate) struct Discard;

impl Output for Discard {
    fn open(&self, _stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(Discard)
    }
}

impl OutputSink for Discard {
    fn write(&mut self, _bytes: &[u8]) {}

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Splits bytes into lines, for sinks that think in lines.
///
/// Lines are handed on without their `\n` or `\r\n`. A line longer than [`MAX_LINE`](Self::MAX_LINE) is handed on
/// in pieces of that length. A last line without end is handed on by [`finish`](Self::finish) or on drop.
pub struct LineSplitter<F: FnMut(&[u8])> {
    partial: Vec<u8>,
    emit: F,
}

impl<F: FnMut(&[u8])> LineSplitter<F> {
    /// The longest line, in bytes: what CloudWatch Logs takes as one event.
    pub const MAX_LINE: usize = 256 * 1024;

    /// Lines go to `emit`, one call each, in order.
    pub fn new(emit: F) -> Self {
        LineSplitter { partial: Vec::new(), emit }
    }

    /// Adds bytes; hands on the lines they complete.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_line();
        }
        self.extend(bytes);
    }

    /// Hands on what is left as a last line, if anything is.
    pub fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.end_line();
        }
    }

    fn extend(&mut self, mut bytes: &[u8]) {
        while self.partial.len() + bytes.len() > Self::MAX_LINE {
            let (now, later) = bytes.split_at(Self::MAX_LINE - self.partial.len());
            self.partial.extend_from_slice(now);
            (self.emit)(&self.partial);
            self.partial.clear();
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end_line(&mut self) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        (self.emit)(line);
        self.partial.clear();
    }
}

impl<F: FnMut(&[u8])> Drop for LineSplitter<F> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What a guest may write at once, and so what the host holds for it between two polls.
const PERMIT: usize = 64 * 1024;

/// One instance's stream as all the handles the guest may have of it share it.
pub(crate) struct Shared {
    output: Arc<dyn Output>,
    stream: StdStream,
    sink: Mutex<Option<Box<dyn OutputSink>>>,
}

impl Shared {
    pub(crate) fn new(output: Arc<dyn Output>, stream: StdStream) -> Arc<Self> {
        Arc::new(Shared { output, stream, sink: Mutex::new(None) })
    }

    /// Writes at most [`PERMIT`] bytes as soon as the sink takes some; answers how many it took.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<usize> {
        self.poll_ready(cx).map(|()| {
            let now = &bytes[..bytes.len().min(PERMIT)];
            self.write(now);
            now.len()
        })
    }

    fn write(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sink.lock().get_or_insert_with(|| self.output.open(self.stream)).write(bytes);
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        // A sink that has not been opened has nothing to wait for.
        self.sink.lock().as_mut().map_or(Poll::Ready(()), |sink| sink.poll_ready(cx))
    }
}

/// A handle the guest has of its stream.
pub(crate) struct GuestStream {
    shared: Arc<Shared>,
    /// Bytes the guest may still write before it has to ask again.
    permit: usize,
}

impl GuestStream {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        GuestStream { shared, permit: 0 }
    }
}

impl Pollable for GuestStream {
    // What `async_trait` would make of `async fn ready(&mut self)`.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(poll_fn(|cx| self.shared.poll_ready(cx)))
    }
}

impl OutputStream for GuestStream {
    // Guests are to ask first, and wasmtime leaves it to the stream to insist. One that did not would fill the host's
    // memory with what the sink has no room for.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Some(left) = self.permit.checked_sub(bytes.len()) else {
            return Err(StreamError::trap("wrote more than `check-write` allows"));
        };
        self.permit = left;
        self.shared.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = match self.shared.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => PERMIT,
            Poll::Pending => 0,
        };
        Ok(self.permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(writes: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut splitter =
            LineSplitter::new(|line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned()));
        for write in writes {
            splitter.write(write);
        }
        drop(splitter);
        lines
    }

    #[test]
    fn lines_are_put_together_and_taken_apart() {
        assert_eq!(split(&[b"a\nb", b"c\r\n", b"\n", b"rest"]), ["a", "bc", "", "rest"]);
        assert_eq!(split(&[b"one\n"]), ["one"]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn a_carriage_return_may_arrive_apart_from_its_line_feed() {
        assert_eq!(split(&[b"a\r", b"\nb"]), ["a", "b"]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let long = vec![b'x'; LineSplitter::<fn(&[u8])>::MAX_LINE + 10];
        let lines = split(&[&long, b"\n"]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [256 * 1024, 10]);
    }

    #[test]
    fn nothing_is_opened_before_the_first_write() {
        struct Panics;
        impl Output for Panics {
            fn open(&self, _stream: StdStream) -> Box<dyn OutputSink> {
                panic!("opened");
            }
        }
        let mut stream = GuestStream::new(Shared::new(Arc::new(Panics), StdStream::Stdout));
        assert_eq!(stream.check_write().unwrap(), PERMIT);
        stream.write(Bytes::new()).unwrap();
    }

    #[test]
    fn nothing_is_written_without_permission() {
        let mut stream = GuestStream::new(Shared::new(Arc::new(Discard), StdStream::Stdout));
        let is_trap = |result| matches!(result, Err(StreamError::Trap(_)));
        assert!(is_trap(stream.write(Bytes::from_static(b"x"))));
        assert_eq!(stream.check_write().unwrap(), PERMIT);
        assert!(is_trap(stream.write(Bytes::from(vec![0; PERMIT + 1]))));
        stream.write(Bytes::from(vec![0; PERMIT / 2])).unwrap();
        stream.write(Bytes::from(vec![0; PERMIT / 2])).unwrap();
        assert!(is_trap(stream.write(Bytes::from_static(b"x"))));
    }
}
