//! What both sides of HTTP/1.1 read and write alike (RFC 9112): fields, where heads and bodies end, chunks. Bytes in,
//! bytes out: knows neither sockets nor tasks, nor whose message it is.
//!
//! What is read is held to one reading: a chunk that is none is an error, and never guessed at.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use crate::headers::tokens;

/// Fields of a message's head, and of its trailers.
pub(crate) const MAX_FIELDS: usize = 100;

/// Bytes of the line before a chunk, which may have extensions nobody needs.
const MAX_CHUNK_LINE: usize = 1024;

/// Bytes of the section behind the last chunk.
const MAX_TRAILERS: usize = 16 * 1024;

/// What could not be understood of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("its head is too large")]
    HeadTooLarge,
    #[error("{0}")]
    Malformed(&'static str),
}

use Unreadable::Malformed;

/// A body that is not as long as the head of its message, a request or a response, has claimed.
#[derive(Debug, thiserror::Error)]
#[error("the {0}'s body is {1} than its Content-Length")]
pub(crate) struct WrongLength(pub(crate) &'static str, pub(crate) &'static str);

/// How the body of a message is framed by whoever knows that when the head is written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

pub(crate) fn write_field(name: &HeaderName, value: &HeaderValue, output: &mut Vec<u8>) {
    output.extend_from_slice(name.as_str().as_bytes());
    output.extend_from_slice(b": ");
    output.extend_from_slice(value.as_bytes());
    output.extend_from_slice(b"\r\n");
}

/// Writes `Content-Length`.
pub(crate) fn write_length(length: u64, output: &mut Vec<u8>) {
    output.extend_from_slice(b"content-length: ");
    write_number::<10>(length, output);
    output.extend_from_slice(b"\r\n");
}

/// Writes a number to this base, of 16 at most. The general formatter takes several times as long, and this is done for
/// every message.
fn write_number<const BASE: u64>(mut number: u64, output: &mut Vec<u8>) {
    // As many as a number has to base 10.
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[first..]);
}

/// Writes the line before a chunk. Behind the chunk comes a line's end.
pub(crate) fn write_chunk_line(length: usize, output: &mut Vec<u8>) {
    write_number::<16>(length as u64, output);
    output.extend_from_slice(b"\r\n");
}

/// Writes what ends a chunked body.
pub(crate) fn write_last_chunk(trailers: &HeaderMap, output: &mut Vec<u8>) {
    output.extend_from_slice(b"0\r\n");
    trailers.iter().for_each(|(name, value)| write_field(name, value, output));
    output.extend_from_slice(b"\r\n");
}

/// Whether a list such as that of `Connection` has this word.
pub(crate) fn has_token(list: &HeaderValue, wanted: &[u8]) -> bool {
    tokens(list).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// Where a head in `bytes` ends, if it does. Up to `seen` there was no end when it was last looked for.
pub(crate) fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let mut at = seen.saturating_sub(3);
    while let Some(newline) = find_newline(bytes, at) {
        at = newline + 1;
        // A line's end may lack its carriage return (RFC 9112, 2.2).
        match &bytes[at..] {
            [b'\r', b'\n', ..] => return Some(at + 2),
            [b'\n', ..] => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The first line feed in `bytes` that is not before `from`. Eight bytes are looked at together: where they are one, less
/// than nothing is left of it when one is taken off, and that shows in its highest bit.
fn find_newline(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_le_bytes([0x80; 8]);
    let mut at = from.min(bytes.len());
    while let Some(eight) = bytes[at..].first_chunk() {
        let differing = u64::from_le_bytes(*eight) ^ u64::from_le_bytes([b'\n'; 8]);
        // A byte behind the first that fits may be taken for one as well; the first is the lowest.
        let fitting = differing.wrapping_sub(ONES) & !differing & HIGHEST;
        if fitting != 0 {
            return Some(at + (fitting.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b'\n').map(|behind| at + behind)
}

/// Where a body ends, and how far it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    /// Until the other side closes the connection.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Line,
    Data(u64),
    LineEnd,
    Trailers,
    Nothing,
}

impl Decoder {
    pub(crate) fn lasts_until_close(&self) -> bool {
        *self == Self::UntilClose
    }

    /// Whether all of the body was read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Nothing))
    }

    /// How long the rest of the body is, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(Chunk::Nothing) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next part of the body out of `input`; `None` if there must be more bytes for that.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unreadable> {
        match self {
            Self::Length(left) => Ok(take(left, input)),
            Self::Chunked(chunk) => chunk.decode(input),
            Self::UntilClose => Ok((!input.is_empty()).then(|| Frame::data(input.split().freeze()))),
        }
    }
}

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
    use proptest::prelude::*;

    use super::*;

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
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 16, 255, 4096, u64::MAX] {
            let (mut decimal, mut hexadecimal) = (Vec::new(), Vec::new());
            write_number::<10>(number, &mut decimal);
            write_number::<16>(number, &mut hexadecimal);
            assert_eq!(String::from_utf8(decimal).unwrap(), number.to_string());
            assert_eq!(String::from_utf8(hexadecimal).unwrap(), format!("{number:x}"));
        }
    }

    #[test]
    fn a_heads_end_is_found_wherever_reading_stopped() {
        for text in ["A B C\r\na: b\r\n\r\n", "A B C\na: b\n\n", "A B C\r\na: b\n\r\n"] {
            for seen in 0..text.len() {
                let with_body = format!("{text}\n\r\n");
                assert_eq!(find_end(&text.as_bytes()[..seen], 0), None, "{text:?} {seen}");
                assert_eq!(find_end(with_body.as_bytes(), seen), Some(text.len()), "{text:?} {seen}");
            }
        }
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
        fn line_feeds_are_found_eight_bytes_at_once(
            bytes in prop::collection::vec(prop_oneof![8..13_u8, any::<u8>(), Just(0x8a_u8)], 0..40),
            from in 0_usize..41,
        ) {
            let plainly = bytes.iter().enumerate().skip(from).find(|(_, byte)| **byte == b'\n');
            prop_assert_eq!(find_newline(&bytes, from), plainly.map(|(at, _)| at));
        }

        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            let _ = decoded(Decoder::Chunked(Chunk::Line), &bytes, step);
        }
    }
}
