//! How a node gets at the values its tasks name in `secrets`.

use std::fmt;
use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_store::Store;
use coracle_types::Region;
use serde_json::Value;

use super::{manager, parameters};
use crate::api::Clock;
use crate::seal::Sealer;

/// Reads secrets and parameters in the clear, for tasks.
#[derive(Clone)]
pub struct SecretReader {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    clock: Clock,
}

/// Why a value can't be had, as ECS says it behind "ResourceInitializationError: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError(String);

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretError {}

/// What `valueFrom` of a secret in Secrets Manager names.
#[derive(Debug, PartialEq, Eq)]
struct SecretReference<'a> {
    region: &'a str,
    /// The ARN up to the secret's name.
    arn: String,
    /// The member of the JSON object that the secret is.
    json_key: Option<&'a str>,
    stage: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> SecretReference<'a> {
    /// `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON-KEY[:STAGE[:VERSION]]]`, any of the last three empty.
    fn parse(value_from: &'a str) -> Option<Self> {
        let parts: Vec<&str> = value_from.split(':').collect();
        let ["arn", _, "secretsmanager", region, _, "secret", name, rest @ ..] = parts.as_slice() else {
            return None;
        };
        let at = |position: usize| rest.get(position).copied().filter(|text| !text.is_empty());
        (rest.len() <= 3 && !name.is_empty()).then(|| Self {
            region,
            arn: parts[..7].join(":"),
            json_key: at(0),
            stage: at(1),
            version: at(2),
        })
    }
}

impl SecretReader {
    /// Reads from this store, with this key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, sealer: Arc<Sealer>, clock: Clock) -> Self {
        Self { store, sealer, clock }
    }

    /// The value that `valueFrom` names: a secret's ARN, a parameter's ARN, or the name of a parameter in `region`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(&self, region: &Region, value_from: &str) -> Result<String, SecretError> {
        if let Some(reference) = SecretReference::parse(value_from) {
            return self.secret(&reference).map_err(|reason| {
                SecretError(format!(
                    "unable to pull secrets or registry auth: execution resource retrieval failed: unable to \
                     retrieve secret from asm: service call has been retried 1 time(s): {reason}"
                ))
            });
        }
        let region = match value_from.strip_prefix("arn:") {
            Some(rest) => rest.split(':').nth(2).and_then(|region| region.parse().ok()),
            None => Some(region.clone()),
        };
        let state = self.store.snapshot();
        let found = region.ok_or_else(|| "the ARN names no region".to_owned()).and_then(|region| {
            parameters::read(&state, &self.sealer, &region, value_from).map_err(|error| match error {
                ApiError::Named { code: "ParameterNotFound" | "ParameterVersionNotFound", .. } => {
                    format!("invalid ssm parameters: {value_from}")
                }
                other => other.to_string(),
            })
        });
        found.map_err(|reason| {
            SecretError(format!(
                "unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve \
                 secrets from ssm: service call has been retried 1 time(s): {reason}"
            ))
        })
    }

    fn secret(&self, reference: &SecretReference<'_>) -> Result<String, String> {
        let explain = |error: ApiError| {
            let code = error.row().json;
            format!("failed to fetch secret {} from secrets manager: {code}: {error}", reference.arn)
        };
        let region: Region =
            reference.region.parse().map_err(|error: coracle_types::IdError| error.to_string())?;
        let state = self.store.snapshot();
        let now = (self.clock)();
        let found = manager::lookup(&state, &region, &reference.arn, now);
        // A definition written for AWS carries the six characters that AWS gave its secret.
        let written_elsewhere = || {
            let (plain, suffix) = reference.arn.rsplit_once('-')?;
            (suffix.len() == 6).then(|| manager::lookup(&state, &region, plain, now)).flatten()
        };
        let secret = found.or_else(written_elsewhere).filter(|secret| secret.deleted.is_none());
        let secret = secret.ok_or_else(|| {
            explain(ApiError::ResourceNotFound("Secrets Manager can't find the specified secret.".to_owned()))
        })?;
        let version = manager::version_of(secret, reference.version, reference.stage).map_err(explain)?;
        let bytes = manager::open(&self.sealer, secret, version).map_err(explain)?;
        let Some(key) = reference.json_key else {
            return String::from_utf8(bytes)
                .map_err(|_| format!("secret {} is binary and not UTF-8", reference.arn));
        };
        let members: Value = serde_json::from_slice(&bytes).map_err(|_| {
            format!("secret {} is not a JSON object, and {key:?} of it is wanted", reference.arn)
        })?;
        match members.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) | None => {
                Err(format!("retrieved secret from Secrets Manager did not contain json key {key}"))
            }
            Some(other) => Ok(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let arn = "arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf";
        let parse = |text: &str| {
            SecretReference::parse(text).map(|found| {
                let own = |part: Option<&str>| part.map(str::to_owned);
                (found.arn.clone(), own(found.json_key), own(found.stage), own(found.version))
            })
        };
        assert_eq!(parse(arn), Some((arn.to_owned(), None, None, None)));
        assert_eq!(
            parse(&format!("{arn}:password::")),
            Some((arn.to_owned(), Some("password".to_owned()), None, None))
        );
        assert_eq!(
            parse(&format!("{arn}::AWSPREVIOUS:")),
            Some((arn.to_owned(), None, Some("AWSPREVIOUS".to_owned()), None))
        );
        assert_eq!(parse(&format!("{arn}:a:b:c:d")), None);
        assert_eq!(parse("arn:aws:ssm:us-east-1:1:parameter/x"), None);
        assert_eq!(parse("/x"), None);
    }
}
