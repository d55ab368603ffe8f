//! The head of a response, as a server writes it. A response in, bytes out.
//!
//! It is framed by what its body is and by what its client understands, whatever its headers claim: by a length if that
//! is known, by chunks if not, and for clients of HTTP/1.0 by the end of the connection.

use http::header::{self, HeaderMap, HeaderName};
use http::response::Parts;
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::codec::{has_token, write_field, write_length};
use super::date;
use super::request::Asked;
use crate::headers::{parse_length, tokens};

/// How the body of a response is framed, and what is left of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// So many bytes are still to come.
    Length(u64),
    /// The trailers that are announced and may be sent.
    Chunked(Vec<HeaderName>),
    /// The end of the connection ends it.
    UntilClose,
}

/// What is known of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    Nothing,
    /// Its length, if that is known.
    Some(Option<u64>),
}

/// Writes a response's head. Gives how its body is to follow, and whether the connection goes on behind it; it doesn't,
/// whatever else is said, unless it `may_go_on`.
pub(super) fn write_head(
    parts: &Parts,
    content: Content,
    asked: Asked,
    may_go_on: bool,
    output: &mut Vec<u8>,
) -> (Sending, bool) {
    let size = |(name, value): (&HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 4;
    output.reserve(160 + parts.headers.iter().map(size).sum::<usize>());
    write_status(parts, asked, output);
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let mut closes = false;
    let mut has_date = false;
    for (name, value) in &parts.headers {
        match *name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING => {}
            header::CONNECTION if !switches => closes |= has_token(value, b"close"),
            header::TRAILER if asked.is_http10 => {}
            _ => {
                has_date |= *name == header::DATE;
                write_field(name, value, output);
            }
        }
    }
    let sending = write_framing(parts, content, asked, output);
    let goes_on = may_go_on && asked.keeps_alive && !closes && !switches && sending != Sending::UntilClose;
    match (goes_on, asked.is_http10) {
        (false, false) if !switches => output.extend_from_slice(b"connection: close\r\n"),
        (true, true) => output.extend_from_slice(b"connection: keep-alive\r\n"),
        _ => {}
    }
    if !has_date {
        output.extend_from_slice(b"date: ");
        output.extend_from_slice(&date::now());
        output.extend_from_slice(b"\r\n");
    }
    output.extend_from_slice(b"\r\n");
    (sending, goes_on)
}

