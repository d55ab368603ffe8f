//! Guests that misbehave: what each does hurts nobody else, and is said in words. One test for each; the macros at the
//! end see to it.

use crate::{ENGINE, eventually, get, prepare, text};
use bytes::Bytes;
use coracle_fixtures::{binaries, hostile_binaries, hostile_ways};
use coracle_sandbox::{
    BodyError, Container, ContainerSpec, Directory, DiskQuota, EgressPolicy, Exit, Files, HandleError,
    MemoryBudget, Mount, Network, NetworkSpec, Output, OutputSink, PrepareError, Prepared, Resolver,
    StdStream, TrapKind,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

static HOSTILE: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::hostile()));

const LIMIT: u64 = 32 << 20;
const SOON: Duration = Duration::from_millis(300);

/// 32 MiB, and 300 ms for a request.
fn spec() -> ContainerSpec {
    ContainerSpec { memory: MemoryBudget::new(LIMIT), request_timeout: SOON, ..ContainerSpec::default() }
}

/// Long enough for what ends by itself.
fn patient() -> ContainerSpec {
    ContainerSpec { request_timeout: Duration::from_secs(60), ..spec() }
}

fn container(spec: ContainerSpec) -> Container {
    Container::new(&HOSTILE, spec).unwrap()
}

/// How the guest failed at this.
async fn failure(container: &Container, way: &str) -> HandleError {
    match get(container, &format!("/{way}")).await {
        Err(error) => error,
        Ok(response) => panic!("{way} answered {}", response.status()),
    }
}

