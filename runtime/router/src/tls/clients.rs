//! Certificates of clients: whether they are good, and what targets are told of them.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate, X509Name};

use super::{ClientCertificates, TlsError};

/// Bytes of a header that tells of certificates. More would not fit into the head most servers take.
const MAX_TOLD: usize = 24 * 1024;

/// What targets are told of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    Nothing,
    /// The chain as it was shown.
    Chain,
    /// What a verified certificate says.
    Fields,
}

pub(super) fn verifier(
    config: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Tells), TlsError> {
    let lenient = |leniency| -> Arc<dyn ClientCertVerifier> {
        Arc::new(Lenient { provider: Arc::clone(provider), leniency })
    };
    match config {
        ClientCertificates::Off => Ok((WebPkiClientVerifier::no_client_auth(), Tells::Nothing)),
        ClientCertificates::Passthrough => Ok((lenient(Leniency::Any), Tells::Chain)),
        ClientCertificates::Verify { ca_bundle, ignore_expiry, advertise_names } => {
            let roots = Arc::new(roots(ca_bundle)?);
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            if !advertise_names {
                builder = builder.clear_root_hint_subjects();
            }
            let verifier = builder.build().map_err(|error| TlsError::CaBundle(error.to_string()))?;
            let verifier = if *ignore_expiry { lenient(Leniency::Ageless(verifier)) } else { verifier };
            Ok((verifier, Tells::Fields))
        }
    }
}

fn roots(ca_bundle: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_bundle.as_bytes()) {
        let root = root.map_err(|error| TlsError::CaBundle(error.to_string()))?;
        roots.add(root).map_err(|error| TlsError::CaBundle(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(TlsError::CaBundle("there is no certificate in it".to_owned()))
    } else {
        Ok(roots)
    }
}

/// Judges certificates more leniently than webpki does. The handshake still has to prove that the client holds the
/// certificate's key.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    leniency: Leniency,
}

#[derive(Debug)]
enum Leniency {
    /// Any certificate will do, or none.
    Any,
    /// A certificate is judged as of the last moment it was good.
    Ageless(Arc<dyn ClientCertVerifier>),
}

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        matches!(self.leniency, Leniency::Ageless(_))
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.leniency {
            Leniency::Any => &[],
            Leniency::Ageless(strict) => strict.root_hint_subjects(),
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let Leniency::Ageless(strict) = &self.leniency else { return Ok(ClientCertVerified::assertion()) };
        let not_after = X509Certificate::from_der(end_entity)
            .ok()
            .and_then(|(_, parsed)| u64::try_from(parsed.validity().not_after.timestamp()).ok())
            .map(|seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)));
        let now = not_after.map_or(now, |not_after| now.min(not_after));
        strict.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Tells {
    /// The headers for a client that has shown `chain`.
    pub(super) fn headers(self, chain: &[CertificateDer<'_>]) -> Vec<(HeaderName, HeaderValue)> {
        let Some(leaf) = chain.first() else { return Vec::new() };
        let told = match self {
            Tells::Nothing => Vec::new(),
            Tells::Chain => vec![("x-amzn-mtls-clientcert", chain.iter().map(encoded).collect())],
            Tells::Fields => fields(leaf),
        };
        told.into_iter()
            .filter_map(|(name, value)| {
                let value = HeaderValue::try_from(value).ok().filter(|value| value.len() <= MAX_TOLD)?;
                Some((HeaderName::from_static(name), value))
            })
            .collect()
    }
}

fn fields(leaf: &CertificateDer<'_>) -> Vec<(&'static str, String)> {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let mut serial = String::new();
    for byte in parsed.raw_serial() {
        let _ = write!(serial, "{byte:02X}");
    }
    let validity = parsed.validity();
    let validity =
        format!("NotBefore={};NotAfter={}", timestamp(validity.not_before), timestamp(validity.not_after));
    vec![
        ("x-amzn-mtls-clientcert-serial-number", serial),
        ("x-amzn-mtls-clientcert-issuer", distinguished(parsed.issuer())),
        ("x-amzn-mtls-clientcert-subject", distinguished(parsed.subject())),
        ("x-amzn-mtls-clientcert-validity", validity),
        ("x-amzn-mtls-clientcert-leaf", encoded(leaf)),
    ]
}

/// A time as `2023-09-21T01:50:17Z`.
fn timestamp(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A name as RFC 2253 has it: the most specific part first, special characters escaped.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts = Vec::new();
    for rdn in name.iter() {
        let attributes: Vec<String> = rdn
            .iter()
            .map(|attribute| {
                let oid = attribute.attr_type();
                let kind = x509_parser::objects::oid2abbrev(oid, x509_parser::objects::oid_registry())
                    .map_or_else(|_| oid.to_id_string(), str::to_owned);
                format!("{kind}={}", escaped(attribute.as_str().unwrap_or_default()))
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (at, character) in value.char_indices() {
        let is_at_edge = at == 0 || at + character.len_utf8() == value.len();
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', character]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if is_at_edge => escaped.push_str("\\ "),
            ' '..='~' => escaped.push(character),
            _ => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(escaped, "\\{byte:02X}");
                }
            }
        }
    }
    escaped
}

/// A certificate as PEM, percent-encoded but for letters, digits and `-._~+/=`.
fn encoded(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    let mut encoded = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for line in base64.as_bytes().chunks(64) {
        encoded.extend(line.iter().map(|byte| char::from(*byte)));
        encoded.push_str("%0A");
    }
    encoded.push_str("-----END%20CERTIFICATE-----%0A");
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_are_written_as_load_balancers_do() {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CountryName, "US");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme, Inc.");
        params.distinguished_name.push(rcgen::DnType::CommonName, "client é");
        params.not_before = rcgen::date_time_ymd(2023, 9, 21);
        params.not_after = rcgen::date_time_ymd(2024, 9, 20);
        params.serial_number = Some(vec![0x03, 0xa5, 0xb1].into());
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = params.self_signed(&key).unwrap();
        let headers = Tells::Fields.headers(&[leaf.der().clone()]);
        let of = |name: &str| {
            headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.to_str().unwrap()).unwrap()
        };
        assert_eq!(of("x-amzn-mtls-clientcert-serial-number"), "03A5B1");
        assert_eq!(of("x-amzn-mtls-clientcert-subject"), "CN=client \\C3\\A9,O=Acme\\, Inc.,C=US");
        assert_eq!(of("x-amzn-mtls-clientcert-issuer"), of("x-amzn-mtls-clientcert-subject"));
        assert_eq!(
            of("x-amzn-mtls-clientcert-validity"),
            "NotBefore=2023-09-21T00:00:00Z;NotAfter=2024-09-20T00:00:00Z"
        );
        let decoded = of("x-amzn-mtls-clientcert-leaf").replace("%20", " ").replace("%0A", "\n");
        assert_eq!(&CertificateDer::from_pem_slice(decoded.as_bytes()).unwrap(), leaf.der());
        assert_eq!(Tells::Chain.headers(&[leaf.der().clone()]).len(), 1);
        assert_eq!(Tells::Fields.headers(&[]), []);
    }
}
