//! A new connection to a target: TCP, and TLS where it is asked for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HttpTargetConfig, TargetProtocol};

/// Why there is no connection. In each case the target has seen nothing of the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection to it could be made within {0:?}")]
    TimedOut(Duration),
    #[error("no connection to it could be made: {0}")]
    Refused(#[source] io::Error),
    #[error("it did not agree on TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("it closed the connection at once: {0}")]
    Closed(#[source] hyper::Error),
    #[error("it has {0} connections, as many as it may")]
    Full(usize),
}

/// Makes connections to one address, and counts them.
pub(super) struct Connector {
    address: SocketAddr,
    timeout: Duration,
    tls: Option<TlsConnector>,
    max_open: usize,
    open: Arc<AtomicUsize>,
}

impl Connector {
    pub(super) fn new(config: &HttpTargetConfig) -> Self {
        static HTTP1: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| client_config(&[b"http/1.1"]));
        static HTTP2: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| client_config(&[b"h2"]));
        let tls = match config.protocol {
            TargetProtocol::Http1 => &HTTP1,
            TargetProtocol::Http2 => &HTTP2,
        };
        Self {
            address: config.address,
            timeout: config.connect_timeout,
            tls: config.tls.then(|| TlsConnector::from(Arc::clone(tls))),
            max_open: config.max_connections,
            open: Arc::default(),
        }
    }

    pub(super) async fn connect(&self) -> Result<Stream, ConnectError> {
        let place = Place::enter(&self.open, self.max_open).ok_or(ConnectError::Full(self.max_open))?;
        let opened = timeout(self.timeout, self.open());
        let io = opened.await.map_err(|_| ConnectError::TimedOut(self.timeout))??;
        Ok(Stream { io, _place: place })
    }

    async fn open(&self) -> Result<Io, ConnectError> {
        let tcp = TcpStream::connect(self.address).await.map_err(ConnectError::Refused)?;
        // Requests are small, and written whole: waiting for more to send only delays them. Failing means
        // that the target is gone, which the first write finds out.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else { return Ok(Io::Plain(tcp)) };
        let name = ServerName::IpAddress(self.address.ip().into());
        let tls = tls.connect(name, tcp).await.map_err(ConnectError::Tls)?;
        Ok(Io::Tls(Box::new(tls)))
    }
}

fn client_config(alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers of the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Takes any certificate, as a load balancer does of its targets; the handshake still has to prove that
/// the target holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A place among the connections that may be open.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn enter(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let add = |count: usize| (count < max).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection.
pub(super) struct Stream {
    io: Io,
    _place: Place,
}

impl Stream {
    /// Whether there are bytes to read, or the end of them. Nobody is told when that changes.
    pub(super) fn has_something(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.io {
            Io::Plain(tcp) => {
                !matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Io::Tls(tls) => {
                let cx = &mut Context::from_waker(Waker::noop());
                Pin::new(tls).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready()
            }
        }
    }
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with whichever it is.
macro_rules! either {
    ($stream:expr, $io:ident => $do:expr) => {
        match &mut $stream.get_mut().io {
            Io::Plain($io) => $do,
            Io::Tls($io) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
