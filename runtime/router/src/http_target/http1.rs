//! A request over a connection of HTTP/1.1, which carries one at a time.
//!
//! ```text
//!             a request takes it           the response's body has ended
//!   Idle ───────────────────────▶ Sending ───────────────────────────────▶ Idle
//!    │                               │
//!    ▼ over its time, or closed      ▼ broken, left in the middle, or upgraded
//!  gone                            gone
//! ```
//!
//! The two halves of hyper's connection, the sender and what drives the socket, stay together: the task
//! that waits for the response drives the socket meanwhile. Nothing but that makes the response come,
//! which is why the sender's half can be polled without a waker of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{self, Instant};

use super::connect::{ConnectError, Connector, Stream};
use super::pool::Idle;
use super::{HttpTargetConfig, Spare, failed, is_stale, not_connected, prepare};
use crate::prefixed::Prefixed;
use crate::target::{BoxError, CallError, RequestBody, ResponseBody};
use crate::tunnel::Upgrade;

/// Taken off what a target announces in `Keep-Alive`: a request must not meet the connection just as the
/// target closes it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// The shortest pause between two looks at the idle connections.
const MIN_SWEEP: Duration = Duration::from_millis(100);

/// The connections to one target.
pub(super) struct Http1 {
    connector: Connector,
    builder: Builder,
    idle_timeout: Duration,
    idle: Idle<Conn>,
    is_swept: AtomicBool,
}

impl Http1 {
    pub(super) fn new(connector: Connector, config: &HttpTargetConfig) -> Arc<Self> {
        let mut builder = Builder::new();
        builder.max_header_size(config.max_head_bytes);
        Arc::new(Self {
            connector,
            builder,
            idle_timeout: config.idle_timeout,
            idle: Idle::new(config.max_idle),
            is_swept: AtomicBool::new(false),
        })
    }

    /// An idle connection that is alive.
    fn take(&self) -> Option<Conn> {
        let now = Instant::now();
        loop {
            let mut conn = self.idle.take(now)?;
            if !conn.is_dead() {
                return Some(conn);
            }
        }
    }

    async fn connect(&self) -> Result<Conn, ConnectError> {
        let stream = self.connector.connect().await?;
        let handshake = self.builder.handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(ConnectError::Closed)?;
        Ok(Conn { sender, connection: Some(connection), good_for: self.idle_timeout })
    }

