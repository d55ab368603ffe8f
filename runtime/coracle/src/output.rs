//! Writing to the terminal, or to whoever reads in its place.
//!
//! The standard `println!` panics when its reader has gone, and that is ordinary: `coracle logs web |
//! head -1`, or Ctrl-C at `coracle up | tee log`, which ends `tee` first and must not keep tasks from
//! being stopped in order.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// Writes a line to standard output: `say!("{count} tasks")?`. An error is most likely a reader that has
/// seen enough; [`is_reader_gone`] tells.
macro_rules! say {
    () => { $crate::output::say_line(format_args!("")) };
    ($($text:tt)*) => { $crate::output::say_line(format_args!($($text)*)) };
}

/// Writes a line to standard error, if anybody reads it.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::note_line(format_args!($($text)*)) };
}

pub(crate) use {note, say};

pub(crate) fn say_line(text: Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

pub(crate) fn note_line(text: Arguments<'_>) {
    // There is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether this is no failure: whoever read our output has stopped reading.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(broken)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn only_a_closed_pipe_is_a_reader_that_has_gone() {
        let error = |kind: io::ErrorKind| anyhow::Error::from(io::Error::from(kind));
        assert!(is_reader_gone(&error(io::ErrorKind::BrokenPipe)));
        assert!(!is_reader_gone(&error(io::ErrorKind::NotFound)));
        // The connection to the API broke: that is a failure.
        assert!(!is_reader_gone(&anyhow::anyhow!("the connection broke: broken pipe")));
        let result: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_reader_gone(&result.context("cannot print").unwrap_err()));
    }
}