fn write_status(parts: &Parts, asked: Asked, output: &mut Vec<u8>) {
    output.extend_from_slice(if asked.is_http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    output.extend_from_slice(parts.status.as_str().as_bytes());
    output.push(b' ');
    let reason = match parts.extensions.get::<ReasonPhrase>() {
        Some(own) => own.as_bytes(),
        None => parts.status.canonical_reason().unwrap_or("Unknown").as_bytes(),
    };
    output.extend_from_slice(reason);
    output.extend_from_slice(b"\r\n");
}

fn write_framing(parts: &Parts, content: Content, asked: Asked, output: &mut Vec<u8>) -> Sending {
    let claimed = || parts.headers.get(header::CONTENT_LENGTH);
    let has_no_length = parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = match content {
        _ if has_no_length => return Sending::Length(0),
        // The length of what a GET would be answered with.
        _ if asked.is_head => {
            if let Some(claimed) = claimed() {
                write_field(&header::CONTENT_LENGTH, claimed, output);
            }
            return Sending::Length(0);
        }
        Content::Nothing => Some(0),
        Content::Some(Some(length)) => Some(length),
        Content::Some(None) => claimed().and_then(|claimed| parse_length(claimed.as_bytes())),
    };
    match length {
        Some(length) => {
            write_length(length, output);
            Sending::Length(length)
        }
        None if asked.is_http10 => Sending::UntilClose,
        None => {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Sending::Chunked(if asked.takes_trailers { announced(&parts.headers) } else { Vec::new() })
        }
    }
}

/// The names in `Trailer`.
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.get_all(header::TRAILER).iter().flat_map(tokens);
    names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Writes the answer to what is no request. The connection ends behind it.
pub(super) fn write_refusal(status: StatusCode, output: &mut Vec<u8>) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    write_head(&response.into_parts().0, Content::Nothing, Asked::default(), false, output);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Asked = Asked {
        is_http10: false,
        is_head: false,
        keeps_alive: true,
        expects_continue: false,
        takes_trailers: false,
    };

    /// What is written of a response, without its date.
    fn written(response: http::response::Builder, content: Content, asked: Asked) -> (String, Sending, bool) {
        let mut output = Vec::new();
        let parts = response.body(()).unwrap().into_parts().0;
        let (sending, goes_on) = write_head(&parts, content, asked, true, &mut output);
        let text = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("date: ")).collect();
        assert_eq!(lines.len() + 1, text.lines().count(), "there is one date in {text:?}");
        (lines.join("|"), sending, goes_on)
    }

    #[test]
    fn bodies_are_framed_by_what_they_are() {
        let ok = || Response::builder().header("content-length", "9").header("x", "y");
        let old = Asked { is_http10: true, keeps_alive: false, ..GET };
        let unknown = Content::Some(None);
        for (response, content, asked, text, sending, goes_on) in [
            (ok(), Content::Some(Some(5)), GET, "x: y|content-length: 5|", Sending::Length(5), true),
            (ok(), unknown, GET, "x: y|content-length: 9|", Sending::Length(9), true),
            (ok(), Content::Nothing, GET, "x: y|content-length: 0|", Sending::Length(0), true),
            (
                Response::builder(),
                unknown,
                GET,
                "transfer-encoding: chunked|",
                Sending::Chunked(vec![]),
                true,
            ),
        ] {
            let expected = (format!("HTTP/1.1 200 OK|{text}"), sending, goes_on);
            assert_eq!(written(response, content, asked), expected);
        }
        let head = Asked { is_head: true, ..GET };
        assert_eq!(written(ok(), Content::Nothing, head).0, "HTTP/1.1 200 OK|x: y|content-length: 9|");
        let (text, sending, goes_on) = written(Response::builder(), unknown, old);
        assert_eq!((text.as_str(), sending, goes_on), ("HTTP/1.0 200 OK|", Sending::UntilClose, false));
        let kept = Asked { keeps_alive: true, ..old };
        let (text, _, goes_on) = written(ok(), Content::Some(Some(1)), kept);
        assert!(goes_on && text.ends_with("|content-length: 1|connection: keep-alive|"), "{text}");
        for status in [204, 304] {
            let (text, sending, _) = written(ok().status(status), Content::Nothing, GET);
            assert!(sending == Sending::Length(0) && !text.contains("content-length"), "{text}");
        }
    }

    #[test]
    fn the_connection_is_ours_to_say() {
        let closing = Response::builder().status(418).header("connection", "close");
        let (text, _, goes_on) = written(closing, Content::Nothing, GET);
        assert_eq!(
            (text.as_str(), goes_on),
            ("HTTP/1.1 418 I'm a teapot|content-length: 0|connection: close|", false)
        );
        let switching = Response::builder().status(101).header("connection", "upgrade");
        let (text, sending, goes_on) = written(switching, Content::Nothing, GET);
        assert_eq!(text, "HTTP/1.1 101 Switching Protocols|connection: upgrade|");
        assert_eq!((sending, goes_on), (Sending::Length(0), false));
    }

    #[test]
    fn trailers_are_those_announced_to_who_takes_them() {
        let response = || Response::builder().header("trailer", "X-Sum, x-b");
        let taking = Asked { takes_trailers: true, ..GET };
        let names = |asked| match written(response(), Content::Some(None), asked).1 {
            Sending::Chunked(names) => names,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (names(taking), names(GET)),
            (vec!["x-sum".parse().unwrap(), "x-b".parse().unwrap()], vec![])
        );
    }
}
