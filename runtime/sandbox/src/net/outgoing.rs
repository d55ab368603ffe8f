//! Outgoing HTTP requests of guests, as far as their network lets them.
//!
//! One connection per request, HTTP/1.1, with TLS for `https`. Redirects are answers like any other: a guest that
//! follows one makes another request, which is checked as the first was. What goes over the wire names a path and
//! never a host, so that no server on the way could take a request somewhere else.

use super::hops::{self, Hops};
use super::quota::Permit;
use super::upstream::{Upstream, UpstreamBody};
use super::{CONNECT_TIMEOUT, DialError, Network, RECEIVE_BUFFER, SEND_BUFFER};
use crate::memory::{MemoryBudget, MemoryHold, MemoryRefused};
use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// A response, and what is left to do for its connection.
pub(crate) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// How long a guest that names no time-outs waits for a response, and between its parts.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes held per connection and direction, and the longest head of a response. hyper's own default is 400 KiB.
const MAX_BUFFER: usize = 64 * 1024;

/// Where a request goes.
struct Destination {
    tls: bool,
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl Destination {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            None => false,
            Some(_) => return Err(Error::HttpProtocolError),
        };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // Whoever sends a password in a URL means some other protocol.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| Error::HttpRequestUriInvalid)?,
            None if tls => 443,
            None => 80,
        };
        Ok(Self { tls, host, port })
    }
}

/// What a connection holds on the host, in bytes: as much as it may read ahead, here and in the kernel. It is charged to
/// the guest.
const CONNECTION: u64 = MAX_BUFFER as u64 + RECEIVE_BUFFER as u64 + SEND_BUFFER as u64;

/// Sends a guest's request, made to answer one that has `hops` behind it.
pub(crate) async fn send(
    network: Network,
    memory: MemoryBudget,
    hops: Hops,
    mut request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Sent, Error> {
    let options = options.unwrap_or_default();
    let first_byte_timeout = options.first_byte_timeout.unwrap_or(RESPONSE_TIMEOUT);
    let limits = Limits {
        between_bytes: options.between_bytes_timeout.unwrap_or(RESPONSE_TIMEOUT),
        bytes: network.0.spec.quotas.response_body,
    };
    let destination = Destination::of(request.uri())?;
    let permit = network.request().ok_or(Error::ConnectionLimitReached)?;

    // What goes over the wire is the path alone; the host is in its header.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    if !path.starts_with('/') {
        return Err(Error::HttpRequestUriInvalid);
    }
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.version_mut() = Version::HTTP_11;
    let request = request.map(|body| {
        CappedBody { body, left: network.0.spec.quotas.request_body, error: Error::HttpRequestBodySize(None) }
            .boxed_unsync()
    });

    if let Some(upstream) = network.upstream(&destination.host, destination.port) {
        let Some(hops) = hops.next() else {
            return Ok((hops::too_many(), Box::new(std::future::ready(Ok(())))));
        };
        let mut request = request;
        request.extensions_mut().insert(hops);
        let response = timeout(first_byte_timeout, call(&*upstream, request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)??;
        let response = response.map(|body| GuardedBody::new(body, limits, (permit, None)).boxed_unsync());
        return Ok((response, Box::new(std::future::ready(Ok(())))));
    }

    let Some(buffers) = memory.hold(CONNECTION) else {
        return Err(Error::InternalError(Some(MemoryRefused.to_string())));
    };
    let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let (stream, connected) = timeout(connect_timeout, connect(&network, &destination))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Hyper)?;

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
    let held = (permit, Some((connected, buffers)));
    let response =
        response.map(|body| GuardedBody::new(body.map_err(Error::Hyper), limits, held).boxed_unsync());
    // How it ends concerns the guest alone, and the guest learns it from the body. wasmtime would write an error to
    // the host's log, which guests must not be able to fill.
    let rest = async move {
        let _ = connection.await;
        Ok(())
    };
    Ok((response, Box::new(rest)))
}

/// Asks a service in this process.
async fn call(upstream: &dyn Upstream, request: Request<WasiBody>) -> Result<Response<WasiBody>, Error> {
    let request: Request<UpstreamBody> = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let response = upstream.call(request).await.map_err(|reason| Error::InternalError(Some(reason)))?;
    let error =
        |error: Box<dyn std::error::Error + Send + Sync>| Error::InternalError(Some(error.to_string()));
    Ok(response.map(|body| body.map_err(error).boxed_unsync()))
}

/// What HTTP is spoken over.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn connect(
    network: &Network,
    destination: &Destination,
) -> Result<(Box<dyn Connection>, Permit), Error> {
    let (stream, permit) = network.dial(&destination.host, destination.port).await?;
    let stream: Box<dyn Connection> =
        if destination.tls { Box::new(tls(network, destination, stream).await?) } else { Box::new(stream) };
    Ok((stream, permit))
}

