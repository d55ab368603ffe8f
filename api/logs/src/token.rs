//! Pagination tokens: opaque to clients, and refused when they don't belong to the question asked.
//!
//! A token holds where to go on and a fingerprint of the question. It is not signed: the question itself
//! decides what may be read, a forged token only chooses where to begin.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::LogsError;
use crate::keys::Position;

/// Longer than any token of ours: a stream's name of 512 bytes and two numbers, in base64.
const TOKEN_BYTES_MAX: usize = 1024;

/// What a token belongs to: an FNV-1a hash over the operation and the parameters that must not change
/// between pages. Each part is preceded by its length, so that moving text between parts changes the hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new(operation: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).with(operation.as_bytes())
    }

    pub(crate) fn with(self, part: &[u8]) -> Self {
        let length = u64::try_from(part.len()).expect("usize is at most 64 bits").to_be_bytes();
        let hash = |state: u64, &byte: &u8| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(length.iter().chain(part).fold(self.0, hash))
    }

    pub(crate) fn with_number(self, number: Option<i64>) -> Self {
        match number {
            None => self.with(&[]),
            Some(number) => self.with(&number.to_be_bytes()),
        }
    }

    pub(crate) fn with_text(self, text: Option<&str>) -> Self {
        match text {
            None => self.with(&[0]),
            Some(text) => self.with(&[1]).with(text.as_bytes()),
        }
    }
}

pub(crate) fn encode(fingerprint: Fingerprint, payload: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&fingerprint.0.to_be_bytes(), payload].concat())
}

/// The payload of a token given for this question.
pub(crate) fn decode(parameter: &str, token: &str, fingerprint: Fingerprint) -> Result<Vec<u8>, LogsError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(invalid(parameter));
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid(parameter))?;
    match bytes.split_first_chunk() {
        Some((start, payload)) if u64::from_be_bytes(*start) == fingerprint.0 => Ok(payload.to_vec()),
        _ => Err(invalid(parameter)),
    }
}

pub(crate) fn decode_position(
    parameter: &str,
    token: &str,
    fingerprint: Fingerprint,
) -> Result<Position, LogsError> {
    let payload = decode(parameter, token, fingerprint)?;
    payload.try_into().map(Position::from_bytes).map_err(|_| invalid(parameter))
}

/// AWS's text.
pub(crate) fn invalid(parameter: &str) -> LogsError {
    LogsError::InvalidParameter(format!("The specified {parameter} is invalid."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_question() {
        let mine = Fingerprint::new("op").with_text(Some("group")).with_number(Some(3));
        let token = encode(mine, b"here");
        assert_eq!(decode("nextToken", &token, mine).unwrap(), b"here");
        for other in [
            Fingerprint::new("op").with_text(Some("group")),
            Fingerprint::new("op").with_text(Some("grou")).with_number(Some(3)),
            Fingerprint::new("op").with_text(None).with_number(Some(3)),
        ] {
            decode("nextToken", &token, other).unwrap_err();
        }
        for bad in ["", "%", "AAAA", &"A".repeat(5000), &token[1..]] {
            let error = decode("nextToken", bad, mine).unwrap_err();
            assert_eq!(error.to_string(), "The specified nextToken is invalid.");
        }
        decode_position("nextToken", &token, mine).unwrap_err();
    }

    #[test]
    fn moving_text_between_parts_changes_the_fingerprint() {
        let of = |a: &str, b: &str| Fingerprint::new("op").with(a.as_bytes()).with(b.as_bytes()).0;
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
