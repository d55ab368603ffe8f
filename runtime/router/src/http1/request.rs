//! The head of a request, as a server reads it (RFC 9112, 3 and 6). Bytes in, a request out.
//!
//! There is one reading of where a request ends. Two lengths that differ, a length that is no number, codings whose last
//! is not `chunked`, a coding in HTTP/1.0, a folded line, a blank before a colon and a line's end in the wrong place are
//! no request. Of a length beside chunks the chunks count, the length is taken off, and nothing is believed behind them.
//! What else could be wrong with a request is for `framing` to judge.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};

use super::codec::{Framing, MAX_FIELDS, has_token};
use crate::headers::{parse_length, spare};

/// Bytes of a URI, whatever a router's configuration allows: as many as a [`Uri`] can have.
const MAX_URI: usize = u16::MAX as usize - 1;

/// Room for what the router tells targets about the client.
const SPARE_FIELDS: usize = 5;

/// Why bytes are no head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHead {
    #[error("a request can't be read")]
    Malformed,
    #[error("the head of a request is too large")]
    TooLarge,
    #[error("the URI of a request is too long")]
    UriTooLong,
}

impl BadHead {
    /// What its client is answered.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
        }
    }
}

/// What a request says about its answer and what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
    /// Whether the client may send another request on the connection.
    pub(super) keeps_alive: bool,
    /// Whether the client waits to be told to continue before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) takes_trailers: bool,
}

/// A head, and what it says of the rest.
#[derive(Debug)]
pub(super) struct Head {
    /// Bytes of it.
    pub(super) length: usize,
    pub(super) request: Request<()>,
    pub(super) framing: Framing,
    pub(super) asked: Asked,
}

/// How many bytes of empty lines there are in front of a request. Some clients send one behind a body.
pub(super) fn blank(bytes: &[u8]) -> usize {
    let mut blank = 0;
    loop {
        blank += match &bytes[blank..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return blank,
        };
    }
}

/// Whether these bytes, which don't end yet, may become the head of a request.
pub(super) fn check_beginning(bytes: &[u8]) -> Result<(), BadHead> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    parse(bytes, &mut fields).map(|_| ())
}

fn parse<'bytes, 'fields>(
    bytes: &'bytes [u8],
    fields: &'fields mut [MaybeUninit<httparse::Header<'bytes>>],
) -> Result<(httparse::Request<'fields, 'bytes>, Option<usize>), BadHead> {
    let mut request = httparse::Request::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_request_with_uninit_headers(&mut request, bytes, fields) {
        Ok(httparse::Status::Complete(length)) => Ok((request, Some(length))),
        Ok(httparse::Status::Partial) => Ok((request, None)),
        Err(httparse::Error::TooManyHeaders) => Err(BadHead::TooLarge),
        Err(_) => Err(BadHead::Malformed),
    }
}

/// Reads the head that these bytes begin with; none if they end before it does. What follows the head is not looked at.
pub(super) fn read_head(text: &Bytes) -> Result<Option<Head>, BadHead> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let (parsed, Some(length)) = parse(text, &mut fields)? else { return Ok(None) };
    let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(BadHead::Malformed);
    };
    if path.len() > MAX_URI {
        return Err(BadHead::UriTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BadHead::Malformed)?;
    let uri = Uri::from_maybe_shared(text.slice_ref(path.as_bytes())).map_err(|_| BadHead::Malformed)?;
    let is_http10 = version == 0;
    let mut reading = Reading::new(is_http10, method == Method::HEAD);
    let mut headers = spare::take(parsed.headers.len() + SPARE_FIELDS);
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead::Malformed)?;
        let value =
            HeaderValue::from_maybe_shared(text.slice_ref(field.value)).map_err(|_| BadHead::Malformed)?;
        if reading.note(&name, &value)? {
            headers.append(name, value);
        }
    }
    let (framing, asked) = reading.end(&mut headers)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    Ok(Some(Head { length, request, framing, asked }))
}

/// What was found while going through the fields.
struct Reading {
    length: Option<u64>,
    has_coding: bool,
    /// Whether the last coding is `chunked`.
    is_chunked: bool,
    closes: bool,
    asked: Asked,
}

impl Reading {
    fn new(is_http10: bool, is_head: bool) -> Self {
        let asked = Asked {
            is_http10,
            is_head,
            keeps_alive: !is_http10,
            expects_continue: false,
            takes_trailers: false,
        };
        Self { length: None, has_coding: false, is_chunked: false, closes: false, asked }
    }

