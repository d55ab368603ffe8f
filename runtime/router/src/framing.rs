//! Which requests are refused for their shape, and how the others are brought into one.
//!
//! A target never sees a request as it was sent: `http1`, or hyper over HTTP/2, has parsed it, this file judges
//! what was parsed, and whoever calls the target writes it anew from that. So two readings of one message can't
//! differ between the router and a target, and every target, in process or not, gets the same. What is refused
//! before (two different lengths, a folded line, a space before a colon, chunks that are none) is not repeated
//! here; a message with both `Content-Length` and chunks was read as chunks, its length taken off, and the
//! connection is closed behind it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use http_body::Body;

use crate::answer::Refusal;
use crate::config::RouterConfig;
use crate::headers::{Scan, UpgradeTo, parse_length};
use crate::load_balancer::Desync;

/// Header fields of one request. Heads of HTTP/1.1 are read with this bound; over HTTP/2 bytes alone are counted.
const MAX_FIELDS: usize = 100;

/// Refuses what the router doesn't serve or what could be read in two ways, and brings the request into
/// the shape targets get: HTTP/1.1, the URI in origin form, the host in `Host`, one `Content-Length` at most.
pub(crate) fn check<B: Body>(
    config: &RouterConfig,
    desync: Desync,
    request: &mut Request<B>,
    scan: Scan,
) -> Result<(), Refusal> {
    match *request.method() {
        Method::CONNECT => return Err(Refusal::connect()),
        Method::TRACE => return Err(Refusal::trace()),
        _ => {}
    }
    match scan.upgrade {
        UpgradeTo::Nothing => {}
        UpgradeTo::WebSocket if *request.method() == Method::GET => {}
        UpgradeTo::WebSocket | UpgradeTo::Unknown => return Err(Refusal::upgrade()),
    }
    if desync == Desync::Strictest {
        check_strictly(request)?;
    }
    if scan.fields > MAX_FIELDS {
        return Err(Refusal::too_many_fields(MAX_FIELDS));
    }
    if scan.has_transfer_encoding {
        check_transfer_encoding(request.headers())?;
    }
    if scan.expects_unknown {
        return Err(Refusal::expectation());
    }
    if scan.lengths > 0 {
        check_length(request)?;
    }
    check_uri(config, request)?;
    check_host(request, scan)?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Refuses what is allowed, but what careless servers read in two ways.
fn check_strictly<B: Body>(request: &Request<B>) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE)
        && !request.body().is_end_stream()
    {
        return Err(Refusal::unexpected_body());
    }
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    match (request.uri().authority(), host) {
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err(Refusal::bad_host("the request line and Host differ"))
        }
        _ => Ok(()),
    }
}

/// Chunks are all that was taken off; any other coding would be passed on as if it were the content.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::transfer_coding()),
    }
}

/// One length, which is a number and what the body is framed by.
fn check_length<B: Body>(request: &mut Request<B>) -> Result<(), Refusal> {
    let mut length = None;
    for value in request.headers().get_all(header::CONTENT_LENGTH) {
        let claimed = parse_length(value.as_bytes()).ok_or_else(Refusal::content_length)?;
        if length.replace(claimed).is_some_and(|earlier| earlier != claimed) {
            return Err(Refusal::content_length());
        }
    }
    let Some(length) = length else { return Ok(()) };
    if request.body().size_hint().exact().is_some_and(|actual| actual != length) {
        return Err(Refusal::content_length());
    }
    request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

fn check_uri<B>(config: &RouterConfig, request: &mut Request<B>) -> Result<(), Refusal> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if path.len() > config.max_uri_bytes {
        return Err(Refusal::uri_too_long(config.max_uri_bytes));
    }
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::bad_uri("its scheme is neither http nor https"));
    }
    let is_fine = path.is_empty()
        || path.starts_with(['/', '?'])
        || (path == "*" && *request.method() == Method::OPTIONS);
    if !is_fine {
        return Err(Refusal::bad_uri("its path does not begin with a slash"));
    }
    if !path.is_ascii() {
        let encoded = percent_encoded(path);
        let path =
            PathAndQuery::try_from(encoded).map_err(|_| Refusal::bad_uri("its path can't be encoded"))?;
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path);
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|_| Refusal::bad_uri("its path can't be encoded"))?;
    }
    Ok(())
}

