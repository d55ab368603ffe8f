//! Client tokens: a request that is sent again is the same request.

use coracle_protocol::ApiError;
use coracle_types::{Changes, Region, State, Timestamp, TokenId, TokenRecord};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A digest of a request's parameters, whatever order they came in.
pub(super) struct Fingerprint {
    digest: String,
    /// The size of the parameters as JSON.
    pub(super) bytes: usize,
}

/// The fingerprint of a request's body.
pub(super) fn fingerprint(body: &Value) -> Fingerprint {
    let mut text = String::new();
    write_sorted(body, &mut text);
    Fingerprint { digest: hex::encode(Sha256::digest(text.as_bytes())), bytes: text.len() }
}

/// Writes JSON with the members of every object in the order of their names.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                write_sorted(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// A request's token, before and after it has made something.
pub(super) struct Token<'a> {
    id: TokenId,
    fingerprint: &'a Fingerprint,
}

impl<'a> Token<'a> {
    /// The token of a request, if it has one.
    pub(super) fn of(
        region: &Region,
        operation: &str,
        token: Option<&String>,
        fingerprint: &'a Fingerprint,
    ) -> Option<Self> {
        let id = TokenId { region: region.clone(), operation: operation.to_owned(), token: token?.clone() };
        Some(Self { id, fingerprint })
    }

    /// What an earlier request with this token made; None when this is the first.
    ///
    /// # Errors
    /// `ConflictException` when that one had other parameters.
    pub(super) fn made(&self, state: &State) -> Result<Option<Vec<String>>, ApiError> {
        let Some(found) = state.tokens.get(&self.id) else { return Ok(None) };
        let record = &found.value;
        if record.fingerprint == self.fingerprint.digest {
            return Ok(Some(record.made.clone()));
        }
        Err(ApiError::Conflict {
            message: format!(
                "The client token {:?} was used before, in a request with other parameters.",
                self.id.token
            ),
            resource_ids: record.made.clone(),
        })
    }

    /// Notes what this request made.
    pub(super) fn record(&self, changes: &mut Changes, made: Vec<String>, now: Timestamp) {
        changes.put(TokenRecord {
            id: self.id.clone(),
            fingerprint: self.fingerprint.digest.clone(),
            made,
            at: now,
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_members_does_not_count() {
        let one: Value = serde_json::from_str(r#"{"a": [1, {"x": 1, "y": "\u00e9"}], "b": 2}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"b": 2, "a": [1, {"y": "\u00e9", "x": 1}]}"#).unwrap();
        assert_eq!(fingerprint(&one).digest, fingerprint(&other).digest);
        assert_eq!(fingerprint(&one).bytes, one.to_string().len());
        assert_ne!(
            fingerprint(&one).digest,
            fingerprint(&json!({"a": [{"x": 1, "y": "\u{e9}"}, 1], "b": 2})).digest
        );
    }
}
