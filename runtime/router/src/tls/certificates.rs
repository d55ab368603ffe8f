//! Which certificate a client is shown: the one for the host it names (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{TlsCertificate, TlsError};

/// The certificates of one listener, by the names they are for.
#[derive(Debug)]
pub(super) struct Shown {
    default: Arc<CertifiedKey>,
    /// By name in lower case; a wildcard by what follows its `*`, dot included.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Shown {
    pub(super) fn new(certificates: &[TlsCertificate], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for certificate in certificates {
            let error = |why| TlsError::Certificate { id: certificate.id.clone(), why };
            let loaded = load(certificate, provider).map_err(error)?;
            let key = Arc::new(loaded.key);
            for name in loaded.names {
                // The first of two for one name, as the default one comes first.
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            default.get_or_insert(key);
        }
        Ok(Self { default: default.ok_or(TlsError::NoCertificate)?, by_name })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            // A wildcard stands for one label.
            let dot = name.find('.')?;
            self.by_name.get(&name[dot..])
        })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = client.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

struct Loaded {
    key: CertifiedKey,
    names: Vec<String>,
}

fn load(certificate: &TlsCertificate, provider: &CryptoProvider) -> Result<Loaded, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("its chain is not PEM: {error}"))?;
    let Some(leaf) = chain.first() else { return Err("there is no certificate in its chain".to_owned()) };
    let names = names(leaf)?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
        .map_err(|error| format!("its private key is not PEM: {error}"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| format!("its private key can't be used: {error}"))?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err("its private key belongs to another certificate".to_owned()),
    }
    Ok(Loaded { key, names })
}

/// The names a certificate is for, as [`Shown`] keeps them.
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| format!("it is not X.509: {error}"))?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(as_key(name)),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(as_key));
    }
    Ok(names)
}

fn as_key(name: &str) -> String {
    name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name).to_ascii_lowercase()
}

/// Whether a certificate can be shown: its PEM can be read, and its key is its own.
///
/// # Errors
///
/// [`TlsError::Certificate`] says what is wrong.
pub fn check_certificate(certificate: &TlsCertificate) -> Result<(), TlsError> {
    load(certificate, &rustls::crypto::ring::default_provider())
        .map(|_| ())
        .map_err(|why| TlsError::Certificate { id: certificate.id.clone(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, names: &[&str]) -> TlsCertificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        TlsCertificate { id: id.to_owned(), chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    #[test]
    fn names_lead_to_certificates() {
        let certificates = [
            made("first", &["a.example"]),
            made("wild", &["*.b.example", "b.example"]),
            made("a2", &["A.example"]),
        ];
        let provider = rustls::crypto::ring::default_provider();
        let shown = Shown::new(&certificates, &provider).unwrap();
        let of = |certificate: &TlsCertificate| {
            CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap()
        };
        let found = |name: &str| shown.find(name).map(|key| key.cert[0].clone());
        assert_eq!(found("A.EXAMPLE"), Some(of(&certificates[0])));
        assert_eq!(found("x.b.example"), Some(of(&certificates[1])));
        assert_eq!(found("b.example"), Some(of(&certificates[1])));
        assert_eq!(found("x.y.b.example"), None, "a wildcard is one label");
        assert_eq!(found("c.example"), None);
        assert_eq!(shown.default.cert[0], of(&certificates[0]));
    }

    #[test]
    fn what_cannot_be_shown_is_explained() {
        let (good, other) = (made("good", &["a.example"]), made("other", &["b.example"]));
        check_certificate(&good).unwrap();
        for (chain, key, why) in [
            (&good.chain, &other.key, "belongs to another"),
            (&"nothing".to_owned(), &good.key, "no certificate"),
            (&good.chain, &"nothing".to_owned(), "not PEM"),
            (&good.chain, &good.chain, "not PEM"),
        ] {
            let bad = TlsCertificate { id: "bad".to_owned(), chain: chain.clone(), key: key.clone() };
            let error = check_certificate(&bad).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("\"bad\""), "{error}");
        }
        assert!(!format!("{good:?}").contains("PRIVATE"));
    }
}
