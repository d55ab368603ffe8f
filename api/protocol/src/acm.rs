//! AWS Certificate Manager, as far as certificates are imported for HTTPS listeners.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_types::elb::{Certificate, CertificateId};
use coracle_types::{AccountId, Tags, Timestamp};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;
use crate::shape::{Shape, shape};

/// What `X-Amz-Target` begins with.
pub const TARGET_PREFIX: &str = "CertificateManager";

/// The longest certificate, chain or key, in bytes of PEM (ACM's chain has 2 MiB; nobody's is so long).
const PEM_BYTES_MAX: usize = 256 * 1024;

macro_rules! actions {
    ($($name:ident $shape:tt)*) => {
        const ACTIONS: &[(&str, Shape)] = &[$((stringify!($name), shape!($shape)),)*];
    };
}

const TAGS: Shape = shape!([{ Key: text, Value: text }]);

actions! {
    ImportCertificate {
        CertificateArn: text, Certificate: text, PrivateKey: text, CertificateChain: text, Tags: TAGS,
    }
    DescribeCertificate { CertificateArn: text }
    GetCertificate { CertificateArn: text }
    ListCertificates { CertificateStatuses: [text], NextToken: text, MaxItems: int }
    DeleteCertificate { CertificateArn: text }
    AddTagsToCertificate { CertificateArn: text, Tags: TAGS }
    RemoveTagsFromCertificate { CertificateArn: text, Tags: TAGS }
    ListTagsForCertificate { CertificateArn: text }
}

/// The shape of the request of an action; None for one that is not answered here.
#[must_use]
pub fn input(operation: &str) -> Option<&'static Shape> {
    ACTIONS.iter().find(|(name, _)| *name == operation).map(|(_, shape)| shape)
}

/// ImportCertificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportCertificate {
    /// The certificate to replace; None for a new one.
    pub id: Option<CertificateId>,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub private_key: String,
    /// PEM.
    pub chain: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

impl ImportCertificate {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, or is no text in base64.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let mut pem = |name: &str| -> Result<Option<String>, ApiError> {
            let Some(text) = members.text(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
            if text.len() > PEM_BYTES_MAX * 2 {
                return Err(members.invalid(name, format_args!("it is longer than {PEM_BYTES_MAX} bytes")));
            }
            let bytes = STANDARD.decode(text.trim()).ok();
            let pem = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            pem.filter(|pem| pem.contains("-----BEGIN"))
                .map(Some)
                .ok_or_else(|| members.invalid(name, "PEM is expected, sent as a blob (base64 in JSON)"))
        };
        let certificate = pem("Certificate")?;
        let private_key = pem("PrivateKey")?;
        let chain = pem("CertificateChain")?;
        Ok(Self {
            id: take_optional(&mut members)?,
            certificate: certificate.ok_or_else(|| members.missing("Certificate"))?,
            private_key: private_key.ok_or_else(|| members.missing("PrivateKey"))?,
            chain,
            tags: crate::elb::take_tags(&mut members)?,
        })
    }
}

fn take_optional(members: &mut Members) -> Result<Option<CertificateId>, ApiError> {
    match members.text("CertificateArn")?.filter(|arn| !arn.is_empty()) {
        None => Ok(None),
        Some(arn) => arn.parse().map(Some).map_err(|_| {
            let shown: String = arn.chars().take(200).collect();
            ApiError::Named {
                code: "InvalidArnException",
                message: format!("'{shown}' is not a certificate's ARN"),
            }
        }),
    }
}

/// Takes `CertificateArn`.
///
/// # Errors
/// When it is missing, or is none.
pub fn take_id(members: &mut Members) -> Result<CertificateId, ApiError> {
    take_optional(members)?.ok_or_else(|| members.missing("CertificateArn"))
}

/// Takes `NextToken` and `MaxItems`.
///
/// # Errors
/// When one is of the wrong type or out of range.
pub fn take_page(members: &mut Members) -> Result<PageRequest, ApiError> {
    let limit = members.integer_in("MaxItems", 1..=1000)?.unwrap_or(100);
    Ok(PageRequest { limit: limit as usize, token: members.text("NextToken")? })
}

fn status(certificate: &Certificate, now: Timestamp) -> &'static str {
    if now > certificate.not_after { "EXPIRED" } else { "ISSUED" }
}

/// A certificate as DescribeCertificate answers it, with the load balancers that use it.
#[must_use]
pub fn describe(
    certificate: &Certificate,
    account: AccountId,
    now: Timestamp,
    in_use_by: impl IntoIterator<Item = String>,
) -> Value {
    let detail = Object::new()
        .with("CertificateArn", certificate.id.arn(account))
        .with("DomainName", certificate.names.first().map_or("", String::as_str))
        .with("SubjectAlternativeNames", list(certificate.names.iter().map(String::as_str)))
        .with("Serial", certificate.serial.as_str())
        .with("Subject", certificate.subject.as_str())
        .with("Issuer", certificate.issuer.as_str())
        .time("ImportedAt", Some(certificate.imported_at))
        .time("CreatedAt", Some(certificate.imported_at))
        .with("Status", status(certificate, now))
        .time("NotBefore", Some(certificate.not_before))
        .time("NotAfter", Some(certificate.not_after))
        .with("KeyAlgorithm", certificate.key_algorithm.as_str())
        .with("SignatureAlgorithm", certificate.signature_algorithm.as_str())
        .with("InUseBy", list(in_use_by))
        .with("Type", "IMPORTED")
        .with("RenewalEligibility", "INELIGIBLE")
        .with("Options", Object::new().with("CertificateTransparencyLoggingPreference", "DISABLED"));
    Object::new().with("Certificate", detail).into()
}

/// A certificate as ListCertificates answers it.
#[must_use]
pub fn summary(certificate: &Certificate, account: AccountId, now: Timestamp, in_use: bool) -> Value {
    Object::new()
        .with("CertificateArn", certificate.id.arn(account))
        .with("DomainName", certificate.names.first().map_or("", String::as_str))
        .with("SubjectAlternativeNameSummaries", list(certificate.names.iter().map(String::as_str)))
        .with("HasAdditionalSubjectAlternativeNames", false)
        .with("Status", status(certificate, now))
        .with("Type", "IMPORTED")
        .with("KeyAlgorithm", certificate.key_algorithm.as_str())
        .with("InUse", in_use)
        .with("RenewalEligibility", "INELIGIBLE")
        .time("NotBefore", Some(certificate.not_before))
        .time("NotAfter", Some(certificate.not_after))
        .time("CreatedAt", Some(certificate.imported_at))
        .time("ImportedAt", Some(certificate.imported_at))
        .into()
}