    /// Keeps a connection for the next request.
    fn put(self: &Arc<Self>, conn: Conn) {
        let good_until = Instant::now() + conn.good_for;
        if self.idle.put(conn, good_until) && !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn sweep(&self) -> usize {
        self.idle.sweep(Instant::now(), Conn::is_dead)
    }
}

/// Closes idle connections in time, while there are any.
async fn sweep(client: Weak<Http1>) {
    loop {
        let Some(pause) = client.upgrade().map(|client| client.idle_timeout / 2) else { return };
        time::sleep(pause.max(MIN_SWEEP)).await;
        let Some(client) = client.upgrade() else { return };
        if client.sweep() > 0 {
            continue;
        }
        client.is_swept.store(false, Ordering::Release);
        // A connection that was put between the two lines above found itself looked after.
        if client.sweep() == 0 || client.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

type Driver = Connection<TokioIo<Stream>, RequestBody>;

/// An open connection.
struct Conn {
    sender: SendRequest<RequestBody>,
    /// What drives the socket, until it has ended.
    connection: Option<Driver>,
    /// How long it may be idle.
    good_for: Duration,
}

impl Conn {
    /// Drives the socket. When the connection has ended, gives out what is left of it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Driver>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        match Pin::new(connection).poll(cx) {
            Poll::Pending => Poll::Pending,
            // The error reaches whoever waits for the response or reads its body.
            Poll::Ready(_) => Poll::Ready(self.connection.take()),
        }
    }

    /// Whether an idle connection can't be used any more.
    fn is_dead(&mut self) -> bool {
        self.poll(&mut unwoken()).is_ready() || self.sender.is_closed()
    }

    /// Whether the connection is through with its request, and can take another.
    fn is_free(&mut self) -> bool {
        let cx = &mut unwoken();
        self.poll(cx).is_pending() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }
}

/// For what only this task makes ready.
fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Sends a request, and waits for the head of its response.
pub(super) async fn call(
    client: Arc<Http1>,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, CallError> {
    prepare(&mut request, Version::HTTP_11);
    if let Some(conn) = client.take() {
        let spare = Spare::of(&request);
        match send(conn, request).await {
            Ok(answered) => return Ok(respond(client, answered).await),
            Err(NoAnswer { unsent: Some(returned), .. }) => request = returned,
            Err(NoAnswer { error, .. }) => match spare.filter(|_| is_stale(&error)) {
                Some(spare) => request = spare.into_request(Version::HTTP_11),
                None => return Err(failed(&error)),
            },
        }
    }
    let conn = match client.connect().await {
        Ok(conn) => conn,
        Err(error) => return Err(not_connected(request, &error)),
    };
    match send(conn, request).await {
        Ok(answered) => Ok(respond(client, answered).await),
        Err(NoAnswer { unsent: Some(request), error }) => {
            Err(not_connected(request, &ConnectError::Closed(error)))
        }
        Err(NoAnswer { unsent: None, error }) => Err(failed(&error)),
    }
}

struct Answered {
    response: Response<Incoming>,
    conn: Conn,
    /// What is left of the connection, if it has ended with the response's head.
    ended: Option<Driver>,
}

struct NoAnswer {
    error: hyper::Error,
    /// The request, if nothing of it was sent.
    unsent: Option<Request<RequestBody>>,
}

async fn send(mut conn: Conn, request: Request<RequestBody>) -> Result<Answered, NoAnswer> {
    // Without tokio's budget, which makes a future come back later by waking it: this one is not woken.
    let mut answer = pin!(tokio::task::unconstrained(conn.sender.try_send_request(request)));
    let mut ended = None;
    let answer = poll_fn(|cx| {
        if let Poll::Ready(left) = conn.poll(cx) {
            ended = left;
        }
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut unwoken()) {
            return Poll::Ready(answer);
        }
        // A connection that has ended gives back the request it did not get to when it is dropped.
        if ended.take().is_some() { answer.as_mut().poll(&mut unwoken()) } else { Poll::Pending }
    })
    .await;
    match answer {
        Ok(response) => Ok(Answered { response, conn, ended }),
        Err(mut error) => {
            let unsent = error.take_message();
            Err(NoAnswer { error: error.into_error(), unsent })
        }
    }
}

async fn respond(client: Arc<Http1>, answered: Answered) -> Response<ResponseBody> {
    let Answered { response, mut conn, ended } = answered;
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // hyper is through with the connection once it has read this head.
        let ended = if ended.is_some() { ended } else { poll_fn(|cx| conn.poll(cx)).await };
        head.extensions.clear();
        if let Some(left) = ended {
            let left = left.into_parts();
            // What came right behind the head belongs to the new protocol.
            head.extensions.insert(Upgrade::new(Prefixed::new(left.read_buf, left.io.into_inner())));
        }
        return Response::from_parts(head, body.map_err(BoxError::from).boxed_unsync());
    }
    if let Some(announced) = announced_keep_alive(&head.headers) {
        conn.good_for = client.idle_timeout.min(announced.saturating_sub(KEEP_ALIVE_MARGIN));
    }
    let mut body = FromTarget { body, conn: Some(conn), client };
    body.release_if_ended();
    Response::from_parts(head, ResponseBody::new(body))
}

/// The `timeout` of a `Keep-Alive` header, if there is one.
fn announced_keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// A response's body. It drives the connection it comes over, and gives it back at its end. Dropped
/// before, it closes the connection: what is still to come would be read as the next response.
struct FromTarget {
    body: Incoming,
    conn: Option<Conn>,
    client: Arc<Http1>,
}

impl FromTarget {
    fn release_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(mut conn) = self.conn.take()
            && conn.is_free()
        {
            self.client.put(conn);
        }
    }

    fn poll_body(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(&mut unwoken())
    }
}

impl Body for FromTarget {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut polled = this.poll_body();
        if polled.is_pending()
            && let Some(conn) = &mut this.conn
        {
            if conn.poll(cx).is_ready() {
                this.conn = None;
            }
            polled = this.poll_body();
        }
        match &polled {
            Poll::Ready(None) => this.release(),
            Poll::Ready(Some(Ok(_))) => this.release_if_ended(),
            Poll::Ready(Some(Err(_))) => this.conn = None,
            Poll::Pending => {}
        }
        polled.map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn keep_alive_is_read_as_servers_write_it() {
        for (value, seconds) in
            [("timeout=5", Some(5)), ("max=100, timeout=15", Some(15)), ("timeout=x", None), ("", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", HeaderValue::from_static(value));
            assert_eq!(announced_keep_alive(&headers), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
