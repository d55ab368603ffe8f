//! Outgoing HTTP requests of guests, as far as the container's rules allow them.
//!
//! One connection per request, HTTP/1.1, without TLS. Names are resolved once, and what they resolve to is what
//! is checked and connected to.

use crate::network::NetPolicy;
use bytes::Bytes;
use http::uri::Scheme;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// A response, and what is left to do for its connection.
pub(crate) type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// What a guest that names no time-outs gets.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes held per connection and direction, and the longest head of a response. hyper's own default is 400 KiB.
const MAX_BUFFER: usize = 64 * 1024;

pub(crate) async fn send(
    network: Arc<NetPolicy>,
    mut request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Sent, Error> {
    let options = options.unwrap_or_default();
    let connect_timeout = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let first_byte_timeout = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let between_bytes_timeout = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);

    let uri = request.uri();
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });

    let allowed = network.check(&host, port).ok_or(Error::HttpRequestDenied)?;
    if tls {
        let reason = "outgoing https is not available in this build; only http is";
        return Err(Error::InternalError(Some(reason.to_owned())));
    }

    let connect = async {
        let found = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?;
        let mut last = None;
        for address in found {
            if !allowed.permits(address.ip()) {
                last = Some(Error::DestinationIpProhibited);
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(Error::Connect(error)),
            }
        }
        Err(last.unwrap_or(Error::DestinationNotFound))
    };
    let stream = timeout(connect_timeout, connect).await.map_err(|_| Error::ConnectionTimeout)??;
    // Small requests are not worth waiting for more of them.
    stream.set_nodelay(true).map_err(Error::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Hyper)?;

    // What goes over the wire is the path alone; the host is in its header.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;

    // The connection has to be polled for the response to arrive; it is dropped with this future if the guest
    // loses interest, and handed back if it does not.
    let mut connection = Box::pin(connection);
    let response = {
        let mut response = std::pin::pin!(sender.send_request(request));
        let both = std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            match connection.as_mut().poll(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // Done, or not: the response says the rest.
                Poll::Ready(Ok(())) => response.as_mut().poll(cx),
                Poll::Pending => Poll::Pending,
            }
        });
        timeout(first_byte_timeout, both)
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .map_err(Error::Hyper)?
    };
    let response = response
        .map(|body| WithTimeout::new(body.map_err(Error::Hyper), between_bytes_timeout).boxed_unsync());
    // How it ends concerns the guest alone, and the guest learns it from the body. wasmtime would write an error to
    // the host's log, which guests must not be able to fill.
    let rest = async move {
        let _ = connection.await;
        Ok(())
    };
    Ok((response, Box::new(rest)))
}

/// A body whose frames must not be too far apart.
struct WithTimeout<B> {
    body: B,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> WithTimeout<B> {
    fn new(body: B, limit: Duration) -> Self {
        WithTimeout { body, limit, timer: None }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for WithTimeout<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::HttpResponseTimeout)))
    }
}