    /// Notes a field, and tells whether it is to be kept.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, BadHead> {
        match *name {
            header::CONTENT_LENGTH => {
                let length = parse_length(value.as_bytes()).ok_or(BadHead::Malformed)?;
                return match self.length.replace(length) {
                    None => Ok(true),
                    Some(earlier) if earlier == length => Ok(false),
                    Some(_) => Err(BadHead::Malformed),
                };
            }
            header::TRANSFER_ENCODING => {
                if self.asked.is_http10 {
                    return Err(BadHead::Malformed);
                }
                self.has_coding = true;
                let last = value.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
                self.is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            header::CONNECTION => {
                self.closes |= has_token(value, b"close");
                self.asked.keeps_alive |= has_token(value, b"keep-alive");
            }
            header::EXPECT if !self.asked.is_http10 => {
                self.asked.expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            header::TE => self.asked.takes_trailers |= has_token(value, b"trailers"),
            _ => {}
        }
        Ok(true)
    }

    fn end(mut self, headers: &mut HeaderMap) -> Result<(Framing, Asked), BadHead> {
        self.asked.keeps_alive &= !self.closes;
        if !self.has_coding {
            let framing = self.length.filter(|length| *length > 0).map_or(Framing::Nothing, Framing::Length);
            return Ok((framing, self.asked));
        }
        if !self.is_chunked {
            return Err(BadHead::Malformed);
        }
        if self.length.is_some() {
            headers.remove(header::CONTENT_LENGTH);
            self.asked.keeps_alive = false;
        }
        Ok((Framing::Chunked, self.asked))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<Head>, BadHead> {
        read_head(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn fields(fields: &str) -> Result<Head, BadHead> {
        read(&format!("POST /a?b HTTP/1.1\r\n{fields}\r\n")).map(|head| head.expect("it is whole"))
    }

    #[test]
    fn a_head_is_what_it_says() {
        let text = "PATCH /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2 \r\n\r\n";
        let head = read(&format!("{text}behind it")).unwrap().unwrap();
        assert_eq!((head.length, head.framing), (text.len(), Framing::Nothing));
        let request = head.request;
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("PATCH", "/a?b".to_owned()));
        assert_eq!(request.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        for end in 0..text.len() {
            assert!(read(&text[..end]).unwrap().is_none(), "{end}");
            assert_eq!(check_beginning(&text.as_bytes()[..end]), Ok(()), "{end}");
        }
    }

    #[test]
    fn bodies_are_framed_once() {
        for (lines, framing, keeps_alive) in [
            ("", Framing::Nothing, true),
            ("Content-Length: 0\r\n", Framing::Nothing, true),
            ("Content-Length: 7\r\n", Framing::Length(7), true),
            ("Content-Length: 7\r\nContent-Length: 7\r\n", Framing::Length(7), true),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunked, true),
            ("Transfer-Encoding: gzip, chunked\r\n", Framing::Chunked, true),
            ("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", Framing::Chunked, false),
            ("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, false),
        ] {
            let head = fields(lines).unwrap();
            assert_eq!((head.framing, head.asked.keeps_alive), (framing, keeps_alive), "{lines:?}");
            let lengths = head.request.headers().get_all("content-length").iter().count();
            assert!(lengths <= 1 && (framing != Framing::Chunked || lengths == 0), "{lines:?}");
        }
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding: \r\n",
            "X: a\r\n folded\r\n",
            "X: a\0\r\n",
        ] {
            assert_eq!(fields(lines).err(), Some(BadHead::Malformed), "{lines:?}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old).err(), Some(BadHead::Malformed));
    }

    #[test]
    fn what_follows_is_as_the_client_wants_it() {
        let asked = |text: &str| read(text).unwrap().unwrap().asked;
        for (version, lines, keeps_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: x, Close\r\n", false),
            ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let asked = asked(&format!("GET / HTTP/{version}\r\n{lines}\r\n"));
            assert_eq!((asked.keeps_alive, asked.is_http10), (keeps_alive, version == "1.0"), "{lines:?}");
        }
        let all = asked("HEAD / HTTP/1.1\r\nExpect: 100-Continue\r\nTE: deflate, trailers\r\n\r\n");
        assert!(all.expects_continue && all.takes_trailers && all.is_head);
        assert!(!asked("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    }

    #[test]
    fn bounds_are_told_apart() {
        let many = "x: y\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(fields(&many).err(), Some(BadHead::TooLarge));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_URI));
        assert_eq!(read(&long).err(), Some(BadHead::UriTooLong));
        assert_eq!(BadHead::UriTooLong.status(), 414);
    }

    #[test]
    fn empty_lines_in_front_are_counted() {
        for (text, len) in [("", 0), ("\r", 0), ("\r\n\n\r\nGET", 5), ("GET\r\n", 0), ("\r\r\n", 0)] {
            assert_eq!(blank(text.as_bytes()), len, "{text:?}");
        }
    }

    proptest! {
        /// A head ends where its end is looked for when it comes in pieces.
        #[test]
        fn there_is_one_end(text in "[A-Z]{1,3} /[a-z]{0,3} HTTP/1\\.[01](\r?\n[a-b]{1,2}: ?[a-z\t ]{0,4}){0,3}\r?\n\r?\n[a-z\r\n]{0,6}") {
            let text = Bytes::from(text);
            if let Ok(Some(head)) = read_head(&text) {
                prop_assert_eq!(super::super::codec::find_end(&text, 0), Some(head.length));
            }
        }

        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_head(&Bytes::copy_from_slice(&bytes));
        }
    }
}
