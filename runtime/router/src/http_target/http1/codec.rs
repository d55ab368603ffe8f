//! HTTP/1.1 as a client writes and reads it (RFC 9112). Bytes in, bytes out: knows neither sockets nor tasks.
//!
//! What is written is framed by what the request's body is, whatever the request's headers claim. What is read is
//! held to one reading: a length that is not one number, a coding other than `chunked`, or a chunk that is none is
//! an error, and never guessed at.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use crate::headers::{parse_length, spare, tokens};
use crate::http1::codec::Unreadable::{self, HeadTooLarge, Malformed};
use crate::http1::codec::{Chunk, Decoder, Framing, MAX_FIELDS, write_field, write_length};

fn framing_of<B: Body>(request: &Request<B>) -> Framing {
    if request.body().is_end_stream() {
        return Framing::Nothing;
    }
    let claimed = || parse_length(request.headers().get(header::CONTENT_LENGTH)?.as_bytes());
    request.body().size_hint().exact().or_else(claimed).map_or(Framing::Chunked, Framing::Length)
}

/// Writes a request's head, and tells how its body is to follow.
pub(super) fn write_head<B: Body>(request: &Request<B>, output: &mut Vec<u8>) -> Framing {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    output.reserve(64 + path.len() + request.headers().iter().map(size).sum::<usize>());
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        output.extend_from_slice(part.as_bytes());
    }
    let mut has_length = false;
    for (name, value) in request.headers() {
        if *name == header::CONTENT_LENGTH {
            has_length = true;
        } else if *name != header::TRANSFER_ENCODING {
            write_field(name, value, output);
        }
    }
    let framing = framing_of(request);
    match framing {
        Framing::Nothing if has_length => output.extend_from_slice(b"content-length: 0\r\n"),
        Framing::Nothing => {}
        Framing::Length(length) => write_length(length, output),
        Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    output.extend_from_slice(b"\r\n");
    framing
}

/// The head of a response, and what it says of the rest.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What the target calls the status, if that is not what everybody does.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) body: Decoder,
    /// Whether the target will take another request on the connection.
    pub(super) keeps_alive: bool,
    /// How long it keeps the connection for that, if it says so.
    pub(super) announced: Option<Duration>,
}

/// Whether these bytes, which don't end yet, may become the head of a response.
pub(super) fn check_beginning(bytes: &[u8]) -> Result<(), Unreadable> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    parse(bytes, &mut fields).map(|_| ())
}

fn parse<'bytes, 'fields>(
    bytes: &'bytes [u8],
    fields: &'fields mut [MaybeUninit<httparse::Header<'bytes>>],
) -> Result<(httparse::Response<'fields, 'bytes>, bool), Unreadable> {
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut response, bytes, fields) {
        Ok(status) => Ok((response, status.is_complete())),
        Err(httparse::Error::TooManyHeaders) => Err(HeadTooLarge),
        Err(httparse::Error::Version | httparse::Error::Status) => {
            Err(Malformed("it does not begin with a status line of HTTP/1"))
        }
        Err(_) => Err(Malformed("a line of its head is none of HTTP/1")),
    }
}

/// Reads a whole head, for a request of this method.
pub(super) fn read_head(text: &Bytes, method: &Method) -> Result<Head, Unreadable> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let (response, is_whole) = parse(text, &mut fields)?;
    let (true, Some(code), Some(version)) = (is_whole, response.code, response.version) else {
        return Err(Malformed("its head has no end"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed("its status is not one of HTTP"))?;
    let reason = response.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let mut reading = Reading::new(version);
    let mut headers = spare::take(response.headers.len() + SPARE_FIELDS);
    for field in &*response.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed("a header's name has a character no name has"))?;
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value))
            .map_err(|_| Malformed("a header's value has a character no value has"))?;
        if reading.note(&name, &value)? {
            headers.append(name, value);
        }
    }
    let body = reading.body(status, method)?;
    if reading.codings > 0 {
        headers.remove(header::CONTENT_LENGTH);
    }
    // Behind a message that was framed twice, the next one is not trusted either.
    let is_framed_once = !(reading.codings > 0 && reading.has_length);
    let keeps_alive = reading.keeps_alive() && is_framed_once && !body.lasts_until_close();
    Ok(Head { status, headers, reason, body, keeps_alive, announced: reading.announced })
}

/// Room for what the router adds to an answer.
const SPARE_FIELDS: usize = 2;

