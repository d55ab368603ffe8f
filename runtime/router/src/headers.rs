//! What the router reads from headers, and what it takes off and puts on.
//!
//! A request's headers are walked once, and only what was found there is removed: most requests have
//! none of it, and looking for each name in turn would cost more than the walk.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::address::SERVICE_HEADER;

pub(crate) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-coracle-error");
pub(crate) const TASK_HEADER: HeaderName = HeaderName::from_static("x-coracle-task");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Headers that are about one connection and mean nothing past it. `Transfer-Encoding` is among them:
/// bodies are framed anew on the other side, by what the router knows and not by what was claimed.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
];

/// What one walk over a request's headers found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) hosts: u8,
    pub(crate) service_headers: u8,
    /// The client asks to leave HTTP/1.1 for a protocol the router doesn't speak.
    pub(crate) upgrades: bool,
    /// Errors should be JSON.
    pub(crate) accepts_json: bool,
    hop_by_hop: bool,
    forwarded_for: bool,
    trace_id: bool,
}

impl Scan {
    pub(crate) fn request(headers: &HeaderMap) -> Self {
        let mut scan = Scan::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" => scan.hosts = scan.hosts.saturating_add(1),
                "x-coracle-service" => scan.service_headers = scan.service_headers.saturating_add(1),
                "accept" => scan.accepts_json |= accepts_json(value.as_bytes()),
                "upgrade" => {
                    scan.hop_by_hop = true;
                    scan.upgrades |= !is_upgrade_ignored(value);
                }
                "x-forwarded-for" => scan.forwarded_for = true,
                "x-amzn-trace-id" => scan.trace_id = true,
                name => scan.hop_by_hop |= is_hop_by_hop(name),
            }
        }
        scan
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "transfer-encoding"
            | "te"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "proxy-authorization"
            | "proxy-authenticate"
    )
}

fn accepts_json(accept: &[u8]) -> bool {
    const JSON: &[u8] = b"application/json";
    // Beyond 256 bytes nobody asks for JSON in earnest, and the search stays cheap.
    let accept = &accept[..accept.len().min(256)];
    accept.windows(JSON.len()).any(|window| window.eq_ignore_ascii_case(JSON))
}

/// Some clients offer HTTP/2 over clear text, or TLS, with every request and are content with HTTP/1.1;
/// only an upgrade without which the client can't go on is worth an error.
fn is_upgrade_ignored(value: &HeaderValue) -> bool {
    tokens(value).all(|token| {
        let name = token.split(|byte| *byte == b'/').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c")
            || name.eq_ignore_ascii_case(b"h2")
            || name.eq_ignore_ascii_case(b"tls")
    })
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// What a connection adds to each of its requests, made once.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    client: HeaderValue,
    port: HeaderValue,
}

impl Forwarded {
    pub(crate) fn new(client: IpAddr, port: u16) -> Self {
        // A client that reached a dual-stack listener over IPv4 is known by its IPv4 address.
        let client = client.to_canonical().to_string();
        let client = HeaderValue::from_maybe_shared(Bytes::from(client)).expect("an address is printable");
        Self { client, port: HeaderValue::from(port) }
    }

    /// Turns the headers a client sent into those a target sees.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, scan: Scan) {
        if scan.hop_by_hop {
            strip_hop_by_hop(headers);
        }
        if scan.service_headers > 0 {
            headers.remove(SERVICE_HEADER);
        }
        headers.reserve(4);
        let client = if scan.forwarded_for { self.append_client(headers) } else { self.client.clone() };
        headers.insert(FORWARDED_FOR, client);
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        headers.insert(FORWARDED_PORT, self.port.clone());
        // A client may have had its own trace id taken off, by listing it in `Connection`.
        if !scan.trace_id || (scan.hop_by_hop && !headers.contains_key(TRACE_ID)) {
            headers.insert(TRACE_ID, new_trace_id());
        }
    }

    /// The chain of clients the request has come through so far, and ours. Header lines are joined, as
    /// their order is the chain's.
    fn append_client(&self, headers: &HeaderMap) -> HeaderValue {
        let mut chain = BytesMut::new();
        for value in headers.get_all(FORWARDED_FOR).iter().filter(|value| !value.is_empty()) {
            chain.extend_from_slice(value.as_bytes());
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(self.client.as_bytes());
        HeaderValue::from_maybe_shared(chain.freeze()).unwrap_or_else(|_| self.client.clone())
    }
}

