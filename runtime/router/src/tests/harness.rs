//! Fake targets, an in-memory listener and a raw client.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::serve::{Accept, Drained};
use crate::{
    BoxError, CallError, RequestBody, ResponseBody, Router, RouterConfig, RoutingTable, ServiceName, Slot,
    Target,
};

pub(crate) type Answered = Result<Response<ResponseBody>, CallError>;

/// How long a test waits for what must happen. Virtual time.
const DEADLINE: Duration = Duration::from_secs(600);

pub(crate) fn name(full: &str) -> ServiceName {
    let [region, cluster, service] = full.split('/').collect::<Vec<_>>().try_into().unwrap();
    ServiceName { region: region.into(), cluster: cluster.into(), service: service.into() }
}

pub(crate) fn exposition(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

struct Fake<F>(F);

impl<F, R> Target for Fake<F>
where
    F: Fn(Request<RequestBody>) -> R + Send + Sync + 'static,
    R: Future<Output = Answered> + Send + 'static,
{
    fn call(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered> {
        Box::pin((self.0)(request))
    }
}

/// A slot whose target does what `answer` says.
pub(crate) fn slot_with<F, R>(id: &str, answer: F) -> Arc<Slot>
where
    F: Fn(Request<RequestBody>) -> R + Send + Sync + 'static,
    R: Future<Output = Answered> + Send + 'static,
{
    Slot::new(id.to_owned(), Arc::new(Fake(answer)))
}

/// A slot whose target answers 200 with its id.
pub(crate) fn slot(id: &str) -> Arc<Slot> {
    let text = id.to_owned();
    slot_with(id, move |_| {
        let response = Response::new(full(&text));
        async { Ok(response) }
    })
}

/// A slot whose target waits for a permit before it answers 200 with its id.
pub(crate) fn gated(id: &str) -> (Arc<Slot>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let text = id.to_owned();
    let slot = slot_with(id, {
        let gate = Arc::clone(&gate);
        move |_| {
            let (gate, response) = (Arc::clone(&gate), Response::new(full(&text)));
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(response)
            }
        }
    });
    (slot, gate)
}

/// A slot whose target takes no more requests.
pub(crate) fn draining(id: &str) -> Arc<Slot> {
    slot_with(id, |request| async { Err(CallError::NotStarted(request)) })
}

/// A slot whose target answers what it saw: request line, headers in order of name, body.
pub(crate) fn echo(id: &str) -> Arc<Slot> {
    slot_with(id, |request| async {
        let (head, body) = request.into_parts();
        let mut lines: Vec<String> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.insert(0, format!("{} {}", head.method, head.uri));
        match body.collect().await {
            Ok(body) => {
                lines.push(String::from_utf8(body.to_bytes().to_vec()).unwrap());
                Ok(Response::new(full(&lines.join("\n"))))
            }
            Err(error) => Err(CallError::BadRequest { reason: error.to_string() }),
        }
    })
}

pub(crate) fn full(text: &str) -> ResponseBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body whose frames are sent by the test; ends when the sender is dropped.
pub(crate) fn channel_body() -> (mpsc::UnboundedSender<Result<Bytes, BoxError>>, ResponseBody) {
    let (frames, mut receiver) = mpsc::unbounded_channel::<Result<Bytes, BoxError>>();
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let stream = futures_util::StreamExt::map(stream, |frame| frame.map(http_body::Frame::data));
    (frames, http_body_util::StreamBody::new(stream).boxed_unsync())
}

/// Waits until something is true.
#[track_caller]
pub(crate) fn eventually(mut is_true: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !is_true() {
            assert!(tokio::time::Instant::now() < deadline, "never became true, at {caller}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(crate) struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

impl Accept for MemoryListener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(io) => Ok((io, (Ipv4Addr::new(192, 0, 2, 7), 50_000).into())),
            None => std::future::pending().await,
        }
    }
}

/// A router that is being served.
pub(crate) struct Front {
    pub(crate) router: Router,
    pub(crate) registry: Registry,
    connections: mpsc::UnboundedSender<DuplexStream>,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Drained>,
}

impl Front {
    pub(crate) fn start(config: RouterConfig) -> Self {
        let registry = Registry::new();
        let router = Router::new(config, &registry).unwrap();
        let (connections, receiver) = mpsc::unbounded_channel();
        let (shutdown, stopped) = oneshot::channel();
        let served = tokio::spawn({
            let router = router.clone();
            async move {
                let shutdown = async {
                    let _ = stopped.await;
                };
                router.serve_from(MemoryListener(receiver), 8080, None, shutdown).await
            }
        });
        Self { router, registry, connections, shutdown: Some(shutdown), served }
    }

    /// A router with the service `web` in the cluster `default` of the default region.
    pub(crate) fn web(targets: &[&Arc<Slot>]) -> Self {
        let front = Self::start(RouterConfig::default());
        front.publish_web(targets);
        front
    }

    pub(crate) fn publish_web(&self, targets: &[&Arc<Slot>]) {
        self.publish(&[("us-east-1/default/web", targets)]);
    }

    pub(crate) fn publish(&self, services: &[(&str, &[&Arc<Slot>])]) {
        let mut table = RoutingTable::new("us-east-1");
        for (full, targets) in services {
            let targets = targets.iter().map(|slot| Arc::clone(slot)).collect();
            table.insert(name(full), targets, "0 of 1 tasks are running".to_owned());
        }
        self.router.publish(table);
    }

    pub(crate) fn connect(&self) -> Client<DuplexStream> {
        self.connect_buffered(64 * 1024)
    }

    /// A connection whose sides hold `bytes` that were not read yet.
    pub(crate) fn connect_buffered(&self, bytes: usize) -> Client<DuplexStream> {
        Client::new(self.connect_raw(bytes))
    }

    pub(crate) fn connect_raw(&self, bytes: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(bytes);
        self.connections.send(server).unwrap();
        client
    }

    /// Asks once, on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Reply {
        let mut client = self.connect();
        client.send(request).await;
        client.reply().await
    }

    /// Serves a listener with rules as well; the answer connects to it.
    pub(crate) fn listen(&self, id: &str) -> impl Fn() -> Client<DuplexStream> + use<> {
        let (connections, receiver) = mpsc::unbounded_channel();
        let (router, id) = (self.router.clone(), Some(id.into()));
        tokio::spawn(async move {
            router.serve_from(MemoryListener(receiver), 8443, id, std::future::pending()).await
        });
        move || {
            let (client, server) = tokio::io::duplex(64 * 1024);
            connections.send(server).unwrap();
            Client::new(client)
        }
    }

    /// Looks after target groups as well: sends health checks, ends ejections.
    pub(crate) fn tend(&self) {
        tokio::spawn(crate::prober::run(Arc::clone(&self.router.shared), std::future::pending()));
    }

    pub(crate) fn begin_shutdown(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn drained(self) -> Drained {
        tokio::time::timeout(DEADLINE, self.served).await.expect("the router stops").unwrap()
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        exposition(&self.registry).lines().any(|shown| shown == line)
    }
}

/// A request for the service `web` without a body.
pub(crate) const GET_WEB: &str = "GET / HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n";

pub(crate) struct Client<T> {
    io: T,
    /// What was read past the last reply.
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, error: &str) -> &Self {
        assert_eq!((self.status, self.header("x-coracle-error")), (status, error), "{self:?}");
        self
    }

    /// The header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Client<DuplexStream> {
    /// A reader and a writer that can be used at once.
    pub(crate) fn split(self) -> (Client<impl AsyncRead + Unpin>, Client<impl AsyncWrite + Unpin>) {
        let (reader, writer) = tokio::io::split(self.io);
        (Client { io: reader, buffer: self.buffer }, Client { io: writer, buffer: Vec::new() })
    }
}

