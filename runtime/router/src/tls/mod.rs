//! TLS of listeners: which certificate a client is shown, and what is asked of the client's own.
//!
//! A configuration is plain data, and becomes a rustls configuration when a table is published. A
//! connection takes the one that is current when it is accepted, so new certificates disturb no open one.

mod certificates;
mod clients;

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use rustls::ServerConfig;
use rustls::server::ServerConnection;

use crate::forwarded::ClientTls;
pub use certificates::check_certificate;

/// What an HTTPS listener needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsConfig {
    /// The certificates; a client that names no host, or one of no certificate, is shown the first.
    pub certificates: Vec<TlsCertificate>,
    /// The name of ELBv2's security policy. Those with `TLS13-1-3` in it allow TLS 1.3 alone, all others
    /// TLS 1.2 too; older versions are not spoken.
    pub policy: String,
    /// What is asked of clients.
    pub client_certificates: ClientCertificates,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsCertificate {
    /// What it is called in messages, such as its ARN.
    pub id: String,
    /// The certificate, then those between it and its root, PEM.
    pub chain: String,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: String,
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCertificate").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Mutual TLS: what is asked of clients, and what targets are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    Off,
    /// A client may show a certificate. It is not checked, but passed to targets with its chain, in
    /// `X-Amzn-Mtls-Clientcert`.
    Passthrough,
    /// A client must show a certificate that leads to one of `ca_bundle`; what it says is passed to
    /// targets in `X-Amzn-Mtls-Clientcert-*`.
    Verify {
        /// The authorities, PEM.
        ca_bundle: String,
        /// Whether a certificate that has expired is good.
        ignore_expiry: bool,
        /// Whether clients are told the names of the authorities.
        advertise_names: bool,
    },
}

/// Why a listener can't speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate.
    #[error("an HTTPS listener needs a certificate")]
    NoCertificate,
    /// A certificate can't be used.
    #[error("the certificate {id:?} can't be used: {why}")]
    Certificate {
        /// The certificate's id.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// The authorities of clients can't be used.
    #[error("the CA bundle for client certificates can't be used: {0}")]
    CaBundle(String),
}

/// How a listener speaks with those it accepts.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    Clear,
    Tls(Tls),
    /// It should speak TLS, but can't.
    Broken,
}

/// A rustls configuration, and which headers come of it.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) server: Arc<ServerConfig>,
    tells: clients::Tells,
}

impl Tls {
    pub(crate) fn new(config: &HttpsConfig, http2: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (verifier, tells) = clients::verifier(&config.client_certificates, &provider)?;
        let shown = certificates::Shown::new(&config.certificates, &provider)?;
        let versions: &[&rustls::SupportedProtocolVersion] = if config.policy.contains("TLS13-1-3") {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has ciphers of both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(shown));
        server.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
        server.alpn_protocols.push(b"http/1.1".to_vec());
        match rustls::crypto::ring::Ticketer::new() {
            // Clients resume without the router keeping anything.
            Ok(ticketer) => server.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "no session tickets: clients agree on TLS anew each time"),
        }
        Ok(Self { server: Arc::new(server), tells })
    }

    /// What targets are told of a client whose handshake is done.
    pub(crate) fn describe(&self, client: &ServerConnection) -> ClientTls {
        let version = client.protocol_version().map_or("unknown", |version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "unknown",
        });
        let cipher = client.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        // rustls tells those of TLS 1.3 apart by a prefix of its own.
        let cipher = cipher.unwrap_or("unknown").replace("TLS13_", "TLS_");
        ClientTls {
            version: HeaderValue::from_static(version),
            cipher: HeaderValue::try_from(cipher).unwrap_or(HeaderValue::from_static("unknown")),
            certificate: self.tells.headers(client.peer_certificates().unwrap_or_default()),
        }
    }
}
