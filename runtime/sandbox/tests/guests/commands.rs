//! `wasi:cli/run`.

use crate::{ENGINE, Lines, command_guest, eventually};
use coracle_sandbox::{
    Container, ContainerSpec, Directory, Engine, EngineConfig, Exit, Input, Localhost, Loopback, Mount,
    Network, NetworkSpec, Output, OutputSink, StdStream, TrapKind,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

async fn output_of(args: &[&str], spec: ContainerSpec) -> (Exit, Vec<String>) {
    let lines = Lines::default();
    let spec = ContainerSpec { output: Arc::new(lines.clone()), ..spec };
    let exit = command_guest(args, spec).run().await;
    (exit, lines.of(StdStream::Stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_pass_through() {
    for code in [0, 1, 42, 255] {
        let exit = command_guest(&["exit", &code.to_string()], ContainerSpec::default()).run().await;
        assert_eq!(exit, Exit::Code(code));
        assert_eq!(exit.code(), i32::try_from(code).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_environment_arrive_in_order() {
    let (exit, lines) = output_of(&["args", "one", "two words"], ContainerSpec::default()).await;
    assert_eq!(
        (exit, lines),
        (Exit::Code(0), ["guest", "args", "one", "two words"].map(str::to_owned).to_vec())
    );

    let env = [("B", "2"), ("A", "1=1")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let (_, lines) = output_of(&["env"], ContainerSpec { env, ..ContainerSpec::default() }).await;
    assert_eq!(lines, ["B=2", "A=1=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_before_the_exit_does() {
    let lines = Lines::default();
    let spec = ContainerSpec { output: Arc::new(lines.clone()), ..ContainerSpec::default() };
    let exit = command_guest(&["lines", "1000"], spec).run().await;
    assert_eq!(exit, Exit::Code(0));
    for stream in [StdStream::Stdout, StdStream::Stderr] {
        assert_eq!(lines.of(stream).len(), 1000, "{stream:?}");
    }
    let (_, partial) = output_of(&["partial", "no end"], ContainerSpec::default()).await;
    assert_eq!(partial, ["no end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_comes_from_a_reader() {
    let text = "one\ntwo\n".repeat(10_000);
    let reader = std::io::Cursor::new(text.clone().into_bytes());
    let spec = ContainerSpec { input: Input::from_reader(reader), ..ContainerSpec::default() };
    let (exit, lines) = output_of(&["stdin"], spec).await;
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().zip(text.lines()).all(|(read, given)| read == given));
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_empty() {
    let (exit, lines) = output_of(&["stdin"], ContainerSpec::default()).await;
    assert_eq!((exit, lines), (Exit::Code(0), vec![]));
}

/// A sink that takes `room` writes, and then makes its guest wait.
struct Slow {
    room: AtomicU64,
    waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

struct SlowSink(Arc<Slow>);

struct SlowOutput(Arc<Slow>);

impl Output for SlowOutput {
    fn open(&self, _stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(SlowSink(self.0.clone()))
    }
}

impl OutputSink for SlowSink {
    fn write(&mut self, _bytes: &[u8]) {
        self.0.room.fetch_sub(1, Ordering::SeqCst);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.0.room.load(Ordering::SeqCst) > 0 {
            return Poll::Ready(());
        }
        self.0.waiting.store(true, Ordering::SeqCst);
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_waits_for_a_slow_sink() {
    let slow =
        Arc::new(Slow { room: AtomicU64::new(5), waiting: AtomicBool::new(false), waker: Mutex::new(None) });
    let spec = ContainerSpec { output: Arc::new(SlowOutput(slow.clone())), ..ContainerSpec::default() };
    let container = command_guest(&["lines", "20"], spec);
    let run = tokio::spawn(async move { container.run().await });
    eventually("the guest waits", || slow.waiting.load(Ordering::SeqCst)).await;
    assert!(!run.is_finished());
    slow.room.store(1_000_000, Ordering::SeqCst);
    slow.waker.lock().unwrap().take().unwrap().wake();
    assert_eq!(run.await.unwrap(), Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_directories_are_all_there_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.txt"), "hello\n").unwrap();
    let mounted = |read_only| ContainerSpec {
        mounts: vec![Mount { read_only, ..Mount::new(Directory::open(dir.path()).unwrap(), "/data") }],
        ..ContainerSpec::default()
    };
    let (exit, lines) = output_of(&["cat", "/data/in.txt"], mounted(true)).await;
    assert_eq!((exit, lines), (Exit::Code(0), vec!["hello".to_owned()]));
    let (exit, _) = output_of(&["cat", "/data/in.txt"], ContainerSpec::default()).await;
    assert_eq!(exit, Exit::Code(1), "nothing is mounted");
    let (exit, _) = output_of(&["cat", "/data/../../etc/passwd"], mounted(false)).await;
    assert_eq!(exit, Exit::Code(1), "no way out");
    let (exit, _) = output_of(&["write", "/data/out.txt", "text"], mounted(true)).await;
    assert_eq!(exit, Exit::Code(1), "read-only");
    let (exit, _) = output_of(&["write", "/data/out.txt", "text"], mounted(false)).await;
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(std::fs::read_to_string(dir.path().join("out.txt")).unwrap(), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_granted_connections_are_made() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = |rules: Vec<String>| {
        let port = port.to_string();
        async move {
            let network = Network::to(rules.iter().map(String::as_str)).unwrap();
            let spec = ContainerSpec { network, ..ContainerSpec::default() };
            output_of(&["connect", "127.0.0.1", &port], spec).await.0
        }
    };
    assert_eq!(connect(vec![]).await, Exit::Code(1));
    assert_eq!(connect(vec![format!("*:{port}")]).await, Exit::Code(1), "a wildcard excludes loopback");
    assert_eq!(connect(vec![format!("127.0.0.1:{port}")]).await, Exit::Code(0));
}

/// A task's network, with nothing let out.
fn own_network() -> Network {
    let localhost = Localhost::Own(Loopback::take().unwrap());
    Network::new(NetworkSpec { localhost, ..NetworkSpec::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_has_a_localhost() {
    const TASKS: u32 = 100;
    let networks: Vec<Network> = (0..TASKS).map(|_| own_network()).collect();
    // All of them run at once, which is more than the other tests need.
    let engine = Engine::new(&EngineConfig { max_instances: TASKS, ..EngineConfig::default() }).unwrap();
    let program = engine.prepare_bytes(&std::fs::read(coracle_fixtures::command()).unwrap()).unwrap();
    // The same port in each of them.
    let servers: Vec<_> = networks
        .iter()
        .enumerate()
        .map(|(number, network)| {
            let args = ["guest", "serve", "0.0.0.0:7007", &format!("task {number}")];
            let args = args.map(str::to_owned).to_vec();
            let spec = ContainerSpec { args, network: network.clone(), ..ContainerSpec::default() };
            Container::new(&program, spec).unwrap()
        })
        .collect();
    for server in &servers {
        let server = server.clone();
        tokio::spawn(async move { server.run().await });
    }
    let ask = |network: &Network, host: &'static str| {
        let spec = ContainerSpec { network: network.clone(), ..ContainerSpec::default() };
        async move { output_of(&["ask", host, "7007"], spec).await }
    };
    for (number, network) in networks.iter().enumerate() {
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        let lines = loop {
            let (exit, lines) = ask(network, "localhost").await;
            if exit == Exit::Code(0) || std::time::Instant::now() > patience {
                break lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(lines, [format!("task {number} at 127.0.0.1:7007 to 127.0.0.1")]);
    }
    let (exit, _) = ask(&own_network(), "127.0.0.1").await;
    assert_eq!(exit, Exit::Code(1), "no other task can be reached");
    let (exit, _) = output_of(&["ask", "127.0.0.1", "7007"], ContainerSpec::default()).await;
    assert_eq!(exit, Exit::Code(1), "without a network of its own nothing is");
    for server in servers {
        server.kill();
    }
    let (exit, _) = output_of(&["serve", "0.0.0.0:0", "x"], ContainerSpec::default()).await;
    assert_eq!(exit, Exit::Code(1), "listening has to be granted");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_stay_in_the_task() {
    let spec = ContainerSpec { network: own_network(), ..ContainerSpec::default() };
    let (exit, lines) = output_of(&["datagrams"], spec).await;
    assert_eq!((exit, lines), (Exit::Code(0), vec!["hello from 127.0.0.1".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_name_kind_and_function() {
    let trap = |kind: &'static str| async move {
        match command_guest(&["trap", kind], ContainerSpec::default()).run().await {
            Exit::Trap(trap) => trap,
            other => panic!("{kind}: {other:?}"),
        }
    };
    let unreachable = trap("unreachable").await;
    assert_eq!(unreachable.kind, TrapKind::Unreachable);
    assert!(unreachable.function.as_ref().is_some_and(|name| name.contains("trap")), "{unreachable:?}");
    assert!(unreachable.message.starts_with("trap: unreachable in "), "{unreachable:?}");
    assert_eq!(trap("stack").await.kind, TrapKind::StackOverflow);
    assert_eq!(trap("memory").await.kind, TrapKind::MemoryOutOfBounds);
    let panic = trap("panic").await;
    assert!(panic.function.as_ref().is_some_and(|name| !name.contains("panicking")), "{panic:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_stops_a_spinning_and_a_sleeping_guest() {
    for args in [&["spin"][..], &["sleep-forever"]] {
        let container = command_guest(args, ContainerSpec::default());
        let run = tokio::spawn({
            let container = container.clone();
            async move { container.run().await }
        });
        eventually("it runs", || container.stats().instances_live == 1).await;
        container.kill();
        assert_eq!(run.await.unwrap(), Exit::Killed);
        assert_eq!(container.stats().instances_live, 0);
        assert_eq!(container.run().await, Exit::Killed, "later runs are refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_run_kills_it() {
    let container = command_guest(&["spin"], ContainerSpec::default());
    let run = tokio::spawn({
        let container = container.clone();
        async move { container.run().await }
    });
    eventually("it runs", || container.stats().instances_live == 1).await;
    run.abort();
    eventually("it is gone", || container.stats().instances_live == 0).await;
    assert!(ENGINE.stats().capacity > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_stopped_from_outside() {
    let after = Duration::from_millis(50);
    for args in [&["spin"][..], &["sleep-forever"]] {
        let spec = ContainerSpec { run_timeout: Some(after), ..ContainerSpec::default() };
        assert_eq!(command_guest(args, spec).run().await, Exit::TimedOut { after });
    }
}