/// Takes off the headers of a response that are the router's to set, and returns whether the rest frames
/// the body: `Err` if it claims more than one length, or none that is a number.
pub(crate) fn clean_response(headers: &mut HeaderMap) -> Result<Option<u64>, ()> {
    let mut hop_by_hop = false;
    let mut ours = false;
    let mut length = None;
    let mut lengths = 0_u32;
    for (name, value) in &*headers {
        match name.as_str() {
            "content-length" => {
                let claimed = parse_length(value.as_bytes()).ok_or(())?;
                if length.replace(claimed).is_some_and(|earlier| earlier != claimed) {
                    return Err(());
                }
                lengths += 1;
            }
            "x-coracle-error" => ours = true,
            name => hop_by_hop |= is_hop_by_hop(name),
        }
    }
    if hop_by_hop {
        strip_hop_by_hop(headers);
    }
    if ours {
        headers.remove(ERROR_HEADER);
    }
    if let (2.., Some(length)) = (lengths, length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Digits only: `+5`, which Rust would parse, is not a length.
fn parse_length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        // What frames or routes a message is never about one connection, whatever a client lists.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in &listed {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// `Root=1-<seconds, 8 hex digits>-<24 random hex digits>`.
fn new_trace_id() -> HeaderValue {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let random: u128 = rand::random();
    let mut id = *b"Root=1-00000000-000000000000000000000000";
    write_hex(&mut id[7..15], u128::from(seconds));
    write_hex(&mut id[16..], random);
    HeaderValue::from_bytes(&id).expect("hex digits are printable")
}

/// Fills `digits` with the low bits of `value`. The general formatter takes several times as long, and
/// this is done for every request.
fn write_hex(digits: &mut [u8], mut value: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
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
        let mut headers = map(lines);
        let scan = Scan::request(&headers);
        Forwarded::new("192.0.2.7".parse().unwrap(), 8080).apply(&mut headers, scan);
        headers
    }

    #[test]
    fn a_plain_request_gains_what_a_load_balancer_adds() {
        let headers = forwarded(&[("host", "a.b.localhost"), ("accept", "*/*")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-port"], "8080");
        let trace = headers["x-amzn-trace-id"].to_str().unwrap();
        let parts: Vec<&str> = trace.strip_prefix("Root=").unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [1, 8, 24], "{trace}");
        assert!(parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit())), "{trace}");
        assert_eq!(headers.len(), 6);
    }

    #[test]
    fn hex_keeps_leading_zeros_and_the_low_digits() {
        let mut digits = [0; 8];
        write_hex(&mut digits, 0x12_0000_abcd);
        assert_eq!(&digits, b"0000abcd");
        assert_ne!(new_trace_id(), new_trace_id());
    }

    #[test]
    fn chains_and_trace_ids_of_earlier_proxies_are_kept() {
        let headers = forwarded(&[
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
            ("x-forwarded-for", "10.0.0.3"),
            ("x-forwarded-proto", "https"),
            ("x-amzn-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-amzn-trace-id"], "Root=1-5759e988-bd862e3fe1be46a994272793");
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
                "x-amzn-trace-id",
                "x-forwarded-for",
                "x-forwarded-port",
                "x-forwarded-proto",
                "x-kept"
            ]
        );
        assert_ne!(headers["x-amzn-trace-id"], "Root=mine");
    }

    #[test]
    fn only_upgrades_a_client_depends_on_count() {
        for (value, expected) in
            [("websocket", true), ("h2c", false), ("TLS/1.2, h2c", false), ("h2c, websocket", true)]
        {
            assert_eq!(Scan::request(&map(&[("upgrade", value)])).upgrades, expected, "{value}");
        }
    }

    #[test]
    fn json_is_asked_for_by_name() {
        for (value, expected) in
            [("application/json", true), ("text/html, Application/JSON;q=0.9", true), ("*/*", false)]
        {
            assert_eq!(Scan::request(&map(&[("accept", value)])).accepts_json, expected, "{value}");
        }
    }

    #[test]
    fn responses_keep_one_length_and_no_framing() {
        let mut headers = map(&[
            ("content-length", "5"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("x-coracle-error", "forged"),
            ("x-kept", "1"),
        ]);
        assert_eq!(clean_response(&mut headers), Ok(Some(5)));
        assert_eq!(headers, map(&[("content-length", "5"), ("x-kept", "1")]));
        for bad in [
            &[("content-length", "5"), ("content-length", "6")][..],
            &[("content-length", "+5")],
            &[("content-length", "")],
        ] {
            assert_eq!(clean_response(&mut map(bad)), Err(()), "{bad:?}");
        }
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let forwarded = Forwarded::new("::ffff:192.0.2.7".parse().unwrap(), 80);
        assert_eq!(forwarded.client, "192.0.2.7");
    }
}
