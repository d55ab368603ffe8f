//! What a target is told about the client, and what it must not be told by the client.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::address::SERVICE_HEADER;
use crate::framing::drop_invalid_fields;
use crate::headers::{Scan, UpgradeTo, claims_tls, strip_hop_by_hop};
use crate::load_balancer::{ForwardedFor, LoadBalancerAttributes};
use crate::trace;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const TLS_VERSION: HeaderName = HeaderName::from_static("x-amzn-tls-version");
const TLS_CIPHER: HeaderName = HeaderName::from_static("x-amzn-tls-cipher-suite");

/// Bytes of the longest name of a host (RFC 1035, 2.3.4). A head may have more, which is not kept for the connection.
const LONGEST_NAME: usize = 255;

/// What a connection adds to each of its requests, made once.
#[derive(Debug)]
pub(crate) struct Forwarded {
    client: HeaderValue,
    /// The client's address with its port.
    client_and_port: HeaderValue,
    scheme: &'static str,
    port: u16,
    port_value: HeaderValue,
    /// The host of the last request without a port, and the same with the listener's: a client mostly asks for one.
    completed_host: Mutex<Option<(HeaderValue, HeaderValue)>>,
}

/// What is known of a client by its TLS, as targets are told.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    pub(crate) version: HeaderValue,
    pub(crate) cipher: HeaderValue,
    /// `X-Amzn-Mtls-*`.
    pub(crate) certificate: Vec<(HeaderName, HeaderValue)>,
}

impl Forwarded {
    /// `scheme` is `http` or `https`.
    pub(crate) fn new(client: SocketAddr, port: u16, scheme: &'static str) -> Self {
        let printed = |text: String| {
            HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an address is printable")
        };
        // A client that reached a dual-stack listener over IPv4 is known by its IPv4 address.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Self {
            client: printed(client.ip().to_string()),
            client_and_port: printed(client.to_string()),
            scheme,
            port,
            port_value: HeaderValue::from(port),
            completed_host: Mutex::new(None),
        }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Turns the headers a client sent into those a target sees.
    pub(crate) fn apply(
        &self,
        headers: &mut HeaderMap,
        scan: Scan,
        attributes: &LoadBalancerAttributes,
        tls: Option<&ClientTls>,
    ) {
        if attributes.drop_invalid_fields {
            drop_invalid_fields(headers);
        }
        if scan.hop_by_hop {
            strip_hop_by_hop(headers);
        }
        if scan.upgrade == UpgradeTo::WebSocket {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if scan.service_headers > 0 {
            headers.remove(SERVICE_HEADER);
        }
        if scan.forwarded && !attributes.trust_forwarded {
            headers.remove(header::FORWARDED);
        }
        if scan.claims_tls {
            remove_tls_claims(headers);
        }
        if scan.cookies > 1 {
            join_cookies(headers);
        }
        if !attributes.preserve_host {
            self.complete_host(headers);
        }
        headers.reserve(5);
        self.set_forwarded_for(headers, scan, attributes);
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
        headers.insert(FORWARDED_PORT, self.port_value.clone());
        // A client may have had its own ids taken off, by listing them in `Connection`.
        let is_left = |had: bool, name: &str| had && (!scan.hop_by_hop || headers.contains_key(name));
        let has_trace_id = is_left(scan.trace_id, "x-amzn-trace-id");
        let has_traceparent = is_left(scan.traceparent, "traceparent");
        trace::apply(headers, has_trace_id, has_traceparent);
        if let Some(tls) = tls {
            if attributes.tells_tls {
                headers.insert(TLS_VERSION, tls.version.clone());
                headers.insert(TLS_CIPHER, tls.cipher.clone());
            }
            for (name, value) in &tls.certificate {
                headers.insert(name, value.clone());
            }
        }
    }

    fn set_forwarded_for(&self, headers: &mut HeaderMap, scan: Scan, attributes: &LoadBalancerAttributes) {
        match attributes.forwarded_for {
            ForwardedFor::Append => {
                let client = if attributes.forwarded_for_port { &self.client_and_port } else { &self.client };
                let chain = if scan.forwarded_for { append(headers, client) } else { client.clone() };
                headers.insert(FORWARDED_FOR, chain);
            }
            ForwardedFor::Preserve => {}
            ForwardedFor::Remove if scan.forwarded_for => {
                headers.remove(FORWARDED_FOR);
            }
            ForwardedFor::Remove => {}
        }
    }

    /// The listener's port behind a host that has none, as a load balancer shows it to targets. The default
    /// port of a scheme is left out.
    fn complete_host(&self, headers: &mut HeaderMap) {
        if self.port == 80 || self.port == 443 {
            return;
        }
        let Some(host) = headers.get(header::HOST) else { return };
        let completed = match &mut *self.completed_host.lock() {
            Some((last, completed)) if last == host => completed.clone(),
            last => {
                let Some(completed) = self.with_port(host) else { return };
                if host.len() <= LONGEST_NAME {
                    // A copy: the host itself would keep the head that it is a part of.
                    let host = HeaderValue::from_bytes(host.as_bytes());
                    *last = host.ok().map(|host| (host, completed.clone()));
                }
                completed
            }
        };
        headers.insert(header::HOST, completed);
    }

    /// A host with the listener's port; nothing if it has one already.
    fn with_port(&self, host: &HeaderValue) -> Option<HeaderValue> {
        let host = host.to_str().ok()?;
        let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        if host.is_empty() || after_brackets.contains(':') {
            return None;
        }
        let completed = [host.as_bytes(), b":", self.port_value.as_bytes()].concat();
        HeaderValue::from_maybe_shared(Bytes::from(completed)).ok()
    }
}

/// The chain of clients the request has come through so far, and ours. Header lines are joined, as their
/// order is the chain's.
fn append(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut chain = BytesMut::new();
    for value in headers.get_all(FORWARDED_FOR).iter().filter(|value| !value.is_empty()) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.as_bytes());
    HeaderValue::from_maybe_shared(chain.freeze()).unwrap_or_else(|_| client.clone())
}

