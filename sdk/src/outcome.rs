//! How a batch task ends.

use std::fmt::Display;

use crate::host;

/// An exit code, which becomes the container's. `std::process::exit` knows only success and failure on this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(
    /// 0 is success.
    pub u8,
);

/// What `main` may return.
pub trait Outcome {
    /// The exit code; an error has been printed to standard error.
    fn exit(self) -> Exit;
}

impl Outcome for () {
    fn exit(self) -> Exit {
        Exit(0)
    }
}

impl Outcome for Exit {
    fn exit(self) -> Exit {
        self
    }
}

impl<T: Outcome, E: Display> Outcome for Result<T, E> {
    fn exit(self) -> Exit {
        match self {
            Ok(outcome) => outcome.exit(),
            Err(error) => {
                // With everything that led to it, for errors that know the difference.
                eprintln!("error: {error:#}");
                Exit(1)
            }
        }
    }
}

/// Runs the `main` of a batch task and ends the process.
pub fn run<F: Future<Output: Outcome>>(main: impl FnOnce(Vec<String>) -> F) {
    host::start();
    let arguments = std::env::args().skip(1).collect();
    let Exit(code) = host::block_on(main(arguments)).exit();
    if code != 0 {
        host::exit(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_fail() {
        assert_eq!(().exit(), Exit(0));
        assert_eq!(Ok::<_, String>(Exit(3)).exit(), Exit(3));
        assert_eq!(Err::<(), _>("no").exit(), Exit(1));
    }
}
