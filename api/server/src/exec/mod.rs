//! Commands inside running tasks: who runs them, and the sessions ExecuteCommand opens.
//!
//! ```text
//! ExecuteCommand ─▶ a session: id, address, token                       sessions
//! GET /_coracle/exec/ID, upgraded to WebSocket; the first message has the token
//!        ─▶ the command starts ─▶ its input and output over one of two protocols    stream
//!               ├─ AWS's data channel, which session-manager-plugin speaks       data_channel, agent_message
//!               │    └─ and what a terminal would do                             terminal
//!               └─ plain frames, which `coracle exec` speaks                     frames
//! ```
//!
//! The room knows neither agents nor sandboxes: an [`ExecHost`] stands for them. A session is used once, within a
//! minute, and kept in memory only: a command does not outlive its process either. One on which nothing has gone
//! either way for twenty minutes is ended, as in ECS.

mod agent_message;
mod data_channel;
mod frames;
mod sessions;
mod stream;
mod terminal;

use bytes::Bytes;
use coracle_store::BoxFuture;
use coracle_types::{ContainerName, ExecOutput, TaskKey};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use self::sessions::Sessions;
pub(crate) use self::stream::connect;

/// How much input may wait for a command to read it, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;

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

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The command came to its end, with this exit code.
    Exited(i32),
    /// The command was not started, was lost, or was ended from outside; the text says why.
    Failed(String),
}

/// What a protocol wants done after something came in, or time has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Send this to the client, as one binary message.
    Send(Bytes),
    /// Hand this to the command.
    Input(Bytes),
    /// The command's input ends.
    EndOfInput,
    /// End the command, which then counts as exited with this code.
    Interrupt(i32),
    /// Close the connection; the command ends if it has not.
    Close,
}

/// One of the protocols that carry a command's input and output. A state machine: it has no connection and no clock.
trait Protocol: Send {
    /// The connection is open and the command has been started.
    fn begin(&mut self, now: Instant) -> Vec<Step>;

    /// A binary message came. Without `room` the command has not read [`INPUT_BYTES_MAX`] of its input yet, and
    /// no more is to be taken for it; everything else is.
    ///
    /// # Errors
    /// When it is none of this protocol's; the connection is closed then.
    fn receive(&mut self, message: &[u8], now: Instant, room: bool) -> Result<Vec<Step>, String>;

    /// The command took so many bytes of its input.
    fn taken(&mut self, bytes: usize) -> Vec<Step>;

    /// Whether [`Protocol::say`] may be called.
    fn has_room(&self) -> bool;

    /// The command wrote something: one of its two streams, never its end.
    fn say(&mut self, bytes: Vec<u8>, to_stderr: bool, now: Instant) -> Vec<Step>;

    /// The command, or the session, is over. Nothing is said afterwards.
    fn end(&mut self, end: &End, now: Instant) -> Vec<Step>;

    /// When [`Protocol::wake`] is to be called if nothing happens before.
    fn wakes_at(&self) -> Option<Instant>;

    /// That moment has come.
    fn wake(&mut self, now: Instant) -> Vec<Step>;
}