fn remove_tls_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| claims_tls(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Over HTTP/2 a client may send one cookie a field; elsewhere there is one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn forwarded(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        with(LoadBalancerAttributes::default(), lines)
    }

    fn with(attributes: LoadBalancerAttributes, lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = map(lines);
        let scan = Scan::request(&headers);
        let forwarded = Forwarded::new("192.0.2.7:50000".parse().unwrap(), 8080, "http");
        forwarded.apply(&mut headers, scan, &attributes, None);
        headers
    }

    #[test]
    fn a_plain_request_gains_what_a_load_balancer_adds() {
        let headers = forwarded(&[("host", "a.b.localhost"), ("accept", "*/*")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-port"], "8080");
        assert!(headers.contains_key("x-amzn-trace-id") && headers.contains_key("traceparent"));
        assert_eq!(headers.len(), 7);
    }

    #[test]
    fn the_last_host_is_kept_unless_it_is_too_long_for_a_name() {
        let forwarded = Forwarded::new("192.0.2.7:50000".parse().unwrap(), 8080, "http");
        for (host, kept) in [("a", "a"), ("b", "b"), ("b", "b"), (&"c".repeat(256), "b")] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            forwarded.complete_host(&mut headers);
            assert_eq!(headers["host"], format!("{host}:8080"));
            let last = forwarded.completed_host.lock().clone();
            assert_eq!(last, Some((kept.parse().unwrap(), format!("{kept}:8080").parse().unwrap())));
        }
    }

    #[test]
    fn chains_of_earlier_proxies_are_kept() {
        let headers = forwarded(&[
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
            ("x-forwarded-for", "10.0.0.3"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn attributes_decide_about_the_chain() {
        let lines = [("x-forwarded-for", "10.0.0.1")];
        let with = |mode, forwarded_for_port| {
            let attributes =
                LoadBalancerAttributes { forwarded_for: mode, forwarded_for_port, ..Default::default() };
            with(attributes, &lines).get("x-forwarded-for").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(with(ForwardedFor::Append, true).unwrap(), "10.0.0.1, 192.0.2.7:50000");
        assert_eq!(with(ForwardedFor::Preserve, true).unwrap(), "10.0.0.1");
        assert_eq!(with(ForwardedFor::Remove, false), None);
    }

    #[test]
    fn what_only_the_router_may_say_is_taken_off() {
        let lines = [
            ("forwarded", "for=10.0.0.1"),
            ("x-amzn-mtls-clientcert-subject", "CN=root"),
            ("x-amzn-tls-version", "TLSv9"),
            ("x-amzn-oidc-data", "kept"),
        ];
        let headers = forwarded(&lines);
        for gone in ["forwarded", "x-amzn-mtls-clientcert-subject", "x-amzn-tls-version"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert!(headers.contains_key("x-amzn-oidc-data"));
        let trusting = LoadBalancerAttributes { trust_forwarded: true, ..Default::default() };
        assert_eq!(with(trusting, &lines)["forwarded"], "for=10.0.0.1");
    }

    #[test]
    fn hop_by_hop_headers_go_with_those_connection_lists() {
        let headers = forwarded(&[
            ("host", "a"),
            ("content-length", "3"),
            ("connection", "close, X-Private"),
            ("connection", "host, content-length, x-forwarded-for, x-amzn-trace-id"),
            ("x-amzn-trace-id", "Root=mine"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
            ("x-coracle-service", "web"),
            ("x-kept", "1"),
        ]);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "content-length",
                "host",
                "traceparent",
                "x-amzn-trace-id",
                "x-forwarded-for",
                "x-forwarded-port",
                "x-forwarded-proto",
                "x-kept"
            ]
        );
        assert!(!headers["x-amzn-trace-id"].to_str().unwrap().contains("mine"));
    }

    #[test]
    fn an_upgrade_to_websocket_is_asked_for_anew() {
        let headers = forwarded(&[
            ("connection", "keep-alive, Upgrade, X-Gone"),
            ("upgrade", "WebSocket"),
            ("x-gone", "1"),
        ]);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        assert!(!headers.contains_key("x-gone"));
    }

    #[test]
    fn cookies_are_one_field() {
        let headers = forwarded(&[("cookie", "a=1"), ("cookie", "b=2")]);
        let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn hosts_are_completed_by_the_listeners_port() {
        let forwarded = |port| Forwarded::new("192.0.2.7:1".parse().unwrap(), port, "http");
        for (port, host, shown) in [
            (8080, "a.com", "a.com:8080"),
            (8080, "a.com:1", "a.com:1"),
            (8080, "[::1]", "[::1]:8080"),
            (8080, "[::1]:1", "[::1]:1"),
            (80, "a.com", "a.com"),
            (443, "a.com", "a.com"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            forwarded(port).complete_host(&mut headers);
            assert_eq!(headers["host"], shown);
        }
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let forwarded = Forwarded::new("[::ffff:192.0.2.7]:1".parse().unwrap(), 80, "http");
        assert_eq!(forwarded.client, "192.0.2.7");
        assert_eq!(forwarded.client_and_port, "192.0.2.7:1");
    }
}
