//! What a connection speaks: told by ALPN where it has TLS, else by its first bytes.
//!
//! A client that speaks HTTP/2 without TLS knows so before ("prior knowledge") and opens with a fixed
//! preface, of which no other first request can have more than two bytes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::body::ClientBody;
use crate::config::RouterConfig;
use crate::connection::{Connection, Observed};
use crate::handler;
use crate::http1::{self, Served};
use crate::prefixed::Prefixed;

/// What a client of HTTP/2 opens with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request's bytes that a client may send ahead of their reader, per request and per connection.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams a client may have reset that were not looked at yet. A client that opens and resets streams
/// faster than that is closed.
const MAX_RESETS_PENDING: usize = 20;

/// Streams that may have been reset for errors of the client's, before it is closed.
const MAX_RESETS_FOR_ERRORS: usize = 64;

/// A connection that carries requests but stays silent this long is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How connections are served, with the bounds of that.
pub(crate) struct Protocols {
    /// Bytes of a request's head over HTTP/1.1.
    max_head: usize,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(crate) fn new(config: &RouterConfig) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_RESETS_PENDING)
            .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(config.max_buffer_bytes)
            .enable_connect_protocol()
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { max_head: config.max_head_bytes, http2 }
    }
}

/// Which protocol a connection speaks, if that is known from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// Its first bytes tell.
    Unknown,
}

/// Serves a connection to its end. Must be polled by one task only: its waker is kept.
pub(crate) async fn serve<T>(io: T, spoken: Spoken, connection: &Arc<Connection>, protocols: &Protocols)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Observed::new(io, Arc::clone(connection));
    let (spoken, read) = match spoken {
        Spoken::Unknown => match unless_closing(connection, find_out(&mut io)).await {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::debug!(%error, "connection ended before its first request");
                return;
            }
            None => return,
        },
        known => (known, Bytes::new()),
    };
    match spoken {
        Spoken::Http2 => {
            let io = TokioIo::new(Prefixed::new(read, io));
            if let Err(error) = Box::pin(serve_http2(io, connection, protocols)).await {
                tracing::debug!(%error, "connection ended early");
            }
        }
        Spoken::Http1 | Spoken::Unknown => serve_http1(io, read, connection, protocols).await,
    }
}

/// Waits for `first`, which waits for a client's first bytes, unless the connection should close and none
/// have come.
async fn unless_closing<F: Future>(connection: &Connection, first: F) -> Option<F::Output> {
    let mut first = pin!(first);
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(found) => Poll::Ready(Some(found)),
        Poll::Pending if connection.is_idle() && connection.should_close() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Reads until it is clear whether the client speaks HTTP/2, and gives out what was read.
async fn find_out<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<(Spoken, Bytes)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        let got = io.take((PREFACE.len() - read.len()) as u64).read_buf(&mut read).await?;
        if got == 0 || !PREFACE.starts_with(&read) {
            return Ok((Spoken::Http1, read.freeze()));
        }
        if read.len() == PREFACE.len() {
            return Ok((Spoken::Http2, read.freeze()));
        }
    }
}

async fn serve_http1<T>(io: Observed<T>, early: Bytes, connection: &Arc<Connection>, protocols: &Protocols)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match http1::serve(io, early, connection, protocols.max_head).await {
        Ok(Served::Closed) => {}
        Ok(Served::Switched(io, early)) => {
            if let Some(tunnel) = connection.take_tunnel() {
                // What the client sent right behind its request belongs to the new protocol. Boxed, as its state
                // would otherwise be part of every connection's.
                Box::pin(tunnel.run(Prefixed::new(early, io), connection)).await;
            }
        }
        Err(error) => tracing::debug!(%error, "connection ended early"),
    }
}

async fn serve_http2<T>(
    io: TokioIo<Prefixed<Observed<T>>>,
    connection: &Arc<Connection>,
    protocols: &Protocols,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection.speaks_http2();
    let service = {
        let connection = Arc::clone(connection);
        service_fn(move |request: Request<Incoming>| {
            let answered = handler::handle(Arc::clone(&connection), request.map(ClientBody::Http2));
            async { Ok::<_, Infallible>(answered.await) }
        })
    };
    let mut http = protocols.http2.serve_connection(io, service);
    drive(&mut http, connection, http2::Connection::graceful_shutdown).await
}

/// Polls a server to its end, which `close` brings about once the connection should close.
async fn drive<F>(http: &mut F, connection: &Connection, close: impl Fn(Pin<&mut F>)) -> hyper::Result<()>
where
    F: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut is_closing = false;
    poll_fn(|cx| {
        if !is_closing && connection.should_close() {
            is_closing = true;
            close(Pin::new(http));
        }
        Pin::new(&mut *http).poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_not_lost() {
        for (sent, spoken) in [
            (PREFACE, Spoken::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Spoken::Http1),
            (b"PROPFIND / HTTP/1.1\r\n", Spoken::Http1),
            (b"G", Spoken::Http1),
            (b"PRI", Spoken::Http1),
        ] {
            for step in [1, 64] {
                let (mut client, mut server) = tokio::io::duplex(64);
                let found = tokio::spawn(async move { find_out(&mut server).await.unwrap() });
                for bytes in sent.chunks(step) {
                    // Fails once enough is known.
                    let _ = client.write_all(bytes).await;
                    tokio::task::yield_now().await;
                }
                drop(client);
                let (found, read) = found.await.unwrap();
                assert_eq!(found, spoken, "{sent:?}");
                assert!(sent.starts_with(&read));
            }
        }
    }
}
