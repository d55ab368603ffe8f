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
//! `codec` is what clients write and read (the rest of the protocol is in `crate::http1`), `exchange` the connection.
//! The task that waits for the response drives the socket meanwhile: there is no other, and nothing to hand over. A
//! response whose body came with its head gives the connection back before the client has seen any of it.

mod codec;
mod exchange;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{self, Instant};

use super::connect::{ConnectError, Connector};
use super::pool::Idle;
use super::{HttpTargetConfig, PLACES, no_body, not_connected, prepare};
use crate::headers::spare;
use crate::http1::codec::Decoder;
use crate::prefixed::Prefixed;
use crate::target::{BoxError, CallError, RequestBody, ResponseBody};
use crate::tunnel::Upgrade;
use crate::workers::{place, spawn_aside};
use exchange::{Answer, Broken, Exchange};

/// Taken off what a target announces in `Keep-Alive`: a request must not meet the connection just as the
/// target closes it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// The shortest pause between two looks at the idle connections.
const MIN_SWEEP: Duration = Duration::from_millis(100);

/// The connections to one target.
pub(super) struct Http1 {
    connector: Connector,
    max_head_bytes: usize,
    idle_timeout: Duration,
    idle: Idle<Box<Exchange>>,
    is_swept: AtomicBool,
}

impl Http1 {
    pub(super) fn new(connector: Connector, config: &HttpTargetConfig) -> Arc<Self> {
        Arc::new(Self {
            connector,
            max_head_bytes: config.max_head_bytes,
            idle_timeout: config.idle_timeout,
            idle: Idle::new(config.max_idle, *PLACES),
            is_swept: AtomicBool::new(false),
        })
    }

    /// An idle connection that is alive.
    fn take(&self) -> Option<Box<Exchange>> {
        let now = Instant::now();
        loop {
            let mut exchange = self.idle.take(place(), now)?;
            if !exchange.is_dead() {
                return Some(exchange);
            }
        }
    }

    /// Another thread's idle connection, if there may be no more of them.
    fn take_if_full(&self, error: &ConnectError) -> Option<Box<Exchange>> {
        if !matches!(error, ConnectError::Full(_)) {
            return None;
        }
        let now = Instant::now();
        std::iter::from_fn(|| self.idle.take_any(now))
            .find_map(|mut exchange| (!exchange.is_dead()).then_some(exchange))
    }

    async fn connect(&self) -> Result<Box<Exchange>, ConnectError> {
        Ok(Exchange::new(self.connector.connect().await?))
    }

    /// Keeps a connection for the next request, if it is through with the last one.
    fn put(self: &Arc<Self>, mut exchange: Box<Exchange>, good_for: Duration) {
        if !exchange.is_free() {
            return;
        }
        exchange.rest();
        let good_until = Instant::now() + good_for;
        if self.idle.put(place(), exchange, good_until) && !self.is_swept.swap(true, Ordering::AcqRel) {
            spawn_aside(sweep(Arc::downgrade(self)));
        }
    }

    fn sweep(&self) -> usize {
        self.idle.sweep(Instant::now(), |exchange| exchange.is_dead())
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

/// Sends a request, and waits for the head of its response.
pub(super) async fn call(
    client: Arc<Http1>,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, CallError> {
    prepare(&mut request, Version::HTTP_11);
    if let Some(mut exchange) = client.take() {
        let has_body = exchange.begin(&mut request);
        match answer(&client, &mut exchange, &mut request).await {
            Ok(answer) => {
                spare::give(std::mem::take(request.headers_mut()));
                return Ok(respond(&client, exchange, answer));
            }
            // It looks as if the target had given the connection up, and knows nothing of the request.
            Err(Broken::Closed | Broken::Io(_))
                if !exchange.has_heard() && !has_body && request.method().is_idempotent() => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    // Boxed, as it is rare: its state would otherwise be part of every request's.
    let mut exchange = match Box::pin(client.connect()).await {
        Ok(exchange) => exchange,
        Err(error) => match client.take_if_full(&error) {
            Some(exchange) => exchange,
            None => return Err(not_connected(request, &error)),
        },
    };
    exchange.begin(&mut request);
    match answer(&client, &mut exchange, &mut request).await {
        Ok(answer) => Ok(respond(&client, exchange, answer)),
        Err(error) => Err(failed(&error)),
    }
}

async fn answer(
    client: &Http1,
    exchange: &mut Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Answer, Broken> {
    // The method alone: a request is not shared, as its body can't be used by two threads.
    let method = request.method();
    poll_fn(|cx| exchange.poll_answer(method, client.max_head_bytes, cx)).await
}

/// A connection broke with a request on it.
fn failed(error: &Broken) -> CallError {
    let reason = error.to_string();
    match error {
        Broken::Body(_) => CallError::BadRequest { reason },
        Broken::Closed | Broken::Io(_) | Broken::Unreadable(_) => CallError::Failed { reason },
    }
}

fn respond(client: &Arc<Http1>, exchange: Box<Exchange>, answer: Answer) -> Response<ResponseBody> {
    let Answer { head, whole } = answer;
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // What came right behind the head belongs to the new protocol.
        let (io, early) = exchange.into_parts();
        response.extensions_mut().insert(Upgrade::new(Prefixed::new(early, io)));
        return response.map(|()| no_body());
    }
    let good_for = head.keeps_alive.then(|| match head.announced {
        Some(announced) => client.idle_timeout.min(announced.saturating_sub(KEEP_ALIVE_MARGIN)),
        None => client.idle_timeout,
    });
    let Some(whole) = whole else {
        let body =
            FromTarget { exchange: Some(exchange), decoder: head.body, client: Arc::clone(client), good_for };
        return response.map(|()| ResponseBody::new(body));
    };
    if let Some(good_for) = good_for {
        client.put(exchange, good_for);
    }
    response.map(|()| match whole.is_empty() {
        true => no_body(),
        false => ResponseBody::new(Full::new(whole).map_err(|never| match never {})),
    })
}

/// A response's body. It drives the connection it comes over, and gives it back at its end. Dropped
/// before, it closes the connection: what is still to come would be read as the next response.
struct FromTarget {
    /// Until the body has ended.
    exchange: Option<Box<Exchange>>,
    decoder: Decoder,
    client: Arc<Http1>,
    /// How long the connection may be idle, if it may.
    good_for: Option<Duration>,
}

impl Body for FromTarget {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(exchange) = &mut this.exchange else { return Poll::Ready(None) };
        let polled = ready!(exchange.poll_frame(&mut this.decoder, cx));
        match &polled {
            Some(Ok(_)) if !this.decoder.is_done() => {}
            Some(Ok(_)) | None => {
                if let (Some(exchange), Some(good_for)) = (this.exchange.take(), this.good_for) {
                    this.client.put(exchange, good_for);
                }
            }
            Some(Err(_)) => this.exchange = None,
        }
        Poll::Ready(polled.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