/// Nothing is left of the guests that ran, and what comes next is served.
async fn is_unharmed(container: &Container) {
    eventually("the instance is gone", || container.in_flight() == 0).await;
    let stats = container.stats();
    assert_eq!((stats.instances_live, stats.memory_current), (0, 0));
    assert!(stats.memory_peak <= LIMIT, "{}", stats.memory_peak);
    assert_eq!(get(container, "/nothing").await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_loop() {
    let container = container(spec());
    assert_eq!(failure(&container, "endless_loop").await, HandleError::TimedOut { after: SOON });
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_recursion() {
    let container = container(patient());
    let error = failure(&container, "deep_recursion").await;
    let HandleError::Guest(Exit::Trap(trap)) = error else { panic!("{error}") };
    assert_eq!(trap.kind, TrapKind::StackOverflow);
    is_unharmed(&container).await;
}

/// These fill the memory they may have, and die of it.
async fn dies_of_memory(way: &str) {
    let container = container(patient());
    let error = failure(&container, way).await;
    assert!(matches!(error, HandleError::Guest(Exit::OutOfMemory { limit: LIMIT, .. })), "{way}: {error}");
    assert!(container.stats().memory_peak > LIMIT / 2, "{way} died at {}", container.stats().memory_peak);
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_hog() {
    dies_of_memory("memory_hog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handle_hog() {
    // Handles are few before they are much.
    let container = container(patient());
    let error = failure(&container, "handle_hog").await;
    assert!(matches!(error, HandleError::Guest(Exit::Trap(_) | Exit::OutOfMemory { .. })), "{error}");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn field_hog() {
    dies_of_memory("field_hog").await;
}

/// Takes everything slowly: 64 KiB for each time it is asked.
#[derive(Clone, Default)]
struct Slow(Arc<AtomicU64>);

impl Output for Slow {
    fn open(&self, _stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(self.clone())
    }
}

impl OutputSink for Slow {
    fn write(&mut self, bytes: &[u8]) {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0.load(Ordering::Relaxed) < 128 << 10 { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_flood() {
    let slow = Slow::default();
    let container = container(ContainerSpec { output: Arc::new(slow.clone()), ..spec() });
    assert_eq!(failure(&container, "log_flood").await, HandleError::TimedOut { after: SOON });
    let written = slow.0.load(Ordering::Relaxed);
    assert!((128 << 10..192 << 10).contains(&written), "it waited for room: {written}");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_flood() {
    let container = container(patient());
    let error = failure(&container, "header_flood").await;
    assert!(error.to_string().contains("total size of fields exceeds limit"), "{error}");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body() {
    let container = container(spec());
    // A client that does not read holds no more than a few chunks …
    let response = get(&container, "/endless_body").await.unwrap();
    tokio::time::sleep(SOON / 3).await;
    let stats = container.stats();
    assert!(stats.memory_current < 8 << 20, "{}", stats.memory_current);
    drop(response);
    is_unharmed(&container).await;
    // … and one that does may go on for as long as it likes.
    let mut response = get(&container, "/endless_body").await.unwrap();
    let mut read = 0;
    while read < 64 << 20 {
        read += response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    drop(response);
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_nothing() {
    let container = container(patient());
    let parts = futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 64 << 10])))
    });
    let request = Request::post("/reads_nothing").header("host", "x").body(StreamBody::new(parts)).unwrap();
    let response = container.handle(request).await.unwrap();
    assert_eq!(text(response).await, "not read");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_response() {
    let container = container(patient());
    let response = get(&container, "/half_a_response").await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(matches!(error, BodyError::WrongLength | BodyError::Guest(_)), "{error}");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_in_the_middle() {
    let container = container(patient());
    let response = get(&container, "/trap_in_the_middle").await.unwrap();
    assert!(matches!(response.into_body().collect().await, Err(BodyError::Guest(_))));
    eventually("the trap is counted", || container.stats().traps == 1).await;
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeper() {
    let container = container(spec());
    assert_eq!(failure(&container, "sleeper").await, HandleError::TimedOut { after: SOON });
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_timers() {
    let container = container(patient());
    assert_eq!(text(get(&container, "/thousand_timers").await.unwrap()).await, "waited");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symlink_climber() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "the secret").unwrap();
    let host = dir.path().join("data");
    std::fs::create_dir(&host).unwrap();
    let mounts = vec![Mount::new(Directory::open(host).unwrap(), "/data")];
    let container = container(ContainerSpec { mounts, ..patient() });
    assert_eq!(text(get(&container, "/symlink_climber").await.unwrap()).await, "");
    assert_eq!(std::fs::read_to_string(dir.path().join("secret")).unwrap(), "the secret");
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["data", "secret"]);
    is_unharmed(&container).await;
}

/// All files below a directory with what is in them, links with what they say.
fn tree(root: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        let content = match () {
            () if kind.is_symlink() => format!("to {}", path.read_link().unwrap().display()),
            () if kind.is_dir() => format!("{:?}", tree(&path)),
            () => std::fs::read_to_string(&path).unwrap(),
        };
        found.push((path.file_name().unwrap().to_string_lossy().into_owned(), content));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn escape_artist() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["data", "ro", "ro/dir"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::fs::write(path("secret"), "the secret").unwrap();
    std::fs::write(path("ro/kept"), "as it was").unwrap();
    std::os::unix::fs::symlink("../secret", path("data/planted")).unwrap();
    std::os::unix::fs::symlink("..", path("data/out")).unwrap();
    let before = (tree(&path("ro")), std::fs::metadata(path("ro/kept")).unwrap().modified().unwrap());
    let (data, ro) = (Directory::open(path("data")).unwrap(), Directory::open(path("ro")).unwrap());
    // With a quota and without one: another way is taken through the host.
    for quota in [None, Some(DiskQuota::new(data.clone(), 1 << 20))] {
        let mounts = vec![
            Mount { quota, ..Mount::new(data.clone(), "/data") },
            Mount { read_only: true, ..Mount::new(ro.clone(), "/ro") },
        ];
        let container = container(ContainerSpec { mounts, ..patient() });
        let worked = text(get(&container, "/escape_artist").await.unwrap()).await;
        let inside = ["create", "make", "dots", "symlink", "hard link", "rename", "slash", "read-only read"]
            .map(|what| format!("inside: {what}\n"));
        assert_eq!(worked, inside.concat());
        is_unharmed(&container).await;
        for name in ["file", "link", "renamed"] {
            std::fs::remove_file(path("data").join(name)).unwrap();
        }
        std::fs::remove_dir(path("data/sub")).unwrap();
    }
    let top: Vec<_> = tree(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(top, ["data", "ro", "secret"], "nothing was left outside");
    assert_eq!(std::fs::read_to_string(path("secret")).unwrap(), "the secret");
    let after = (tree(&path("ro")), std::fs::metadata(path("ro/kept")).unwrap().modified().unwrap());
    assert_eq!(before, after, "what may only be read is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_hog() {
    const LIMIT: u64 = 256 << 10;
    let dir = tempfile::tempdir().unwrap();
    let host = Directory::open(dir.path()).unwrap();
    let mount = Mount { quota: Some(DiskQuota::new(host.clone(), LIMIT)), ..Mount::new(host, "/scratch") };
    let container = container(ContainerSpec { mounts: vec![mount], ..patient() });
    let report = text(get(&container, "/disk_hog").await.unwrap()).await;
    let mut ways = Vec::new();
    for line in report.lines() {
        let [way, end, count, after] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!((end, after), ("insufficient-space", "again"), "{line}");
        let count: u64 = count.parse().unwrap();
        let (least, most) = match way {
            // Its end alone is past the limit.
            "hole" => (0, 0),
            // A block each, or two.
            "files" => (LIMIT / 4096 - 1, LIMIT / 4096),
            "directories" | "links" => (LIMIT / 8192 - 1, LIMIT / 4096),
            // A block of 16 KiB may not fit; files without a name have a block of their own each.
            _ => (LIMIT / 2, LIMIT),
        };
        assert!((least..=most).contains(&count), "{line}: {least} to {most}");
        ways.push(way);
    }
    let all =
        ["write", "stream", "append", "poll", "size", "hole", "files", "directories", "links", "nameless"];
    assert_eq!(ways, all, "{report}");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_hog() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(20);
    let mounts = vec![Mount::new(Directory::open(dir.path()).unwrap(), "/scratch")];
    let container = container(ContainerSpec { mounts, files: files.clone(), ..patient() });
    let report = text(get(&container, "/file_hog").await.unwrap()).await;
    assert_eq!(report, "20 quota quota\nquota\nopened\n");
    is_unharmed(&container).await;
    assert_eq!(files.open(), 0, "all are closed");
}

/// Answers with a public address first, and from then on with the machine's own.
struct Rebinder(AtomicU64);

impl Resolver for Rebinder {
    fn resolve(
        &self,
        name: &str,
    ) -> futures_util::future::BoxFuture<'static, std::io::Result<Vec<std::net::IpAddr>>> {
        assert_eq!(name, "rebind.example");
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let address = if turn == 0 { [93, 184, 216, 34] } else { [127, 0, 0, 1] };
        Box::pin(std::future::ready(Ok(vec![std::net::IpAddr::from(address)])))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_rebinder() {
    // What it is after: a service of the machine's own, which no rule names.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let resolver = Arc::new(Rebinder(AtomicU64::new(0)));
    let network = Network::new(NetworkSpec {
        egress: EgressPolicy::parse(&format!("rebind.example:{port}")).unwrap(),
        resolver: resolver.clone(),
        ..NetworkSpec::default()
    });
    let container = container(ContainerSpec { network, ..patient() });
    let request = Request::get("/dns_rebinder").header("host", "x").header("x-port", port);
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let report = text(container.handle(request).await.unwrap()).await;
    assert_eq!(report, "looked up 93.184.216.34\n", "it reached nothing");
    assert_eq!(resolver.0.load(Ordering::Relaxed), 8, "once for each look-up, and once for each request");
    let nobody = tokio::time::timeout(SOON / 10, server.accept()).await;
    assert!(nobody.is_err(), "nobody has come");
    is_unharmed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_everywhere() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let request = || {
        let request = Request::get("/connects_everywhere").header("host", "x").header("x-port", port);
        request.body(Full::new(Bytes::new())).unwrap()
    };
    let nothing = container(patient());
    assert_eq!(text(nothing.handle(request()).await.unwrap()).await, "");
    // A wildcard is for what is public.
    let public = container(ContainerSpec {
        network: Network::to([format!("*:{port}").as_str()]).unwrap(),
        ..patient()
    });
    // Whoever may reach somebody may have a socket of UDP to do so.
    assert_eq!(text(public.handle(request()).await.unwrap()).await, "udp\n");
    is_unharmed(&nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_hog() {
    let prepared = ENGINE.prepare_bytes(&binaries::table_hog()).unwrap();
    let memory = MemoryBudget::new(1 << 20);
    let exit =
        Container::new(&prepared, ContainerSpec { memory: memory.clone(), ..patient() }).unwrap().run().await;
    // It meets the end of the pool's table, or of its budget.
    assert!(matches!(exit, Exit::Trap(_) | Exit::OutOfMemory { .. }), "{exit}");
    assert_eq!(memory.current(), 0);
    let memory = MemoryBudget::new(100 << 10);
    let exit = Container::new(&prepared, ContainerSpec { memory, ..patient() }).unwrap().run().await;
    assert!(matches!(exit, Exit::OutOfMemory { .. }), "{exit}");
}

/// What limits there are for it is for the tests of the compiler in a child process; here it only has to end.
#[test]
fn enormous() {
    let error = ENGINE.prepare_bytes(&binaries::enormous(20)).err().unwrap();
    assert!(matches!(error, PrepareError::NoEntryPoint(_)), "{error}");
}

#[test]
fn type_chain() {
    let error = ENGINE.prepare_bytes(&binaries::type_chain(10_000)).err().unwrap();
    assert!(matches!(error, PrepareError::Invalid(_) | PrepareError::NoEntryPoint(_)), "{error}");
}

#[test]
fn truncations() {
    let wasm = std::fs::read(coracle_fixtures::example_hello()).unwrap();
    for cut in binaries::truncations(&wasm) {
        let error = ENGINE.prepare_bytes(cut).err();
        assert!(error.is_some(), "{} of {} bytes are enough", cut.len(), wasm.len());
    }
}

/// Some flips do no harm: they hit a name, or a constant. Whatever can be prepared can be run.
#[tokio::test(flavor = "multi_thread")]
async fn bit_flips() {
    let wasm = std::fs::read(coracle_fixtures::example_hello()).unwrap();
    for flipped in binaries::bit_flips(&wasm, 12) {
        if let Ok(prepared) = ENGINE.prepare_bytes(&flipped) {
            let container = Container::new(&prepared, spec()).unwrap();
            let _ = get(&container, "/").await;
            eventually("the instance is gone", || container.in_flight() == 0).await;
        }
    }
}

/// Each name has a function here.
macro_rules! tested {
    ($($name:ident)*) => {
        $(const _: fn() = $name;)*
    };
}
hostile_ways!(tested);
hostile_binaries!(tested);
