//! Commands beside running containers: what ECS's ExecuteCommand runs.
//!
//! A command runs in an instance of its own of the container's component, with everything the container has: its
//! files, its network, its environment, and its share of the task's CPU and memory. Only arguments, input and output
//! are the command's own. Its first word says what is run:
//!
//! - a function the component exports (`add`, `demo:maths/sums#add`): called with the other words as its arguments;
//!   its result is written to the output as JSON;
//! - any other word: `wasi:cli/run`, which gets all of the words as its arguments, the first as its own name.
//!
//! A command ends with its container, and when nobody takes its output any more. Nothing here knows who asks for it,
//! nor over what.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use coracle_sandbox::{
    Container, ContainerSpec, Exit, Input, Invocation, Output, OutputSink, Plugin, Prepared, StdStream,
};
use coracle_types::ExecOutput;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// How many commands may run beside one container at once. Each may have an instance, and output that waits.
const COMMANDS_MAX: usize = 16;
/// How much output may wait to be taken, in bytes; a command that writes more waits. One write may exceed it.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// How many pieces of input may wait for the command to read them.
const INPUT_PIECES_MAX: usize = 16;
/// How many pieces of output are handed over ahead of whoever takes them.
const OUTPUT_PIECES_MAX: usize = 4;

/// A command that runs. Dropping it ends the command.
#[derive(Debug)]
pub struct Execution {
    /// Its standard input, which ends when this is dropped. Bounded: who sends waits until it is read.
    pub input: mpsc::Sender<Bytes>,
    /// What it writes, and its end. Bounded: it waits until this is read.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// Why a command was not started; the text stands on its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The task, or this container of it, does not run on this node, or takes no commands.
    #[error("the container does not run here, or its task was not started with enableExecuteCommand")]
    NotRunning,
    /// So many run beside this container already.
    #[error("{COMMANDS_MAX} commands run in this container already")]
    TooMany,
    /// The component has nothing of that name to run, or takes other arguments.
    #[error("{0}")]
    NothingToRun(String),
    /// No instance can be made for it.
    #[error("cannot start the command: {0}")]
    CannotStart(String),
}

/// What commands run in: a running container's component, and what that was granted.
pub(crate) struct Beside {
    prepared: Prepared,
    spec: ContainerSpec,
    places: Arc<Semaphore>,
    /// Closed when the container is over, because this is dropped then.
    running: watch::Sender<()>,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("places", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Beside {
    pub(crate) fn new(prepared: Prepared, spec: ContainerSpec) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(COMMANDS_MAX));
        Arc::new(Self { prepared, spec, places, running: watch::Sender::new(()) })
    }

    /// Starts a command. `argv` has at least one word.
    pub(crate) fn exec(&self, argv: Vec<String>) -> Result<Execution, ExecError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ExecError::TooMany)?;
        let (input, pieces) = mpsc::channel(INPUT_PIECES_MAX);
        let (out, output) = mpsc::channel(OUTPUT_PIECES_MAX);
        let backlog = Arc::new(Backlog::default());
        let spec = ContainerSpec {
            input: Input::from_reader(Pieces { pieces, current: Bytes::new() }),
            output: Arc::new(ToBacklog(Arc::clone(&backlog))),
            ..self.spec.clone()
        };
        let work = Work::new(&self.prepared, spec, argv)?;
        tokio::spawn(carry(work, backlog, out, self.running.subscribe(), place));
        Ok(Execution { input, output })
    }
}

/// What a command comes to.
enum Work {
    Run(Container),
    Call(Plugin, Invocation),
}

impl Work {
    fn new(prepared: &Prepared, spec: ContainerSpec, argv: Vec<String>) -> Result<Self, ExecError> {
        let Some((name, words)) = argv.split_first() else {
            return Err(ExecError::NothingToRun("the command has no words".to_owned()));
        };
        // A core module has no exports to call.
        if let Ok(plugin) = Plugin::new(prepared, spec.clone()) {
            match plugin.function(name) {
                // The standard interfaces are entered as they are meant to be: `run` is not a function to call.
                Ok(function) if !function.starts_with("wasi:") => {
                    let invocation = plugin.invocation(&function, words);
                    return match invocation {
                        Ok(invocation) => Ok(Self::Call(plugin, invocation)),
                        Err(error) => Err(ExecError::NothingToRun(error.to_string())),
                    };
                }
                Err(error) if !prepared.exports().command => {
                    return Err(ExecError::NothingToRun(format!(
                        "the component exports no wasi:cli/run, and {name} is not a function to call: {error}"
                    )));
                }
                _ => {}
            }
        }
        if !prepared.exports().command {
            return Err(ExecError::NothingToRun("the component exports no wasi:cli/run".to_owned()));
        }
        let container = Container::new(prepared, ContainerSpec { args: argv, ..spec });
        container.map(Self::Run).map_err(|error| ExecError::CannotStart(error.to_string()))
    }