async fn tls(
    network: &Network,
    destination: &Destination,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let name = ServerName::try_from(destination.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let connector = TlsConnector::from(network.0.spec.tls.config());
    connector.connect(name, stream).await.map_err(|error| tls_error(&error))
}

fn tls_error(error: &io::Error) -> Error {
    let rustls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Error {
        match error {
            DialError::Denied => Error::HttpRequestDenied,
            DialError::ProhibitedAddress => Error::DestinationIpProhibited,
            DialError::TooMany => Error::ConnectionLimitReached,
            DialError::Lookup(error) if error.kind() == io::ErrorKind::TimedOut => Error::DnsTimeout,
            DialError::Lookup(error) => Error::DnsError { rcode: Some(error.to_string()), info_code: None },
            DialError::NotFound => Error::DestinationNotFound,
            DialError::Connect(error) => Error::Connect(error),
        }
    }
}

/// What a response's body may take.
#[derive(Clone, Copy)]
struct Limits {
    between_bytes: Duration,
    bytes: u64,
}

/// The places in the quotas that a request holds: its own, and its connection's with the memory for it.
type Held = (Permit, Option<(Permit, MemoryHold)>);

/// A response's body whose frames must not be too far apart, nor too many, and that holds its request's places.
struct GuardedBody<B> {
    body: CappedBody<B>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    _held: Held,
}

impl<B> GuardedBody<B> {
    fn new(body: B, limits: Limits, held: Held) -> Self {
        let body = CappedBody { body, left: limits.bytes, error: Error::HttpResponseBodySize(None) };
        GuardedBody { body, limit: limits.between_bytes, timer: None, _held: held }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for GuardedBody<B> {
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

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that must not be longer than so many bytes.
struct CappedBody<B> {
    body: B,
    left: u64,
    /// What it ends with when it is; taken once.
    error: Error,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for CappedBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match this.left.checked_sub(bytes) {
                Some(left) => this.left = left,
                None => {
                    this.left = 0;
                    let error = std::mem::replace(&mut this.error, Error::HttpProtocolError);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(frame)
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
    use super::super::{EgressPolicy, NetworkQuotas, NetworkSpec};
    use super::*;
    use http_body_util::{Empty, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that answers every connection's request, once it has all of its body, with a body of 1000 bytes.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let is_whole = |request: &[u8]| {
                        let text = String::from_utf8_lossy(request);
                        let length =
                            text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                        let length: usize = length.map_or(0, |length| length.parse().unwrap());
                        text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length)
                    };
                    while !is_whole(&request) {
                        if stream.read_buf(&mut request).await? == 0 {
                            return Ok(());
                        }
                    }
                    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                    stream.write_all(&[head.as_bytes(), &[b'x'; 1000]].concat()).await?;
                    std::future::pending::<io::Result<()>>().await
                });
            }
        });
        address
    }

    fn network(address: &str, quotas: NetworkQuotas) -> Network {
        let egress = EgressPolicy::parse(address).unwrap();
        Network::new(NetworkSpec { egress, quotas, ..NetworkSpec::default() })
    }

    fn request(address: &str, body: usize) -> Request<WasiBody> {
        let request = Request::post(format!("http://{address}/"));
        let body = match body {
            0 => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            length => {
                Full::new(Bytes::from(vec![b'x'; length])).map_err(|never| match never {}).boxed_unsync()
            }
        };
        request.body(body).unwrap()
    }

    async fn ask(
        network: &Network,
        memory: &MemoryBudget,
        request: Request<WasiBody>,
    ) -> Result<Sent, Error> {
        send(network.clone(), memory.clone(), Hops::default(), request, None).await
    }

    /// Reads a response to its end, or to the error in the place of it.
    async fn read((response, connection): Sent) -> Result<usize, Error> {
        let connection = Box::into_pin(connection);
        let mut body = std::pin::pin!(response.into_body().collect());
        let mut connection = std::pin::pin!(connection);
        let body = std::future::poll_fn(|cx| {
            let _ = connection.as_mut().poll(cx);
            body.as_mut().poll(cx)
        });
        body.await.map(|body| body.to_bytes().len())
    }

    #[tokio::test]
    async fn bodies_are_as_long_as_they_may_be() {
        let address = server().await;
        let memory = MemoryBudget::new(u64::MAX);
        let quotas = |request_body, response_body| NetworkQuotas {
            request_body,
            response_body,
            ..NetworkQuotas::default()
        };
        let enough = network(&address, quotas(100, 1000));
        let sent = ask(&enough, &memory, request(&address, 100)).await.unwrap();
        assert_eq!(read(sent).await.unwrap(), 1000);

        let sent = ask(&network(&address, quotas(99, 1000)), &memory, request(&address, 100)).await;
        assert!(sent.is_err(), "a byte too many was sent");
        let sent = ask(&network(&address, quotas(100, 999)), &memory, request(&address, 100)).await.unwrap();
        let error = read(sent).await.unwrap_err();
        assert!(matches!(error, Error::HttpResponseBodySize(_)), "{error:?}");
    }

    #[tokio::test]
    async fn requests_and_connections_count_until_their_responses_have_ended() {
        let address = server().await;
        let quotas =
            |requests, connections| NetworkQuotas { requests, connections, ..NetworkQuotas::default() };
        for few in [quotas(1, 100), quotas(100, 1)] {
            let (network, memory) = (network(&address, few), MemoryBudget::new(u64::MAX));
            let first = ask(&network, &memory, request(&address, 0)).await.unwrap();
            let second = ask(&network, &memory, request(&address, 0)).await;
            assert!(matches!(second, Err(Error::ConnectionLimitReached)), "{few:?}");
            assert_eq!(memory.current(), CONNECTION);
            drop(first);
            assert_eq!(memory.current(), 0);
            assert!(ask(&network, &memory, request(&address, 0)).await.is_ok());
        }
        let memory = MemoryBudget::new(2 * CONNECTION - 1);
        let network = network(&address, NetworkQuotas::default());
        let _first = ask(&network, &memory, request(&address, 0)).await.unwrap();
        let second = ask(&network, &memory, request(&address, 0)).await;
        assert!(matches!(second, Err(Error::InternalError(Some(_)))), "its buffers are paid for");
    }
}
