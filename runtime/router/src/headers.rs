//! What the router reads from headers, and what it takes off and puts on.
//!
//! A request's headers are walked once, and only what was found there is removed: most requests have
//! none of it, and looking for each name in turn would cost more than the walk.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub(crate) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-coracle-error");
pub(crate) const TASK_HEADER: HeaderName = HeaderName::from_static("x-coracle-task");

/// Headers that are about one connection and mean nothing past it. `Transfer-Encoding` is among them:
/// bodies are framed anew on the other side, by what the router knows and not by what was claimed.
const HOP_BY_HOP: [HeaderName; 8] = [
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
    pub(crate) fields: usize,
    pub(crate) hosts: u8,
    pub(crate) service_headers: u8,
    pub(crate) lengths: u8,
    pub(crate) has_transfer_encoding: bool,
    /// Something other than to be told to continue is expected.
    pub(crate) expects_unknown: bool,
    pub(crate) upgrade: UpgradeTo,
    /// Errors should be JSON.
    pub(crate) accepts_json: bool,
    pub(crate) hop_by_hop: bool,
    pub(crate) cookies: u8,
    pub(crate) forwarded: bool,
    pub(crate) forwarded_for: bool,
    pub(crate) trace_id: bool,
    pub(crate) traceparent: bool,
    /// Headers by which only the router itself tells of the client's TLS.
    pub(crate) claims_tls: bool,
}

/// What a client asks to leave HTTP for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UpgradeTo {
    /// Nothing, or nothing it depends on.
    #[default]
    Nothing,
    WebSocket,
    /// A protocol the router doesn't pass on.
    Unknown,
}

impl Scan {
    pub(crate) fn request(headers: &HeaderMap) -> Self {
        let mut scan = Scan { fields: headers.len(), ..Scan::default() };
        let mut is_upgrade = false;
        for (name, value) in headers {
            match name.as_str() {
                "host" => scan.hosts = scan.hosts.saturating_add(1),
                "content-length" => scan.lengths = scan.lengths.saturating_add(1),
                "x-coracle-service" => scan.service_headers = scan.service_headers.saturating_add(1),
                "accept" => scan.accepts_json |= accepts_json(value.as_bytes()),
                "connection" => {
                    scan.hop_by_hop = true;
                    is_upgrade |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
                }
                "upgrade" => {
                    scan.hop_by_hop = true;
                    scan.upgrade = upgrade_to(value);
                }
                "transfer-encoding" => {
                    scan.hop_by_hop = true;
                    scan.has_transfer_encoding = true;
                }
                "expect" => scan.expects_unknown |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
                "cookie" => scan.cookies = scan.cookies.saturating_add(1),
                "forwarded" => scan.forwarded = true,
                "x-forwarded-for" => scan.forwarded_for = true,
                "x-amzn-trace-id" => scan.trace_id = true,
                "traceparent" => scan.traceparent = true,
                name if name.starts_with("x-amzn-") => scan.claims_tls |= claims_tls(name),
                name => scan.hop_by_hop |= is_hop_by_hop(name),
            }
        }
        if !is_upgrade {
            // Without being named in `Connection` it was meant for somebody else.
            scan.upgrade = UpgradeTo::Nothing;
        }
        scan
    }
}

/// Whether this is a header by which the router tells of a client's TLS.
pub(crate) fn claims_tls(name: &str) -> bool {
    name.starts_with("x-amzn-mtls-") || name.starts_with("x-amzn-tls-")
}

/// Whether this is a header that frames or routes a message, and is nobody's to choose.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    is_hop_by_hop(name.as_str())
        || [header::HOST, header::CONTENT_LENGTH, header::TRAILER].contains(name)
        || name.as_str().starts_with("x-coracle-")
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
fn upgrade_to(value: &HeaderValue) -> UpgradeTo {
    let is_ignored = |token: &[u8]| {
        let name = token.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"tls"].iter().any(|ignored| name.eq_ignore_ascii_case(ignored))
    };
    let mut wanted = tokens(value).filter(|token| !is_ignored(token));
    match (wanted.next(), wanted.next()) {
        (None, _) => UpgradeTo::Nothing,
        (Some(only), None) if only.eq_ignore_ascii_case(b"websocket") => UpgradeTo::WebSocket,
        _ => UpgradeTo::Unknown,
    }
}

pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
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
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Takes off what is about one connection: fields of that kind, and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        // What nearly all say, and what names no field that would be left.
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        // What frames or routes a message is never about one connection, whatever a client lists.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in &listed {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    // A walk over the names costs less than looking for each, and nearly always there are none.
    if headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Header maps of this thread for the next message: what they allocate is what allocates most for a request.
pub(crate) mod spare {
    use std::cell::Cell;

    use http::HeaderMap;

    /// Maps that are kept, and fields they may have room for: a thread keeps a few dozen KiB.
    const MAX_KEPT: usize = 8;
    const MAX_ROOM: usize = 64;

    thread_local! {
        static SPARE: Cell<Vec<HeaderMap>> = const { Cell::new(Vec::new()) };
    }

    /// An empty map with room for so many fields.
    pub(crate) fn take(room: usize) -> HeaderMap {
        let mut spare = SPARE.take();
        let map = spare.pop();
        SPARE.set(spare);
        match map {
            Some(mut map) => {
                map.reserve(room);
                map
            }
            None => HeaderMap::with_capacity(room),
        }
    }

    /// Keeps a map that nobody needs any more.
    pub(crate) fn give(mut map: HeaderMap) {
        if !(1..=MAX_ROOM).contains(&map.capacity()) {
            return;
        }
        map.clear();
        let mut spare = SPARE.take();
        if spare.len() < MAX_KEPT {
            spare.push(map);
        }
        SPARE.set(spare);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_map_comes_back_empty_and_too_many_or_too_large_ones_do_not() {
            let mut map = HeaderMap::with_capacity(20);
            map.append("x-a", "1".parse().unwrap());
            let room = map.capacity();
            give(map);
            let map = take(2);
            assert!(map.is_empty() && map.capacity() == room);
            assert!(take(40).capacity() >= 40);
            (0..MAX_KEPT + 2).for_each(|_| give(HeaderMap::with_capacity(4)));
            give(HeaderMap::with_capacity(1000));
            assert_eq!(SPARE.take().len(), MAX_KEPT);
        }
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

    #[test]
    fn only_upgrades_a_client_depends_on_count() {
        use UpgradeTo::{Nothing, Unknown, WebSocket};
        for (value, expected) in [
            ("websocket", WebSocket),
            ("WebSocket", WebSocket),
            ("h2c", Nothing),
            ("TLS/1.2, h2c", Nothing),
            ("h2c, websocket", WebSocket),
            ("websocket, other", Unknown),
            ("irc/6.9", Unknown),
        ] {
            let lines = [("connection", "keep-alive, Upgrade"), ("upgrade", value)];
            assert_eq!(Scan::request(&map(&lines)).upgrade, expected, "{value}");
            assert_eq!(
                Scan::request(&map(&lines[1..])).upgrade,
                Nothing,
                "{value} is not named in Connection"
            );
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
}