    /// Runs it to its end; dropping the future stops it.
    async fn run(self) -> Exit {
        match self {
            Self::Run(container) => container.run().await,
            Self::Call(plugin, invocation) => plugin.run(&invocation).await,
        }
    }
}

/// Runs a command, and hands on what it writes, until it ends, its container does, or nobody listens any more.
async fn carry(
    work: Work,
    backlog: Arc<Backlog>,
    out: mpsc::Sender<ExecOutput>,
    mut running: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    let ended = async {
        let ended = work.run().await;
        backlog.close();
        ended
    };
    let handed_on = async {
        while let Some(piece) = backlog.next().await {
            if out.send(piece).await.is_err() {
                return;
            }
        }
    };
    let (code, said) = tokio::select! {
        (exit, ()) = async { tokio::join!(ended, handed_on) } => {
            let said = (!matches!(exit, Exit::Code(_))).then(|| exit.to_string());
            (exit.code(), said)
        }
        // It is never sent anything: this is the end of the container.
        _ = running.changed() => {
            (Exit::Killed.code(), Some("the container has ended, and the command with it".to_owned()))
        }
        () = out.closed() => return,
    };
    let said = said.map(|text| ExecOutput::Stderr(format!("{text}\n").into_bytes()));
    for last in said.into_iter().chain([ExecOutput::Exit(code)]) {
        if out.send(last).await.is_err() {
            return;
        }
    }
}

/// What a command has written and nobody has taken yet.
#[derive(Default)]
struct Backlog(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<ExecOutput>,
    bytes: usize,
    closed: bool,
    reader: Option<Waker>,
    /// Those that have more to write than there is room for.
    writers: Vec<Waker>,
}

impl Backlog {
    fn push(&self, stream: StdStream, bytes: &[u8]) {
        let mut waiting = self.0.lock();
        waiting.bytes += bytes.len();
        waiting.pieces.push_back(match stream {
            StdStream::Stdout => ExecOutput::Stdout(bytes.to_vec()),
            StdStream::Stderr => ExecOutput::Stderr(bytes.to_vec()),
        });
        if let Some(reader) = waiting.reader.take() {
            reader.wake();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.0.lock();
        if waiting.bytes < BACKLOG_BYTES_MAX {
            return Poll::Ready(());
        }
        if !waiting.writers.iter().any(|writer| writer.will_wake(cx.waker())) {
            waiting.writers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// There will be no more.
    fn close(&self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        if let Some(reader) = waiting.reader.take() {
            reader.wake();
        }
    }

    /// The next piece; None once there will be none.
    async fn next(&self) -> Option<ExecOutput> {
        poll_fn(|cx| {
            let mut waiting = self.0.lock();
            let Some(piece) = waiting.pieces.pop_front() else {
                if waiting.closed {
                    return Poll::Ready(None);
                }
                waiting.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if let ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) = &piece {
                waiting.bytes -= bytes.len();
            }
            if waiting.bytes < BACKLOG_BYTES_MAX {
                waiting.writers.drain(..).for_each(Waker::wake);
            }
            Poll::Ready(Some(piece))
        })
        .await
    }
}

struct ToBacklog(Arc<Backlog>);

impl Output for ToBacklog {
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(Sink { backlog: Arc::clone(&self.0), stream })
    }
}

/// One stream of one instance.
struct Sink {
    backlog: Arc<Backlog>,
    stream: StdStream,
}

impl OutputSink for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.backlog.push(self.stream, bytes);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.backlog.poll_room(cx)
    }
}

/// Pieces of input as one stream of bytes.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.current = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let some = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..some]);
        self.current.advance(some);
        Poll::Ready(Ok(()))
    }
}
