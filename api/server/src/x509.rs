//! What is written in a certificate.

use coracle_types::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The names it is for: its common name, then the others.
    pub(crate) names: Vec<String>,
    pub(crate) serial: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) key_algorithm: String,
    pub(crate) signature_algorithm: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// When there is none that can be read.
pub(crate) fn read(pem: &str) -> Result<Said, String> {
    let block = Pem::iter_from_buffer(pem.as_bytes()).next().ok_or("it holds no PEM")?;
    let block = block.map_err(|error| format!("it is not PEM: {error}"))?;
    if block.label != "CERTIFICATE" {
        return Err(format!("it holds a {}, not a certificate", block.label));
    }
    let (_, certificate) = X509Certificate::from_der(&block.contents)
        .map_err(|error| format!("it is no X.509 certificate: {error}"))?;
    let mut names: Vec<String> = common_name(certificate.subject()).into_iter().collect();
    if let Ok(Some(others)) = certificate.subject_alternative_name() {
        for other in &others.value.general_names {
            if let GeneralName::DNSName(name) = other
                && !names.iter().any(|known| known == name)
            {
                names.push((*name).to_owned());
            }
        }
    }
    let seconds = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
    Ok(Said {
        names,
        serial: certificate.raw_serial_as_string(),
        subject: certificate.subject().to_string(),
        issuer: common_name(certificate.issuer()).unwrap_or_else(|| certificate.issuer().to_string()),
        key_algorithm: key_algorithm(&certificate),
        signature_algorithm: signature_algorithm(&certificate),
        not_before: seconds(certificate.validity().not_before.timestamp()),
        not_after: seconds(certificate.validity().not_after.timestamp()),
    })
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let first = name.iter_common_name().next()?;
    first.as_str().ok().map(str::to_owned)
}

fn key_algorithm(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA_{}", key.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            384 => "EC_secp384r1".to_owned(),
            521 | 528 => "EC_secp521r1".to_owned(),
            _ => "EC_prime256v1".to_owned(),
        },
        _ => certificate.public_key().algorithm.algorithm.to_id_string(),
    }
}

fn signature_algorithm(certificate: &X509Certificate<'_>) -> String {
    let id = certificate.signature_algorithm.algorithm.to_id_string();
    let known = match id.as_str() {
        "1.2.840.113549.1.1.11" => "SHA256WITHRSA",
        "1.2.840.113549.1.1.12" => "SHA384WITHRSA",
        "1.2.840.113549.1.1.13" => "SHA512WITHRSA",
        "1.2.840.10045.4.3.2" => "SHA256WITHECDSA",
        "1.2.840.10045.4.3.3" => "SHA384WITHECDSA",
        "1.2.840.10045.4.3.4" => "SHA512WITHECDSA",
        _ => return id,
    };
    known.to_owned()
}
