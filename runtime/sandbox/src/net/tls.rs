//! TLS for outgoing connections: which authorities are trusted.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Trusts certificates of the public authorities, and of those that were added. Clones share everything; so do all
/// that are made by default.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

/// Why certificates were refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text holds no certificate.
    #[error("there is no certificate in it: PEM with BEGIN CERTIFICATE is expected")]
    Empty,
    /// One of the certificates can't be read, or can't be an authority.
    #[error("certificate {number}: {reason}")]
    Certificate {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

static PUBLIC: LazyLock<TlsClient> = LazyLock::new(|| TlsClient::trusting(public_roots()));

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

impl Default for TlsClient {
    fn default() -> Self {
        PUBLIC.clone()
    }
}

impl TlsClient {
    /// Trusts the public authorities and those whose certificates `pem` holds.
    ///
    /// # Errors
    /// When there is none, or one is no authority's.
    pub fn with_extra_roots(pem: &[u8]) -> Result<Self, TlsError> {
        let mut roots = public_roots();
        let before = roots.len();
        for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
            let refused = |reason: String| TlsError::Certificate { number, reason };
            let certificate = certificate.map_err(|error| refused(format!("{error:?}")))?;
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(TlsError::Empty);
        }
        Ok(Self::trusting(roots))
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

impl TlsClient {
    /// For whoever speaks something else than HTTP: no protocol is named in the handshake.
    pub(crate) fn config_for_any_protocol(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols.clear();
        Arc::new(config)
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_in_words() {
        assert!(matches!(TlsClient::with_extra_roots(b"nothing"), Err(TlsError::Empty)));
        let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = TlsClient::with_extra_roots(bad).unwrap_err().to_string();
        assert!(error.starts_with("certificate 1: "), "{error}");
    }
}