impl<T: AsyncWrite + Unpin> Client<T> {
    /// Sends what the other side may not care for any more.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.write_all(bytes.as_ref()).await;
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(crate) async fn get(&mut self) -> Reply {
        self.send(GET_WEB).await;
        self.reply().await
    }
}

impl<T: AsyncRead + Unpin> Client<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Reads more; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let read = self.io.read_buf(&mut self.buffer);
        let read = tokio::time::timeout(DEADLINE, read).await.expect("the router sends something or closes");
        read.unwrap_or(0) > 0
    }

    /// Reads to the end of `pattern`; nothing if the connection ends before.
    pub(crate) async fn try_until(&mut self, pattern: &str) -> Option<String> {
        let pattern = pattern.as_bytes();
        loop {
            if let Some(at) = self.buffer.windows(pattern.len()).position(|window| window == pattern) {
                return Some(self.take(at + pattern.len()));
            }
            self.more().await.then_some(())?;
        }
    }

    pub(crate) async fn try_exactly(&mut self, len: usize) -> Option<String> {
        while self.buffer.len() < len {
            self.more().await.then_some(())?;
        }
        Some(self.take(len))
    }

    fn take(&mut self, len: usize) -> String {
        let rest = self.buffer.split_off(len);
        String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap()
    }

    /// Reads a whole response; nothing if the connection ends before one begins.
    pub(crate) async fn try_reply(&mut self) -> Option<Reply> {
        while self.buffer.is_empty() {
            self.more().await.then_some(())?;
        }
        Some(self.reply().await)
    }

    /// Reads to the end of `pattern`.
    #[track_caller]
    pub(crate) fn until(&mut self, pattern: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let pattern = pattern.as_bytes().to_owned();
        async move {
            loop {
                if let Some(at) = self.buffer.windows(pattern.len()).position(|window| window == pattern) {
                    return self.take(at + pattern.len());
                }
                assert!(
                    self.more().await,
                    "closed after {:?}, at {caller}",
                    String::from_utf8_lossy(&self.buffer)
                );
            }
        }
    }

    async fn exactly(&mut self, len: usize) -> String {
        while self.buffer.len() < len {
            assert!(self.more().await, "closed in the middle of a body");
        }
        self.take(len)
    }

    /// What has come by the time that anything has.
    pub(crate) async fn whatever(&mut self) -> String {
        assert!(self.more().await, "closed before anything came");
        while self.more().now_or_never() == Some(true) {}
        self.take(self.buffer.len())
    }

    /// Everything to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// Reads a whole response, as its headers frame it.
    pub(crate) async fn reply(&mut self) -> Reply {
        let (status, headers) = self.head().await;
        let body = match (headers.get("content-length"), headers.get("transfer-encoding")) {
            (Some(len), None) => self.exactly(len.parse().unwrap()).await,
            (None, Some(_)) => {
                let mut body = String::new();
                loop {
                    let size = self.until("\r\n").await;
                    let size = usize::from_str_radix(size.trim(), 16).unwrap();
                    let chunk = self.exactly(size + 2).await;
                    body.push_str(&chunk[..size]);
                    if size == 0 {
                        break body;
                    }
                }
            }
            (None, None) => String::new(),
            (Some(_), Some(_)) => panic!("framed twice: {headers:?}"),
        };
        Reply { status, headers, body }
    }

    /// Reads a response's head only.
    pub(crate) async fn head(&mut self) -> (u16, HashMap<String, String>) {
        let head = self.until("\r\n\r\n").await;
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        (status, headers)
    }
}
