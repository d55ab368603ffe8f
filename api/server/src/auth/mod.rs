//! Who sends a request, and whether they may.
//!
//! [`identify`] finds the access key of the Signature Version 4 a request carries, in the header or in the
//! presigned form, and computes the signature anew from the request as it came; [`authorize`] asks the
//! policies of the identity behind the key. The region a request is for is the one its signature is for,
//! whether the signature is checked or not.
//!
//! Three kinds of keys: those of the configuration are the account's root; those of IAM users are in the
//! state, sealed; temporary ones carry all there is to know in their session token.

mod authorize;
mod cache;
mod canonical;
pub(crate) mod condition;
mod credential;
mod date;
pub(crate) mod egress;
mod glob;
pub(crate) mod managed;
pub(crate) mod policy;
mod principal;
mod resources;
mod session;
#[cfg(test)]
mod tests;

use std::time::{Duration, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use coracle_protocol::ApiError;
use coracle_types::{State, Timestamp};
use http::request::Parts;
use sha2::{Digest as _, Sha256};

pub(crate) use self::authorize::{authorize, authorize_own, simulate};
pub(crate) use self::cache::PolicyCache;
pub(crate) use self::credential::Signature;
use self::principal::Credentials;
pub(crate) use self::principal::{Principal, SessionName, seal_secret};
pub(crate) use self::session::{Session, Subject};
use crate::seal::Sealer;

/// How far a request's date may be from ours.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// The longest a presigned request may say it is good for: 7 days.
const EXPIRES_MAX_S: u64 = 7 * 24 * 3600;

/// Who holds the key that signed a request; a reason to refuse before the body is read. What is returned
/// checks the signature once the body is there.
///
/// # Errors
/// When the request has no signature, or one by a key that is unknown, inactive or expired.
pub(crate) fn identify(
    configured: &[(String, String)],
    state: &State,
    sealer: &Sealer,
    parts: &Parts,
    now: Timestamp,
) -> Result<Claim, ApiError> {
    let signature = Signature::of(parts)?.ok_or(ApiError::MissingAuthenticationToken)?;
    let credentials = principal::credentials(configured, state, sealer, &signature, now)?;
    Ok(Claim { signature, credentials, now })
}

/// A request that says it comes from a principal.
pub(crate) struct Claim {
    signature: Signature,
    credentials: Credentials,
    now: Timestamp,
}

impl Claim {
    /// The principal, if the request was signed with its secret and is still as it was signed.
    ///
    /// # Errors
    /// What is wrong with the signature.
    pub(crate) fn verify(self, parts: &Parts, body: &[u8]) -> Result<(Principal, Signature), ApiError> {
        check(&self.credentials.secret, &self.signature, parts, body, self.now)?;
        Ok((self.credentials.principal, self.signature))
    }
}

/// Checks that the request was signed with `secret`, lately, and is still as it was signed.
///
/// # Errors
/// What is wrong with the signature, with the name AWS has for it.
fn check(
    secret: &str,
    signature: &Signature,
    parts: &Parts,
    body: &[u8],
    now: Timestamp,
) -> Result<(), ApiError> {
    let signed_at = signature.signed_at()?;
    check_time(signature, signed_at, now)?;
    check_signed_headers(signature, parts)?;
    let payload = payload_hash(signature, parts, body)?;
    let canonical = canonical::request(signature, parts, &payload)?;
    let scope = format!("{}/{}/{}/aws4_request", signature.date, signature.region, signature.service);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        signature.time,
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let seconds = u64::try_from(signed_at.as_millis() / 1000).unwrap_or(0);
    let key = generate_signing_key(
        secret,
        UNIX_EPOCH + Duration::from_secs(seconds),
        &signature.region,
        &signature.service,
    );
    let expected = calculate_signature(key, to_sign.as_bytes());
    if same(expected.as_bytes(), signature.signature.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::InvalidSignature(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details."
            .to_owned(),
    ))
}

/// What has to be signed is, and nothing twice: repeated names would make a canonical request of any size out
/// of a small one.
fn check_signed_headers(signature: &Signature, parts: &Parts) -> Result<(), ApiError> {
    let signed = &signature.signed_headers;
    let is_signed = |header: &str| signed.iter().any(|name| name == header);
    if !is_signed("host") {
        return Err(ApiError::InvalidSignature("the host header must be signed".to_owned()));
    }
    // It says what to do: with a presigned GetCallerIdentity, which people hand out to prove who they are,
    // somebody else could do anything.
    for header in ["x-amz-target", "x-amz-security-token"] {
        if parts.headers.contains_key(header) && !is_signed(header) {
            return Err(ApiError::InvalidSignature(format!("the {header} header must be signed")));
        }
    }
    let mut names: Vec<&str> = signed.iter().map(String::as_str).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let name: String = pair[0].chars().take(100).collect();
            Err(ApiError::InvalidSignature(format!("the header {name:?} is signed more than once")))
        }
        None => Ok(()),
    }
}

fn check_time(signature: &Signature, signed_at: Timestamp, now: Timestamp) -> Result<(), ApiError> {
    let shown = &signature.time;
    if signed_at.since(now) > SKEW {
        return Err(ApiError::InvalidSignature(format!(
            "Signature not yet current: {shown} is more than 15 minutes later than this machine's clock"
        )));
    }
    let good_for = match signature.expires_s {
        None => SKEW,
        Some(seconds) if (1..=EXPIRES_MAX_S).contains(&seconds) => Duration::from_secs(seconds),
        Some(_) => {
            return Err(ApiError::InvalidSignature(
                "X-Amz-Expires must be between 1 and 604800 seconds".to_owned(),
            ));
        }
    };
    if now.since(signed_at) > good_for {
        return Err(ApiError::InvalidSignature(format!(
            "Signature expired: {shown} is more than {} seconds earlier than this machine's clock",
            good_for.as_secs()
        )));
    }
    Ok(())
}

/// The digest of the body that was signed: the body's own, unless the client says, in a header that
/// is itself signed, that it left the body out.
fn payload_hash(signature: &Signature, parts: &Parts, body: &[u8]) -> Result<String, ApiError> {
    let said = parts.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    let is_signed = signature.signed_headers.iter().any(|name| name == "x-amz-content-sha256");
    let actual = hex::encode(Sha256::digest(body));
    match said {
        Some("UNSIGNED-PAYLOAD") if is_signed => Ok("UNSIGNED-PAYLOAD".to_owned()),
        Some(said) if is_signed && said != actual => Err(ApiError::InvalidSignature(
            "The provided x-amz-content-sha256 header does not match what was computed.".to_owned(),
        )),
        _ => Ok(actual),
    }
}

/// Whether two texts are the same, in a time that depends on their lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && std::hint::black_box(differences) == 0
}
