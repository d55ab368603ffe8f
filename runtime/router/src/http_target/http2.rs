//! Requests over connections of HTTP/2, which carry many at once.
//!
//! A connection is driven by a task of its own, as its streams belong to many others. It is used until
//! it closes, announces that it will, or was idle for long; another one is made when all carry as many
//! requests as they should.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connect::{ConnectError, Connector};
use super::{HttpTargetConfig, Spare, not_connected, prepare};
use crate::target::{BoxError, CallError, RequestBody, ResponseBody};

/// Requests over one connection at once. Servers commonly allow 100 or more; what is over their limit
/// waits for a stream.
const MAX_STREAMS: u32 = 100;

/// A response's bytes that a target may send ahead of their reader, per request and per connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A connection that carries requests but stays silent this long is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(20);

/// The connections to one target.
pub(super) struct Http2 {
    connector: Connector,
    scheme: Scheme,
    builder: Builder<TokioExecutor>,
    idle_timeout: Duration,
    started: Instant,
    connections: Mutex<Vec<Arc<Conn>>>,
    /// Held while a connection is made, so that requests that come together make one.
    connecting: tokio::sync::Mutex<()>,
}

struct Conn {
    sender: SendRequest<RequestBody>,
    streams: AtomicU32,
    /// When the last stream ended, in milliseconds since the client was made.
    idle_since: AtomicU64,
}

impl Http2 {
    pub(super) fn new(connector: Connector, config: &HttpTargetConfig) -> Arc<Self> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_AFTER);
        Arc::new(Self {
            connector,
            scheme: if config.tls { Scheme::HTTPS } else { Scheme::HTTP },
            builder,
            idle_timeout: config.idle_timeout,
            started: Instant::now(),
            connections: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A place on the connection that carries the fewest requests.
    fn place(self: &Arc<Self>) -> Option<Stream> {
        let mut connections = self.connections.lock();
        connections.retain(|conn| !conn.sender.is_closed());
        let lightest = connections.iter().min_by_key(|conn| conn.streams.load(Ordering::Relaxed))?;
        if lightest.streams.load(Ordering::Relaxed) >= MAX_STREAMS {
            return None;
        }
        Some(Stream::open(self, lightest))
    }

    async fn connect(self: &Arc<Self>) -> Result<Stream, ConnectError> {
        let _connecting = self.connecting.lock().await;
        if let Some(stream) = self.place() {
            return Ok(stream);
        }
        let io = TokioIo::new(self.connector.connect().await?);
        let (sender, connection) = self.builder.handshake(io).await.map_err(ConnectError::Closed)?;
        let conn =
            Arc::new(Conn { sender, streams: AtomicU32::new(0), idle_since: AtomicU64::new(self.now_ms()) });
        let stream = Stream::open(self, &conn);
        self.connections.lock().push(Arc::clone(&conn));
        tokio::spawn(drive(connection, Arc::downgrade(self), Arc::downgrade(&conn)));
        Ok(stream)
    }
}

/// Drives a connection to its end, which comes when it was idle for long.
async fn drive<C>(connection: C, client: std::sync::Weak<Http2>, conn: std::sync::Weak<Conn>)
where
    C: Future<Output = hyper::Result<()>>,
{
    let idle = async {
        loop {
            let Some(client) = client.upgrade() else { return };
            let Some(conn) = conn.upgrade() else { return };
            let idle_for = match conn.streams.load(Ordering::Acquire) {
                0 => client.now_ms().saturating_sub(conn.idle_since.load(Ordering::Relaxed)),
                _ => 0,
            };
            let left = client.idle_timeout.saturating_sub(Duration::from_millis(idle_for));
            if left.is_zero() {
                let mut connections = client.connections.lock();
                // Under the lock nobody opens a stream.
                if conn.streams.load(Ordering::Acquire) == 0 {
                    connections.retain(|other| !Arc::ptr_eq(other, &conn));
                    return;
                }
                continue;
            }
            drop((client, conn));
            tokio::time::sleep(left).await;
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to a target ended");
        },
        () = idle => {}
    }
}

/// A request's place on a connection.
struct Stream {
    client: Arc<Http2>,
    conn: Arc<Conn>,
}

impl Stream {
    fn open(client: &Arc<Http2>, conn: &Arc<Conn>) -> Self {
        conn.streams.fetch_add(1, Ordering::AcqRel);
        Self { client: Arc::clone(client), conn: Arc::clone(conn) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.conn.idle_since.store(self.client.now_ms(), Ordering::Relaxed);
        self.conn.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Sends a request, and waits for the head of its response.
pub(super) async fn call(
    client: Arc<Http2>,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, CallError> {
    prepare(&mut request, Version::HTTP_2);
    if let Err(reason) = address(&mut request, &client.scheme) {
        return Err(CallError::BadRequest { reason });
    }
    if let Some(stream) = client.place() {
        let spare = Spare::of(&request);
        let mut error = match send(stream, request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        request = match error.take_message() {
            Some(unsent) => unsent,
            None => {
                let error = error.into_error();
                match spare.filter(|_| is_stale(&error)) {
                    Some(spare) => spare.into_request(Version::HTTP_2),
                    None => return Err(failed(&error)),
                }
            }
        };
    }
    let stream = match client.connect().await {
        Ok(stream) => stream,
        Err(error) => return Err(not_connected(request, &error)),
    };
    match send(stream, request).await {
        Ok(response) => Ok(response),
        Err(mut error) => match error.take_message() {
            Some(unsent) => Err(not_connected(unsent, &ConnectError::Closed(error.into_error()))),
            None => Err(failed(&error.into_error())),
        },
    }
}

type SendError = hyper::client::conn::TrySendError<Request<RequestBody>>;

async fn send(stream: Stream, request: Request<RequestBody>) -> Result<Response<ResponseBody>, SendError> {
    let response = stream.conn.sender.clone().try_send_request(request).await?;
    Ok(response.map(|body| ResponseBody::new(FromTarget { body, _stream: stream })))
}

/// Whether a connection that had been used before looks as if its target had given it up.
fn is_stale(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let is_io = source.is_some_and(|source| source.is::<std::io::Error>());
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_io
}

/// A connection broke with a request on it.
fn failed(error: &hyper::Error) -> CallError {
    if error.is_user() {
        // The only user of the connection is the request's body, which comes from the client.
        return CallError::BadRequest { reason: "the request's body broke off".to_owned() };
    }
    let reason = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "it closed the connection before it had answered".to_owned()
    } else if error.is_parse_too_large() {
        "its response's head is too large".to_owned()
    } else if error.is_parse() {
        format!("its response can't be read: {error}")
    } else {
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        format!("the connection to it broke: {error}{}", source.unwrap_or_default())
    };
    CallError::Failed { reason }
}

/// HTTP/2 carries the host in the URI, not in `Host`.
fn address(request: &mut Request<RequestBody>, scheme: &Scheme) -> Result<(), String> {
    let host = request.headers_mut().remove(header::HOST);
    let Some(host) = host else { return Err("it names no host, which HTTP/2 needs".to_owned()) };
    let authority =
        Authority::try_from(host.as_bytes()).map_err(|error| format!("its host can't be read: {error}"))?;
    let path = request.uri().path_and_query().cloned();
    let mut parts = Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| format!("its URI can't be read: {error}"))?;
    Ok(())
}

/// A response's body, which keeps its place on the connection.
struct FromTarget {
    body: Incoming,
    _stream: Stream,
}

impl Body for FromTarget {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
