//! HTTP/1.1 as a client writes and reads it (RFC 9112). Bytes in, bytes out: knows neither sockets nor tasks.
//!
//! What is written is framed by what the request's body is, whatever the request's headers claim. What is read is
//! held to one reading: a length that is not one number, a coding other than `chunked`, or a chunk that is none is
//! an error, and never guessed at.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::ext::ReasonPhrase;

use crate::headers::{parse_length, tokens};

/// Fields of a response's head, and of its trailers.
const MAX_FIELDS: usize = 100;

/// Bytes of the line before a chunk, which may have extensions nobody needs.
const MAX_CHUNK_LINE: usize = 1024;

/// Bytes of the section behind the last chunk.
const MAX_TRAILERS: usize = 16 * 1024;

/// What could not be understood of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("its response's head is too large")]
    HeadTooLarge,
    #[error("its response can't be read: {0}")]
    Malformed(&'static str),
}

use Unreadable::{HeadTooLarge, Malformed};

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

impl Framing {
    fn of<B: Body>(request: &Request<B>) -> Self {
        if request.body().is_end_stream() {
            return Self::Nothing;
        }
        let claimed = || parse_length(request.headers().get(header::CONTENT_LENGTH)?.as_bytes());
        request.body().size_hint().exact().or_else(claimed).map_or(Self::Chunked, Self::Length)
    }
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
    let framing = Framing::of(request);
    match framing {
        Framing::Nothing if has_length => output.extend_from_slice(b"content-length: 0\r\n"),
        Framing::Nothing => {}
        Framing::Length(length) => write_into(output, format_args!("content-length: {length}\r\n")),
        Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    output.extend_from_slice(b"\r\n");
    framing
}

fn write_field(name: &HeaderName, value: &HeaderValue, output: &mut Vec<u8>) {
    output.extend_from_slice(name.as_str().as_bytes());
    output.extend_from_slice(b": ");
    output.extend_from_slice(value.as_bytes());
    output.extend_from_slice(b"\r\n");
}

fn write_into(output: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    output.write_fmt(text).expect("memory takes all that is written");
}

/// Writes the line before a chunk. Behind the chunk comes a line's end.
pub(super) fn write_chunk_line(length: usize, output: &mut Vec<u8>) {
    write_into(output, format_args!("{length:x}\r\n"));
}

/// Writes what ends a chunked body.
pub(super) fn write_last_chunk(trailers: &HeaderMap, output: &mut Vec<u8>) {
    output.extend_from_slice(b"0\r\n");
    trailers.iter().for_each(|(name, value)| write_field(name, value, output));
    output.extend_from_slice(b"\r\n");
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
}

/// Where a head in `bytes` ends, if it does. Up to `seen` there was no end when it was last looked for.
pub(super) fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let newlines =
        bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| from + at);
    // A line's end may lack its carriage return (RFC 9112, 2.2).
    newlines.map(|at| at + 1).find_map(|at| match &bytes[at..] {
        [b'\r', b'\n', ..] => Some(at + 2),
        [b'\n', ..] => Some(at + 1),
        _ => None,
    })
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
    let mut headers = HeaderMap::with_capacity(response.headers.len() + SPARE_FIELDS);
    for field in &*response.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed("a header's name has a character no name has"))?;
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value))
            .map_err(|_| Malformed("a header's value has a character no value has"))?;
        headers.append(name, value);
    }
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let had_coding = headers.contains_key(header::TRANSFER_ENCODING);
    let body = Decoder::of(status, version, &headers, method)?;
    let keeps_alive = keeps_alive(version, &headers) && !body.lasts_until_close();
    // Behind a message that was framed twice, the next one is not trusted either.
    let is_framed_once = !had_coding || !headers.contains_key(header::CONTENT_LENGTH);
    if had_coding {
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Head { status, headers, reason, body, keeps_alive: keeps_alive && is_framed_once })
}

/// Room for what the router adds to an answer.
const SPARE_FIELDS: usize = 2;

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let has = |wanted: &[u8]| {
        let mut tokens = headers.get_all(header::CONNECTION).iter().flat_map(tokens);
        tokens.any(|token| token.eq_ignore_ascii_case(wanted))
    };
    !has(b"close") && (version == Version::HTTP_11 || has(b"keep-alive"))
}

/// Where a response's body ends, and how far it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    /// Until the target closes the connection.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Line,
    Data(u64),
    LineEnd,
    Trailers,
    Nothing,
}

impl Decoder {
    fn of(
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Self, Unreadable> {
        let has_none = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD;
        if has_none {
            return Ok(Self::Length(0));
        }
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => {}
            (Some(_), _) if version == Version::HTTP_10 => {
                return Err(Malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                return Ok(Self::Chunked(Chunk::Line));
            }
            _ => return Err(Malformed("its Transfer-Encoding is not just \"chunked\"")),
        }
        let mut length = None;
        for value in headers.get_all(header::CONTENT_LENGTH) {
            // The same number may be there more than once, in one field or in several (RFC 9110, 8.6).
            for value in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let claimed = parse_length(value).ok_or(NOT_ONE_LENGTH)?;
                if length.replace(claimed).is_some_and(|earlier| earlier != claimed) {
                    return Err(NOT_ONE_LENGTH);
                }
            }
        }
        Ok(length.map_or(Self::UntilClose, Self::Length))
    }

    fn lasts_until_close(&self) -> bool {
        *self == Self::UntilClose
    }

    /// Whether all of the body was read.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Nothing))
    }

    /// How long the rest of the body is, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(Chunk::Nothing) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next part of the body out of `input`; `None` if there must be more bytes for that.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unreadable> {
        match self {
            Self::Length(left) => Ok(take(left, input)),
            Self::Chunked(chunk) => chunk.decode(input),
            Self::UntilClose => Ok((!input.is_empty()).then(|| Frame::data(input.split().freeze()))),
        }
    }
}

