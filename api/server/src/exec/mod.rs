//! Commands inside running tasks: who runs them, and the sessions ExecuteCommand opens.
//!
//! The room knows neither agents nor sandboxes: an [`ExecHost`] stands for them. ExecuteCommand answers with a
//! session, a secret token and an address; whoever connects there with the token within a minute gets the
//! command's input and output (`stream`). A session is used once and kept in memory only: a command does not
//! outlive its process either.

mod sessions;
mod stream;

use bytes::Bytes;
use coracle_store::BoxFuture;
use coracle_types::{ContainerName, TaskKey};
use tokio::sync::mpsc;

pub(crate) use self::sessions::Sessions;
pub(crate) use self::stream::connect;

/// What is to be run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCommand {
    /// The task.
    pub task: TaskKey,
    /// Its container.
    pub container: ContainerName,
    /// The arguments, the first of which names what is run: one of the component's exports, or whatever its
    /// `wasi:cli/run` takes for its own name.
    pub argv: Vec<String>,
}

/// Something a command wrote, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// To its standard output.
    Stdout(Bytes),
    /// To its standard error.
    Stderr(Bytes),
    /// It ended with this code; nothing comes after it.
    Exit(i32),
}

/// A command that runs. Dropping it ends the command.
#[derive(Debug)]
pub struct ExecStream {
    /// Its standard input, which ends when this is dropped. Bounded: who sends waits until it is read.
    pub input: mpsc::Sender<Bytes>,
    /// What it writes. Bounded: it waits until this is read.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// Why a command was not started; the text is shown to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecError(pub String);

/// Runs commands inside running tasks.
pub trait ExecHost: Send + Sync + 'static {
    /// Starts a command in the sandbox of a running container: with its files, its network and its limits.
    ///
    /// # Errors
    /// When the task does not run here, or the component has nothing to run of that name.
    fn exec(&self, command: ExecCommand) -> BoxFuture<'static, Result<ExecStream, ExecError>>;
}
