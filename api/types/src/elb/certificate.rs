//! Certificates of HTTPS listeners.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::ids::{IdError, Region};
use crate::tags::Tags;
use crate::time::Timestamp;

/// A certificate. Its ARN is `arn:aws:acm:REGION:ACCOUNT:certificate/UUID`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CertificateId {
    /// The region it belongs to.
    pub region: Region,
    /// The UUID at the end of its ARN.
    pub uuid: String,
}

impl CertificateId {
    /// Its ARN in `account`.
    #[must_use]
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:acm:{}:{account}:certificate/{}", self.region, self.uuid)
    }
}

impl FromStr for CertificateId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error =
            || IdError::new("certificate ARN", text, "arn:aws:acm:REGION:ACCOUNT:certificate/ID is expected");
        let mut parts = text.splitn(6, ':');
        let (Some("arn"), Some(_), Some("acm"), Some(region), Some(_), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        let uuid = rest.strip_prefix("certificate/").ok_or_else(error)?;
        let plain = uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if uuid.len() != 36 || !plain {
            return Err(error());
        }
        Ok(Self { region: region.parse()?, uuid: uuid.to_owned() })
    }
}

/// A private key, encrypted with a key that is not in the store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey(pub String);

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKey({} characters)", self.0.len())
    }
}

/// An imported certificate with its private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its region and UUID.
    pub id: CertificateId,
    /// The certificate, PEM.
    pub certificate: String,
    /// The certificates between it and its root, PEM.
    #[serde(default)]
    pub chain: Option<String>,
    /// Its private key.
    pub private_key: SealedKey,
    /// The names it is for; the first is `DomainName`.
    #[serde(default)]
    pub names: Vec<String>,
    /// Its serial number, as pairs of hexadecimal digits with colons.
    pub serial: String,
    /// Whom it is for, as a distinguished name.
    pub subject: String,
    /// Who issued it, as a common name.
    pub issuer: String,
    /// `RSA_2048`, `EC_prime256v1` and the like.
    pub key_algorithm: String,
    /// `SHA256WITHRSA` and the like.
    pub signature_algorithm: String,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when it is good.
    pub not_after: Timestamp,
    /// When it was last imported.
    pub imported_at: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}