/// Encodes what is not ASCII, as the client should have done.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() * 2);
    for byte in path.bytes() {
        if byte.is_ascii() {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        }
    }
    encoded
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value & 0xf)])
}

fn check_host<B>(request: &mut Request<B>, scan: Scan) -> Result<(), Refusal> {
    if scan.hosts > 1 {
        return Err(Refusal::many_hosts());
    }
    let host = request.headers().get(header::HOST);
    let Some(authority) = request.uri().authority() else {
        return match host {
            Some(host) => check_authority(host.as_bytes()),
            // Older versions know no `Host`.
            None if request.version() < Version::HTTP_11 => Ok(()),
            None => Err(Refusal::no_host()),
        };
    };
    // The absolute form of HTTP/1.1, in which the authority stands above the header; over HTTP/2 they are
    // both the client's, and differ only if somebody is to be deceived.
    let is_http2 = request.version() == Version::HTTP_2;
    if is_http2
        && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    {
        return Err(Refusal::bad_host("Host and :authority differ"));
    }
    check_authority(authority.as_str().as_bytes())?;
    let host = HeaderValue::from_str(authority.as_str())
        .map_err(|_| Refusal::bad_host("it has a character no host name has"))?;
    let path = request.uri().path_and_query().cloned();
    let path = match path {
        // `http://host?query`: there is no origin form without a path.
        Some(path) if path.as_str().starts_with('?') => {
            let path = format!("/{}", path.as_str());
            PathAndQuery::try_from(path).map_err(|_| Refusal::bad_uri("its query can't be read"))?
        }
        Some(path) if !path.as_str().is_empty() => path,
        _ => PathAndQuery::from_static("/"),
    };
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

/// Which bytes may be in a host.
const IS_OF_HOST: [bool; 256] = {
    let others = b"-._~%!$&'()*+,;=:[]";
    let mut is_of_host = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is_of_host[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        is_of_host[others[at] as usize] = true;
        at += 1;
    }
    is_of_host
};

/// What follows is not the grammar of hosts, but what no host has and what two readers could disagree on.
fn check_authority(host: &[u8]) -> Result<(), Refusal> {
    if host.iter().all(|byte| IS_OF_HOST[usize::from(*byte)]) {
        Ok(())
    } else if host.contains(&b'@') {
        Err(Refusal::bad_host("it has user information"))
    } else {
        Err(Refusal::bad_host("it has a character no host name has"))
    }
}

/// Takes off a trailer section what only a header section may have: framing, routing, authentication and
/// what the router says about the client (RFC 9110, 6.5.1).
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_in_trailers(name.as_str())).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

