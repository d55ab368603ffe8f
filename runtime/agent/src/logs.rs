//! Where containers' output goes: which log stream, and how lines get there.
//!
//! A line is charged to its container's memory until it has been written. One for which there is no room goes on its way
//! all the same, because the guest has been told that it is out; but then the guest waits until lines have been written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use coracle_sandbox::{LineSplitter, MemoryBudget, MemoryHold, Output, OutputSink, StdStream};
use coracle_types::{LogConfiguration, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::agent::Clock;

/// A log stream, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogTarget {
    /// The region of the log group.
    pub region: String,
    /// The log group.
    pub group: String,
    /// The log stream in it.
    pub stream: String,
    /// Whether the group is made if it is not there: `awslogs-create-group`, and always for containers that
    /// name no group of their own.
    pub create_group: bool,
}

/// Takes log lines. The log store of this process, or a client of one.
pub trait LogSink: Send + Sync + 'static {
    /// Opens a stream, making it if need be. Does not block.
    fn open(&self, target: LogTarget) -> Arc<dyn LogStream>;
}

/// An open log stream.
pub trait LogStream: Send + Sync + 'static {
    /// Adds a line, without its end. Does not block.
    fn line(&self, timestamp: Timestamp, line: &[u8]);

    /// Whether there is room for more. A guest that writes while there is none waits.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Resolves when every line added before can be read by others.
    fn flush(&self) -> BoxFuture<'static, ()>;
}

/// What names a container's log stream when its definition does not.
pub(crate) struct LogNames<'a> {
    pub(crate) region: &'a str,
    pub(crate) family: &'a str,
    pub(crate) container: &'a str,
    pub(crate) task: &'a str,
    pub(crate) runtime_id: &'a str,
}

/// The log stream of a container; `None` for the driver `none`.
///
/// With the driver `awslogs` it is what ECS makes of the options: the stream is
/// `PREFIX/CONTAINER/TASK`, and without a prefix the runtime id. Without a log configuration, with another
/// driver, or without a group, it is `ecs/CONTAINER/TASK` in the group `/ecs/FAMILY` of the built-in store,
/// where ECS would lose the output.
pub(crate) fn log_target(
    configuration: Option<&LogConfiguration>,
    names: &LogNames<'_>,
) -> Option<LogTarget> {
    let none = BTreeMap::new();
    let (driver, options) = configuration
        .map_or(("", &none), |configuration| (configuration.driver.as_str(), &configuration.options));
    if driver == "none" {
        return None;
    }
    let option = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let LogNames { region, family, container, task, runtime_id } = names;
    let target = match option("awslogs-group").filter(|_| driver == "awslogs") {
        Some(group) => LogTarget {
            region: option("awslogs-region").unwrap_or(region).to_owned(),
            group: group.to_owned(),
            stream: option("awslogs-stream-prefix")
                .map_or_else(|| (*runtime_id).to_owned(), |prefix| format!("{prefix}/{container}/{task}")),
            create_group: option("awslogs-create-group")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        },
        None => LogTarget {
            region: (*region).to_owned(),
            group: format!("/ecs/{family}"),
            stream: format!("ecs/{container}/{task}"),
            create_group: true,
        },
    };
    Some(target)
}

/// Passes a container's output on to its log stream, line by line.
///
/// Every instance splits its lines for itself, so lines of requests that run at the same time are never
/// mixed. Lines of stdout and stderr arrive in the order in which they were completed.
#[derive(Clone)]
pub(crate) struct LogOutput {
    queue: Arc<Queue>,
    clock: Clock,
    /// How many instances' streams are open.
    open: Arc<watch::Sender<usize>>,
}

/// A container's lines on their way to its log stream.
struct Queue {
    stream: Arc<dyn LogStream>,
    memory: MemoryBudget,
    /// Lines that have not been written, as far as is known.
    unwritten: Mutex<Unwritten>,
}