/// What was found while going through the fields.
struct Reading {
    is_http10: bool,
    /// Fields of `Transfer-Encoding`.
    codings: usize,
    /// Whether `chunked` is the only coding.
    is_chunked: bool,
    has_length: bool,
    /// The length, or `Err` if there is more than one or none that is a number.
    length: Result<Option<u64>, Unreadable>,
    closes: bool,
    stays: bool,
    announced: Option<Duration>,
}

impl Reading {
    fn new(version: u8) -> Self {
        Self {
            is_http10: version == 0,
            codings: 0,
            is_chunked: false,
            has_length: false,
            length: Ok(None),
            closes: false,
            stays: false,
            announced: None,
        }
    }

    /// Notes a field, and tells whether it is to be kept: what is about the connection alone is not.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Unreadable> {
        match *name {
            header::CONTENT_LENGTH => {
                self.has_length = true;
                self.length = self.length.and_then(|earlier| same_length(earlier, value));
            }
            header::TRANSFER_ENCODING => {
                self.codings += 1;
                self.is_chunked =
                    self.codings == 1 && value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
                return Ok(false);
            }
            header::CONNECTION => {
                let mut names_others = false;
                for token in tokens(value) {
                    match token {
                        token if token.eq_ignore_ascii_case(b"close") => self.closes = true,
                        token if token.eq_ignore_ascii_case(b"keep-alive") => self.stays = true,
                        _ => names_others = true,
                    }
                }
                return Ok(names_others);
            }
            _ if name.as_str() == "keep-alive" => {
                self.announced = self.announced.or_else(|| announced(value));
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    fn keeps_alive(&self) -> bool {
        !self.closes && (!self.is_http10 || self.stays)
    }

    /// Where the body ends, in answer to a request of this method.
    fn body(&self, status: StatusCode, method: &Method) -> Result<Decoder, Unreadable> {
        let has_none = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD;
        match self.codings {
            _ if has_none => Ok(Decoder::Length(0)),
            0 => Ok(self.length?.map_or(Decoder::UntilClose, Decoder::Length)),
            _ if self.is_http10 => Err(Malformed("HTTP/1.0 has no Transfer-Encoding")),
            _ if self.is_chunked => Ok(Decoder::Chunked(Chunk::Line)),
            _ => Err(Malformed("its Transfer-Encoding is not just \"chunked\"")),
        }
    }
}

/// The same number may be there more than once, in one field or in several (RFC 9110, 8.6).
fn same_length(mut length: Option<u64>, value: &HeaderValue) -> Result<Option<u64>, Unreadable> {
    for value in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let claimed = parse_length(value).ok_or(NOT_ONE_LENGTH)?;
        if length.replace(claimed).is_some_and(|earlier| earlier != claimed) {
            return Err(NOT_ONE_LENGTH);
        }
    }
    Ok(length)
}

/// The `timeout` of a `Keep-Alive` field, if it has one.
fn announced(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

const NOT_ONE_LENGTH: Unreadable = Malformed("its Content-Length is not one number");

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
    use proptest::prelude::*;

    use super::*;
    use crate::target::{BoxError, RequestBody};

    fn head(text: &str, method: &Method) -> Result<Head, Unreadable> {
        read_head(&Bytes::copy_from_slice(text.as_bytes()), method)
    }

    fn get(text: &str) -> Result<Head, Unreadable> {
        head(text, &Method::GET)
    }

    #[test]
    fn heads_tell_where_bodies_end() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (fields, body, keeps_alive) in [
            ("Content-Length: 5\r\n\r\n", Decoder::Length(5), true),
            ("Content-Length: 5\r\nContent-Length: 5, 5\r\n\r\n", Decoder::Length(5), true),
            ("Transfer-Encoding: Chunked\r\n\r\n", Decoder::Chunked(Chunk::Line), true),
            ("Content-Length: 5\r\nConnection: x, Close\r\n\r\n", Decoder::Length(5), false),
            ("\r\n", Decoder::UntilClose, false),
            // Framed twice: the chunks count, and the connection is not used again.
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Decoder::Chunked(Chunk::Line), false),
        ] {
            let head = get(&format!("{ok}{fields}")).unwrap();
            assert_eq!((&head.body, head.keeps_alive), (&body, keeps_alive), "{fields:?}");
            let is_chunked = matches!(body, Decoder::Chunked(_));
            assert!(!is_chunked || !head.headers.contains_key("content-length"), "{fields:?}");
        }
        let old = get("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").unwrap();
        assert!(!old.keeps_alive);
        let old = get("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert!(old.keeps_alive);
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_claim() {
        let claim = "\r\nContent-Length: 5\r\n\r\n";
        for (method, status) in
            [(Method::HEAD, "200 OK"), (Method::GET, "304 Not Modified"), (Method::GET, "204 x")]
        {
            let head = head(&format!("HTTP/1.1 {status}{claim}"), &method).unwrap();
            assert!(head.body.is_done() && head.keeps_alive, "{method} {status}");
        }
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n", &Method::HEAD).unwrap().body, Decoder::Length(0));
    }

    #[test]
    fn what_is_about_the_connection_ends_here() {
        for (value, seconds) in
            [("timeout=5", Some(5)), ("max=100, timeout=15", Some(15)), ("timeout=x", None), ("", None)]
        {
            let fields = format!("Connection: keep-alive\r\nKeep-Alive: {value}\r\nX: y\r\n\r\n");
            let head = get(&format!("HTTP/1.1 200 OK\r\n{fields}")).unwrap();
            assert_eq!(head.announced, seconds.map(Duration::from_secs), "{value}");
            assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["x"]);
        }
        // What names other fields says which of them go, too.
        let head = get("HTTP/1.1 200 OK\r\nConnection: close, X\r\nX: y\r\n\r\n").unwrap();
        assert_eq!(head.headers.len(), 2);
    }