fn is_forbidden_in_trailers(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "max-forwards"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "range"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) || ["x-forwarded-", "x-amzn-", "x-coracle-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Takes off header fields whose names Application Load Balancers call invalid: all but letters, digits
/// and hyphens. Some servers read `a_b` as `a-b`, and can be told by it what the router has refused.
pub(crate) fn drop_invalid_fields(headers: &mut HeaderMap) {
    let is_valid =
        |name: &HeaderName| name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let invalid: Vec<HeaderName> = headers.keys().filter(|name| !is_valid(name)).cloned().collect();
    for name in invalid {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn checked(request: http::request::Builder) -> Result<Request<Full<Bytes>>, u16> {
        checked_as(Desync::Defensive, request)
    }

    fn checked_as(desync: Desync, request: http::request::Builder) -> Result<Request<Full<Bytes>>, u16> {
        let mut request = request.body(Full::from("12345")).unwrap();
        let scan = Scan::request(request.headers());
        match check(&RouterConfig::default(), desync, &mut request, scan) {
            Ok(()) => Ok(request),
            Err(refusal) => Err(refusal.into_response(false).status().as_u16()),
        }
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn uris_come_into_origin_form() {
        for (uri, host, path) in [
            ("/a?b", "h", "/a?b"),
            ("http://example.com/a", "example.com", "/a"),
            ("http://example.com", "example.com", "/"),
            ("http://example.com?q=1", "example.com", "/?q=1"),
            ("https://example.com:8443/a", "example.com:8443", "/a"),
            ("/\u{e9}?\u{20ac}", "h", "/%C3%A9?%E2%82%AC"),
        ] {
            let request = checked(get(uri).header("host", "h")).unwrap();
            assert_eq!(request.uri(), path);
            assert_eq!(request.headers()["host"], host);
        }
        let options = Request::options("*").header("host", "h");
        assert_eq!(checked(options).unwrap().uri(), "*");
    }

    #[test]
    fn shapes_that_could_be_read_in_two_ways_are_refused() {
        fn h(uri: &str) -> http::request::Builder {
            get(uri).header("host", "h")
        }
        for (request, status) in [
            (Request::connect("h:80"), 501),
            (Request::trace("/").header("host", "h"), 405),
            (get("/"), 400),
            (get("/").header("host", "a").header("host", "b"), 400),
            (get("/").header("host", "user@h"), 400),
            (get("/").header("host", "a/b"), 400),
            (get("http://user@h/"), 400),
            (get("ftp://h/"), 400),
            (get("*").header("host", "h"), 400),
            (get("http://a/").version(Version::HTTP_2).header("host", "b"), 400),
            (h(&format!("/{}", "a".repeat(16 * 1024))), 414),
            (h("/").header("transfer-encoding", "gzip, chunked"), 501),
            (h("/").header("transfer-encoding", "chunked, chunked"), 501),
            (h("/").header("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), 501),
            (h("/").header("content-length", "5").header("content-length", "6"), 400),
            (h("/").header("content-length", "5, 5"), 400),
            (h("/").header("content-length", "+5"), 400),
            (h("/").header("content-length", "4"), 400),
            (h("/").header("expect", "a-miracle"), 417),
            (h("/").header("connection", "upgrade").header("upgrade", "smtp"), 501),
        ] {
            let described = format!("{request:?}");
            assert_eq!(checked(request).map(|_| ()), Err(status), "{described}");
        }
        let same = h("/").header("content-length", "5").header("content-length", "05");
        let lengths: Vec<_> =
            checked(same).unwrap().headers().get_all("content-length").iter().cloned().collect();
        assert_eq!(lengths, ["5"]);
    }

    #[test]
    fn the_strictest_mode_refuses_what_is_merely_odd() {
        let both = || get("http://a/").header("host", "b");
        assert!(checked(both()).is_ok());
        assert_eq!(checked_as(Desync::Strictest, both()).map(|_| ()), Err(400));
        assert_eq!(
            checked_as(Desync::Strictest, get("/").header("host", "h")).map(|_| ()),
            Err(400),
            "a body"
        );
        assert!(checked_as(Desync::Strictest, Request::post("/").header("host", "h")).is_ok());
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let many = |count| {
            (0..count).fold(get("/").header("host", "h"), |request, at| request.header(format!("x-{at}"), ""))
        };
        assert!(checked(many(99)).is_ok());
        assert_eq!(checked(many(100)).map(|_| ()), Err(431));
    }

    #[test]
    fn an_older_version_needs_no_host() {
        let mut request = get("/").version(Version::HTTP_10).body(Empty::<Bytes>::new()).unwrap();
        let scan = Scan::request(request.headers());
        assert!(check(&RouterConfig::default(), Desync::Defensive, &mut request, scan).is_ok());
    }

    #[test]
    fn trailers_keep_what_is_theirs() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "x-sum", "content-length", "host", "x-forwarded-for", "transfer-encoding"]
        {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        clean_trailers(&mut trailers);
        let mut kept: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["grpc-status", "x-sum"]);
    }

    #[test]
    fn invalid_fields_go() {
        let mut headers = HeaderMap::new();
        for name in ["x_forwarded_for", "x-a", "a.b", "!"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        drop_invalid_fields(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-a"]);
    }
}
