//! Writing to the terminal, or to whoever reads in its place.
//!
//! The standard `println!` panics when its reader has gone, and that is ordinary: `coracle logs web |
//! head -1`, or Ctrl-C at `coracle up | tee log`, which ends `tee` first and must not keep tasks from
//! being stopped in order.

use std::fmt::Arguments;
use std::io;

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
    write_line(&mut io::stdout().lock(), text)
}

pub(crate) fn note_line(text: Arguments<'_>) {
    // Both are one terminal most of the time: a line to it is not cut by one of the other stream.
    let _stdout = io::stdout().lock();
    // There is nobody to tell.
    let _ = write_line(&mut io::stderr().lock(), text);
}

/// Writes a line in one piece. Standard error keeps nothing back, so formatting straight into it would be a
/// system call for every piece of the text, with room for another process's output between them.
fn write_line(out: &mut impl io::Write, text: Arguments<'_>) -> io::Result<()> {
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
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

    /// Whatever is written to it, write by write.
    #[derive(Default)]
    struct Pieces(Vec<String>);

    impl io::Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_in_one_piece() {
        let mut pieces = Pieces::default();
        let (version, reason) = ("app:3", "it traps");
        write_line(&mut pieces, format_args!("{version} does not start: {reason}; app:2 goes on.")).unwrap();
        assert_eq!(pieces.0, ["app:3 does not start: it traps; app:2 goes on.\n"]);
    }

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
