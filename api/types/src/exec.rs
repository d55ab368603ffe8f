//! Commands inside running tasks, as they go between whoever asks for one and the node that runs it.

/// Something a command wrote, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// To its standard output.
    Stdout(Vec<u8>),
    /// To its standard error.
    Stderr(Vec<u8>),
    /// It ended with this code; nothing comes after it.
    Exit(i32),
}