const NOT_ONE_LENGTH: Unreadable = Malformed("its Content-Length is not one number");

/// Takes up to `left` bytes.
fn take(left: &mut u64, input: &mut BytesMut) -> Option<Frame<Bytes>> {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= len as u64;
    (len > 0).then(|| Frame::data(input.split_to(len).freeze()))
}

impl Chunk {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unreadable> {
        loop {
            match self {
                Self::Line => {
                    let Some(length) = read_chunk_line(input)? else { return Ok(None) };
                    *self = if length == 0 { Self::Trailers } else { Self::Data(length) };
                }
                Self::Data(left) => {
                    let taken = take(left, input);
                    if *left == 0 {
                        *self = Self::LineEnd;
                    }
                    return Ok(taken);
                }
                Self::LineEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Self::Line;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Malformed("a chunk is longer than it says")),
                },
                Self::Trailers => {
                    let Some(trailers) = read_trailers(input)? else { return Ok(None) };
                    *self = Self::Nothing;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                Self::Nothing => return Ok(None),
            }
        }
    }
}

/// Reads the line before a chunk: its length in hexadecimal digits, then perhaps extensions, which are dropped.
fn read_chunk_line(input: &mut BytesMut) -> Result<Option<u64>, Unreadable> {
    const BAD: Unreadable = Malformed("the line before a chunk is not a length");
    let Some(end) = input.iter().take(MAX_CHUNK_LINE).position(|byte| *byte == b'\n') else {
        return if input.len() < MAX_CHUNK_LINE { Ok(None) } else { Err(BAD) };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(BAD)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let extensions = extensions.trim_ascii_start();
    if !(extensions.is_empty() || extensions[0] == b';') || extensions.contains(&b'\r') {
        return Err(BAD);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BAD)?;
    let length = u64::from_str_radix(digits, 16).map_err(|_| BAD)?;
    input.advance(end + 1);
    Ok(Some(length))
}

/// Reads what follows the last chunk, to the empty line.
fn read_trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Unreadable> {
    const BAD: Unreadable = Malformed("its trailers can't be read");
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (len, fields) = match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete((len, _))) if len > MAX_TRAILERS => return Err(BAD),
        Ok(httparse::Status::Complete(read)) => read,
        Ok(httparse::Status::Partial) if input.len() < MAX_TRAILERS => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(BAD),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| BAD)?);
    }
    input.advance(len);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
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

    /// What a body of these bytes is read as, given out and read in pieces of `step` bytes.
    fn decoded(
        mut decoder: Decoder,
        bytes: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, Option<HeaderMap>, bool), Unreadable> {
        let (mut content, mut trailers) = (Vec::new(), None);
        let mut input = BytesMut::new();
        for piece in bytes.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut input)? {
                match frame.into_data() {
                    Ok(data) => content.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
        }
        Ok((content, trailers, decoder.is_done() && input.is_empty()))
    }

    fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, Option<HeaderMap>, bool), Unreadable> {
        decoded(Decoder::Chunked(Chunk::Line), bytes, usize::MAX)
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
    fn a_heads_end_is_found_wherever_reading_stopped() {
        for text in
            ["HTTP/1.1 200 OK\r\na: b\r\n\r\n", "HTTP/1.1 200 OK\na: b\n\n", "HTTP/1.1 200 OK\r\na: b\n\r\n"]
        {
            for seen in 0..text.len() {
                let with_body = format!("{text}\n\r\n");
                assert_eq!(find_end(&text.as_bytes()[..seen], 0), None, "{text:?} {seen}");
                assert_eq!(find_end(with_body.as_bytes(), seen), Some(text.len()), "{text:?} {seen}");
            }
            assert_eq!(get(text).unwrap().headers["a"], "b");
        }
        assert_eq!(check_beginning(b"HTTP/1.1 200 O"), Ok(()));
        assert!(check_beginning(b"SSH-2.0-x\r\n").is_err());
    }

    #[test]
    fn chunks_are_read_as_written_and_nothing_else_is() {
        let (content, trailers, is_whole) =
            chunked(b"2;name=\"v\"\r\nab\r\n00A \r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n").unwrap();
        assert_eq!((content.as_slice(), is_whole), (&b"ab0123456789"[..], true));
        assert_eq!(trailers.unwrap()["x-sum"], "1");
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"+1\r\na\r\n",
            b"-1\r\n",
            b"0x1\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1 2\r\na\r\n",
            b"1;a\rb\r\na\r\n",
            b"10000000000000000\r\n",
            b"0\r\nbad trailer\r\n\r\n",
        ] {
            assert!(chunked(bytes).is_err(), "{bytes:?}");
        }
        let endless = [b"1;".to_vec(), vec![b'a'; MAX_CHUNK_LINE]].concat();
        assert!(chunked(&endless).is_err());
        let endless = [b"0\r\nx: ".to_vec(), vec![b'a'; MAX_TRAILERS]].concat();
        assert!(chunked(&endless).is_err());
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
        fn what_was_written_in_chunks_is_read_again(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                write_chunk_line(chunk.len(), &mut bytes);
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            write_last_chunk(&trailers, &mut bytes);
            let read = decoded(Decoder::Chunked(Chunk::Line), &bytes, step).unwrap();
            prop_assert_eq!(read, (chunks.concat(), Some(trailers), true));
        }

        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            let _ = check_beginning(&bytes);
            let _ = read_head(&Bytes::copy_from_slice(&bytes), &Method::GET);
            let _ = decoded(Decoder::Chunked(Chunk::Line), &bytes, step);
        }
    }
}
