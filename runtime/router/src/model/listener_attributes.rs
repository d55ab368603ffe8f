//! What the attributes of a listener change about requests and answers.
//!
//! | attribute | here |
//! |---|---|
//! | `routing.http.request.NAME.header_name` | targets see the router's header `NAME` under the name given |
//! | `routing.http.response.NAME.header_value` | every answer has the header `NAME` with the value given |
//!
//! In `NAME` underscores stand for hyphens. `routing.http.response.server.enabled` changes nothing: the router adds
//! no `Server` of its own. What can't be used is passed over: whoever takes attributes from a client checks them.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{claims_tls, is_reserved};

/// The attributes of a listener. By default nothing is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerAttributes {
    /// Headers that tell of a client's TLS, by which the router calls them, and what targets see them as.
    pub request_names: Vec<(HeaderName, HeaderName)>,
    /// Headers of every answer, whatever the target said.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
}

impl ListenerAttributes {
    /// Reads attributes as ELBv2 has them, by key and value.
    pub fn parse<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut read = Self::default();
        for (key, value) in attributes.into_iter().filter(|(_, value)| !value.is_empty()) {
            if let Some(name) = name(key, "routing.http.request.", ".header_name")
                && claims_tls(name.as_str())
                && let Ok(other) = HeaderName::try_from(value)
                && other != name
                && !is_reserved(&other)
            {
                read.request_names.push((name, other));
            } else if let Some(name) = name(key, "routing.http.response.", ".header_value")
                && let Ok(value) = HeaderValue::try_from(value)
                && !is_reserved(&name)
            {
                read.response_headers.push((name, value));
            }
        }
        read
    }

    /// Whether nothing is changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.request_names.is_empty() && self.response_headers.is_empty()
    }

    /// Gives headers the names targets expect. What a client sent under these names is taken off.
    pub(crate) fn rename(&self, headers: &mut HeaderMap) {
        for (_, to) in &self.request_names {
            headers.remove(to);
        }
        for (from, to) in &self.request_names {
            if let Some(value) = headers.remove(from) {
                headers.insert(to, value);
            }
        }
    }

    /// Puts the headers on an answer.
    pub(crate) fn answer(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.response_headers {
            headers.insert(name, value.clone());
        }
    }
}

/// The header a key is about.
fn name(key: &str, before: &str, after: &str) -> Option<HeaderName> {
    let name = key.strip_prefix(before)?.strip_suffix(after)?;
    HeaderName::try_from(name.replace('_', "-")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_elbv2_has_them() {
        let read = ListenerAttributes::parse([
            ("routing.http.request.x_amzn_tls_version.header_name", "X-Tls"),
            ("routing.http.request.x_amzn_tls_cipher_suite.header_name", "X-Amzn-Tls-Cipher-Suite"),
            ("routing.http.request.x_amzn_mtls_clientcert.header_name", "Content-Length"),
            ("routing.http.request.cookie.header_name", "X-Cookie"),
            ("routing.http.response.x_frame_options.header_value", "DENY"),
            ("routing.http.response.access_control_max_age.header_value", ""),
            ("routing.http.response.transfer_encoding.header_value", "chunked"),
            ("routing.http.response.server.enabled", "false"),
        ]);
        let expected = ListenerAttributes {
            request_names: vec![(
                HeaderName::from_static("x-amzn-tls-version"),
                HeaderName::from_static("x-tls"),
            )],
            response_headers: vec![(
                HeaderName::from_static("x-frame-options"),
                HeaderValue::from_static("DENY"),
            )],
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn names_can_not_be_forged() {
        let attributes = ListenerAttributes::parse([(
            "routing.http.request.x_amzn_mtls_clientcert_subject.header_name",
            "X-Subject",
        )]);
        let mut headers = HeaderMap::new();
        headers.insert("x-subject", HeaderValue::from_static("CN=admin"));
        attributes.rename(&mut headers);
        assert!(headers.is_empty());
        headers.insert("x-amzn-mtls-clientcert-subject", HeaderValue::from_static("CN=client"));
        headers.append("x-subject", HeaderValue::from_static("CN=admin"));
        attributes.rename(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-subject"], "CN=client");
    }
}
