//! The canonical form of a request: what both sides compute the signature of.

use std::fmt::Write as _;

use coracle_protocol::ApiError;
use http::request::Parts;

use super::Signature;
use coracle_protocol::query::percent_decoded;

/// The canonical request, with the digest of its payload.
///
/// # Errors
/// When a signed header is not there.
pub(super) fn request(signature: &Signature, parts: &Parts, payload: &str) -> Result<String, ApiError> {
    let mut text = format!("{}\n{}\n", parts.method, path(parts.uri.path()));
    text.push_str(&query(parts.uri.query().unwrap_or_default()));
    text.push('\n');
    for name in &signature.signed_headers {
        let value = header(parts, name).ok_or_else(|| {
            ApiError::InvalidSignature(format!("the signed header {name:?} is not in the request"))
        })?;
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{}\n{payload}", signature.signed_headers.join(";"));
    Ok(text)
}

/// All values of a header, each without outer and repeated spaces. The host may have come as the
/// request's authority instead.
fn header(parts: &Parts, name: &str) -> Option<String> {
    let mut values = parts.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return (name == "host").then(|| parts.uri.authority().map(ToString::to_string)).flatten();
    }
    let each: Option<Vec<String>> = values
        .map(|value| Some(value.to_str().ok()?.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    Some(each?.join(","))
}

/// The path, encoded once more: services other than S3 sign the encoded path as if it were a name.
fn path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            encoded.push('/');
        }
        encode(segment.as_bytes(), &mut encoded);
    }
    if encoded.is_empty() { "/".to_owned() } else { encoded }
}

/// The query, decoded and encoded again in the one way that counts, in order, without the signature.
fn query(query: &str) -> String {
    let canonical = |text: &str| {
        let mut encoded = String::with_capacity(text.len());
        encode(&percent_decoded(text), &mut encoded);
        encoded
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (canonical(name), canonical(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn encode(bytes: &[u8], into: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_have_one_form() {
        assert_eq!(path("/"), "/");
        assert_eq!(path("/some/pre%20fix"), "/some/pre%2520fix");
        assert_eq!(query("b=2&a=x/y&a=1&X-Amz-Signature=abc&c"), "a=1&a=x%2Fy&b=2&c=");
    }
}
