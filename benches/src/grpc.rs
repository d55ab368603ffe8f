//! Calls over gRPC, which is how etcd's own clients ask: one call at a time on a connection that is kept, with as much
//! of HTTP/2 as that takes, so that the client costs as little here as the one in [`crate::load`].

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Kinds of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

/// Flags of frames: the end of a stream, or in answer to settings and pings.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The longest frame there may be as long as nobody has agreed on longer ones.
const LONGEST: usize = 16 * 1024;

/// A connection for one call at a time.
pub(crate) struct Grpc {
    stream: TcpStream,
    authority: String,
    /// The stream of the next call: odd numbers, each used once.
    next: u32,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Grpc {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut output, kind::SETTINGS, 0, 0, &[]);
        // All answers of a bench together fit into two gigabytes; no further window is ever opened.
        frame(&mut output, kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        stream.write_all(&output).await?;
        Ok(Self { stream, authority: address.to_string(), next: 1, output, input: Vec::new() })
    }

    /// Calls a method, such as `/etcdserverpb.KV/Put`; the answer's message.
    pub(crate) async fn call(&mut self, method: &str, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let this = self.next;
        self.next += 2;
        self.output.clear();
        frame(&mut self.output, kind::HEADERS, END_HEADERS, this, &head(method, &self.authority)?);
        frame(&mut self.output, kind::DATA, END_STREAM, this, &with_length(message)?);
        self.stream.write_all(&self.output).await?;
        let mut answer = Vec::new();
        loop {
            let (kind, flags, of) = self.read_frame().await?;
            match kind {
                kind::SETTINGS | kind::PING if flags & ACK == 0 => {
                    self.output.clear();
                    let echo = if kind == kind::PING { &self.input[..] } else { &[] };
                    frame(&mut self.output, kind, ACK, 0, echo);
                    self.stream.write_all(&self.output).await?;
                }
                kind::GOAWAY => bail!("{method}: the server sent the connection away"),
                kind::RST_STREAM if of == this => bail!("{method}: the server ended the call"),
                kind::DATA if of == this => answer.extend_from_slice(&self.input),
                _ => {}
            }
            if of == this && matches!(kind, kind::DATA | kind::HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        // A call that failed has a status and no message.
        let message = answer.get(5..).with_context(|| format!("{method}: refused"))?;
        ensure!(with_length(message)? == answer, "{method}: a malformed message");
        Ok(message.to_vec())
    }

    /// Reads a frame's payload into `input`; its kind, flags and stream.
    async fn read_frame(&mut self) -> anyhow::Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, of @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c]))?;
        ensure!(length <= LONGEST, "a frame of {length} bytes");
        self.input.resize(length, 0);
        self.stream.read_exact(&mut self.input).await?;
        Ok((kind, flags, u32::from_be_bytes(of) & 0x7fff_ffff))
    }
}

/// Appends a frame. Nothing here is longer than a frame may be.
fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, of: u32, payload: &[u8]) {
    debug_assert!(payload.len() <= LONGEST, "a frame of {} bytes", payload.len());
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    output.extend_from_slice(&length[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&of.to_be_bytes());
    output.extend_from_slice(payload);
}

/// A call's head, without compression: names by their number in HPACK's table where they have one.
fn head(method: &str, authority: &str) -> anyhow::Result<Vec<u8>> {
    // POST and http, complete in the table.
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x04][..], method),
        (&[0x01], authority),
        // content-type is number 31, of which 15 fit into the first byte.
        (&[0x0f, 16], "application/grpc"),
        (b"\x00\x02te", "trailers"),
    ] {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
        head.extend_from_slice(name);
        head.push(length.with_context(|| format!("{value} is too long"))?);
        head.extend_from_slice(value.as_bytes());
    }
    Ok(head)
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn with_length(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[0][..], &length, message].concat())
}

/// A field of a message: bytes with a number below 16.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn fields_carry_their_length() {
        assert_eq!(field(1, b"ab"), [0x0a, 2, b'a', b'b']);
        let long = field(2, &[7; 300]);
        assert_eq!((&long[..3], long.len()), (&[0x12, 0xac, 0x02][..], 303));
    }

    #[test]
    fn a_head_names_the_method_and_the_host() {
        let head = head("/a.B/C", "x:1").unwrap();
        assert_eq!(head[..8], *b"\x83\x86\x04\x06/a.B");
        assert!(head.ends_with(b"\x00\x02te\x08trailers"));
        assert!(super::head(&"/".repeat(127), "x").is_err());
    }

    /// Answers every call by these frames on the call's stream.
    async fn server(frames: &'static [(u8, u8, &'static [u8])]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            let mut head = [0; 9];
            while stream.read_exact(&mut head).await.is_ok() {
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                stream.read_exact(&mut payload).await.unwrap();
                if (head[3], head[4]) != (kind::DATA, END_STREAM) {
                    continue;
                }
                let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let mut output = Vec::new();
                frame(&mut output, kind::SETTINGS, 0, 0, &[]);
                for (kind, flags, payload) in frames {
                    frame(&mut output, *kind, *flags, of, payload);
                }
                stream.write_all(&output).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_call_has_the_message_of_its_answer() {
        let parts: &[(u8, u8, &[u8])] = &[
            (kind::HEADERS, END_HEADERS, b"\x88"),
            (kind::DATA, 0, b"\0\0\0\0\x03a"),
            (kind::DATA, 0, b"bc"),
            (kind::HEADERS, END_HEADERS | END_STREAM, b"\x80"),
        ];
        let mut grpc = Grpc::connect(server(parts).await).await.unwrap();
        for _ in 0..3 {
            assert_eq!(grpc.call("/x.Y/Z", b"hello").await.unwrap(), b"abc");
        }
    }

    #[tokio::test]
    async fn a_call_that_fails_is_an_error() {
        let parts: &[(u8, u8, &[u8])] = &[(kind::HEADERS, END_HEADERS | END_STREAM, b"\x88")];
        let error = Grpc::connect(server(parts).await).await.unwrap().call("/x.Y/Z", b"").await.unwrap_err();
        assert_eq!(error.to_string(), "/x.Y/Z: refused");
        let parts: &[(u8, u8, &[u8])] = &[(kind::RST_STREAM, 0, &[0, 0, 0, 2])];
        let error = Grpc::connect(server(parts).await).await.unwrap().call("/x.Y/Z", b"").await.unwrap_err();
        assert_eq!(error.to_string(), "/x.Y/Z: the server ended the call");
    }
}