#[derive(Default)]
struct Unwritten {
    held: Option<MemoryHold>,
    /// Whether there was no room for one of them.
    is_short: bool,
    /// Whether somebody waits until they are written.
    is_awaited: bool,
    wakers: Vec<Waker>,
}

/// What a line costs beside its text, in bytes.
const LINE: u64 = 128;

impl Queue {
    fn line(self: &Arc<Self>, timestamp: Timestamp, line: &[u8]) {
        self.stream.line(timestamp, line);
        let mut unwritten = self.unwritten.lock();
        // One for all, because whoever gives it back is to be done with it at once.
        let bytes = line.len() as u64 + LINE;
        let fits = match &mut unwritten.held {
            Some(held) => held.grow(bytes),
            held => {
                *held = self.memory.hold(bytes);
                held.is_some()
            }
        };
        unwritten.is_short |= !fits;
        if !std::mem::replace(&mut unwritten.is_awaited, true) {
            tokio::spawn(Arc::clone(self).until_written());
        }
    }

    /// Gives back what lines hold as they are written, until there are none.
    async fn until_written(self: Arc<Self>) {
        loop {
            let held = {
                let mut unwritten = self.unwritten.lock();
                std::mem::take(&mut unwritten.held)
            };
            self.stream.flush().await;
            let is_last = {
                let mut unwritten = self.unwritten.lock();
                unwritten.is_awaited = unwritten.held.is_some();
                unwritten.is_short &= unwritten.is_awaited;
                unwritten.wakers.drain(..).for_each(Waker::wake);
                !unwritten.is_awaited
            };
            drop(held);
            if is_last {
                return;
            }
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut unwritten = self.unwritten.lock();
            if unwritten.is_short && unwritten.is_awaited {
                if !unwritten.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    unwritten.wakers.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        self.stream.poll_ready(cx)
    }
}

impl LogOutput {
    /// `memory` pays for lines until they are written.
    pub(crate) fn new(stream: Arc<dyn LogStream>, clock: Clock, memory: MemoryBudget) -> Self {
        let queue = Arc::new(Queue { stream, memory, unwritten: Mutex::default() });
        Self { queue, clock, open: Arc::new(watch::Sender::new(0)) }
    }

    /// Resolves when every instance's stream has been closed, and all of their lines can be read.
    pub(crate) async fn finish(&self) {
        let mut open = self.open.subscribe();
        // The sender is `self`, so waiting can't fail.
        let _ = open.wait_for(|&open| open == 0).await;
        self.queue.stream.flush().await;
    }
}

impl Output for LogOutput {
    fn open(&self, _stream: StdStream) -> Box<dyn OutputSink> {
        self.open.send_modify(|open| *open += 1);
        let (queue, clock) = (Arc::clone(&self.queue), Arc::clone(&self.clock));
        Box::new(Lines {
            splitter: LineSplitter::new(Box::new(move |line: &[u8]| queue.line(clock(), line)) as Emit),
            queue: Arc::clone(&self.queue),
            _open: Open(Arc::clone(&self.open)),
        })
    }
}

type Emit = Box<dyn FnMut(&[u8]) + Send>;

/// One instance's stream. Fields are dropped in this order: the last line goes out before the stream counts
/// as closed.
struct Lines {
    splitter: LineSplitter<Emit>,
    queue: Arc<Queue>,
    _open: Open,
}

impl OutputSink for Lines {
    fn write(&mut self, bytes: &[u8]) {
        self.splitter.write(bytes);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_ready(cx)
    }
}

struct Open(Arc<watch::Sender<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const NAMES: LogNames<'_> = LogNames {
        region: "us-east-1",
        family: "web-app",
        container: "web",
        task: "0123",
        runtime_id: "0123-4567",
    };

    fn configuration(driver: &str, options: &[(&str, &str)]) -> LogConfiguration {
        LogConfiguration {
            driver: driver.to_owned(),
            options: options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            rest: Default::default(),
        }
    }

    #[track_caller]
    fn check(driver: &str, options: &[(&str, &str)], region: &str, group: &str, stream: &str, create: bool) {
        let target = log_target(Some(&configuration(driver, options)), &NAMES).unwrap();
        assert_eq!(
            (target.region.as_str(), target.group.as_str(), target.stream.as_str(), target.create_group),
            (region, group, stream, create)
        );
    }

    #[test]
    fn awslogs_options_name_the_stream_as_in_ecs() {
        check(
            "awslogs",
            &[
                ("awslogs-group", "/my/group"),
                ("awslogs-region", "eu-west-1"),
                ("awslogs-stream-prefix", "app"),
                ("awslogs-create-group", "true"),
            ],
            "eu-west-1",
            "/my/group",
            "app/web/0123",
            true,
        );
        check("awslogs", &[("awslogs-group", "g")], "us-east-1", "g", "0123-4567", false);
    }

    #[test]
    fn output_is_kept_without_a_configuration_too() {
        check("json-file", &[("max-size", "1m")], "us-east-1", "/ecs/web-app", "ecs/web/0123", true);
        check("awslogs", &[], "us-east-1", "/ecs/web-app", "ecs/web/0123", true);
        let target = log_target(None, &NAMES).unwrap();
        assert_eq!((target.group.as_str(), target.stream.as_str()), ("/ecs/web-app", "ecs/web/0123"));
        assert_eq!(log_target(Some(&configuration("none", &[])), &NAMES), None);
    }

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl LogStream for Recorder {
        fn line(&self, timestamp: Timestamp, line: &[u8]) {
            self.0.lock().push(format!("{} {}", timestamp.0, String::from_utf8_lossy(line)));
        }
        fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
        fn flush(&self) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn instances_do_not_mix_their_lines_and_the_end_waits_for_all() {
        let recorder = Arc::new(Recorder::default());
        let memory = MemoryBudget::new(u64::MAX);
        let stream = Arc::clone(&recorder) as Arc<dyn LogStream>;
        let output = LogOutput::new(stream, Arc::new(|| Timestamp(7)), memory);
        let mut first = output.open(StdStream::Stdout);
        let mut second = output.open(StdStream::Stderr);
        first.write(b"one ");
        second.write(b"two\nthree");
        first.write(b"line\n");
        let mut end = Box::pin(output.finish());
        assert!((&mut end).now_or_never().is_none());
        drop(first);
        assert!((&mut end).now_or_never().is_none());
        drop(second);
        end.await;
        assert_eq!(*recorder.0.lock(), ["7 two", "7 one line", "7 three"]);
    }

    /// Writes nothing until it is told to.
    struct Stuck(watch::Sender<bool>);

    impl LogStream for Stuck {
        fn line(&self, _timestamp: Timestamp, _line: &[u8]) {}
        fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
        fn flush(&self) -> BoxFuture<'static, ()> {
            let mut written = self.0.subscribe();
            Box::pin(async move {
                let _ = written.wait_for(|&written| written).await;
            })
        }
    }

    #[tokio::test]
    async fn lines_that_are_not_written_are_charged_and_make_the_guest_wait() {
        let stuck = Arc::new(Stuck(watch::Sender::new(false)));
        let memory = MemoryBudget::new(1000);
        let stream = Arc::clone(&stuck) as Arc<dyn LogStream>;
        let output = LogOutput::new(stream, Arc::new(|| Timestamp(7)), memory.clone());
        let mut sink = output.open(StdStream::Stdout);
        sink.write(&[[b'x'; 371].as_slice(), b"\n"].concat());
        assert_eq!(memory.current(), 371 + LINE);
        let ready = std::future::poll_fn(|cx| sink.poll_ready(cx)).now_or_never();
        assert!(ready.is_some(), "there is room for more");
        sink.write(&[[b'x'; 600].as_slice(), b"\n"].concat());
        assert!(std::future::poll_fn(|cx| sink.poll_ready(cx)).now_or_never().is_none(), "there is none");
        stuck.0.send_replace(true);
        std::future::poll_fn(|cx| sink.poll_ready(cx)).await;
        while memory.current() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