    #[test]
    fn a_reason_of_its_own_is_kept() {
        assert!(get("HTTP/1.1 200 OK\r\n\r\n").unwrap().reason.is_none());
        let own = get("HTTP/1.1 200 Fine\r\n\r\n").unwrap().reason.unwrap();
        assert_eq!(own.as_bytes(), b"Fine");
    }

    #[test]
    fn heads_that_can_be_read_in_two_ways_are_errors() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 5,\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length : 5\r\n",
            "X: a\r\n folded\r\n",
            "X: a\0b\r\n",
        ] {
            let read = get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            assert!(matches!(read, Err(Malformed(_))), "{fields:?} {read:?}");
        }
        for bytes in [
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(matches!(get(bytes), Err(Malformed(_))), "{bytes:?}");
        }
        let many = "x: y\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(get(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).err(), Some(HeadTooLarge));
    }

    #[test]
    fn lines_may_end_without_a_carriage_return() {
        for text in
            ["HTTP/1.1 200 OK\r\na: b\r\n\r\n", "HTTP/1.1 200 OK\na: b\n\n", "HTTP/1.1 200 OK\r\na: b\n\r\n"]
        {
            assert_eq!(get(text).unwrap().headers["a"], "b");
        }
        assert_eq!(check_beginning(b"HTTP/1.1 200 O"), Ok(()));
        assert!(check_beginning(b"SSH-2.0-x\r\n").is_err());
    }

    #[test]
    fn requests_are_framed_by_their_bodies() {
        fn written(request: http::request::Builder, body: RequestBody) -> String {
            let mut output = Vec::new();
            write_head(&request.uri("/a?b").body(body).unwrap(), &mut output);
            String::from_utf8(output).unwrap()
        }
        let empty = || RequestBody::new(Empty::new().map_err(|never| match never {}));
        let full = || RequestBody::new(Full::from("12345").map_err(|never| match never {}));
        let unknown = || {
            let frames = futures_util::stream::empty::<Result<Frame<Bytes>, BoxError>>();
            RequestBody::new(StreamBody::new(frames))
        };
        let post = || Request::post("/").header("host", "h");
        let line = "POST /a?b HTTP/1.1\r\nhost: h\r\n";
        assert_eq!(written(post(), empty()), format!("{line}\r\n"));
        assert_eq!(
            written(post().header("content-length", "7"), empty()),
            format!("{line}content-length: 0\r\n\r\n")
        );
        assert_eq!(
            written(post().header("content-length", "7"), full()),
            format!("{line}content-length: 5\r\n\r\n")
        );
        let chunked = format!("{line}transfer-encoding: chunked\r\n\r\n");
        assert_eq!(written(post().header("transfer-encoding", "gzip"), unknown()), chunked);
        let claimed = post().header("content-length", "7");
        assert_eq!(written(claimed, unknown()), format!("{line}content-length: 7\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_beginning(&bytes);
            let _ = read_head(&Bytes::copy_from_slice(&bytes), &Method::GET);
        }
    }
}
