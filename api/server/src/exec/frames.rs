//! Plain frames: what `coracle exec` speaks, as the WebSocket subprotocol `coracle-exec`.
//!
//! Each binary message is one byte that says what it is, and the rest:
//!
//! ```text
//! client:  0 input      4 end of input
//! server:  1 output     2 error output     3 exit code (4 bytes, big endian)     5 why there is none (text)
//!          6 bytes of input the command has taken (4 bytes, big endian)
//! ```
//!
//! The server closes the connection after a 3 or a 5. A client that goes away ends the command. So that the server
//! notices also while the command reads nothing, it always reads, and the client keeps what the command has not
//! taken within 64 KiB. Nothing else is acknowledged: the connection keeps order, and a client that is slow makes
//! the command wait.

use bytes::Bytes;
use tokio::time::Instant;

use super::{End, INPUT_BYTES_MAX, Protocol, Step};

/// The subprotocol's name.
pub(super) const NAME: &str = "coracle-exec";

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERROR_OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const NOT_RUN: u8 = 5;
const TAKEN: u8 = 6;

/// The protocol.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes of input that came and that the command has not taken.
    waiting: usize,
}

fn frame(kind: u8, bytes: &[u8]) -> Step {
    let mut frame = Vec::with_capacity(1 + bytes.len());
    frame.push(kind);
    frame.extend(bytes);
    Step::Send(frame.into())
}

impl Protocol for Frames {
    fn begin(&mut self, _now: Instant) -> Vec<Step> {
        Vec::new()
    }

    fn receive(&mut self, message: &[u8], _now: Instant, _room: bool) -> Result<Vec<Step>, String> {
        match message.split_first() {
            Some((&INPUT, bytes)) => {
                self.waiting += bytes.len();
                if self.waiting > INPUT_BYTES_MAX {
                    return Err(format!("more than {INPUT_BYTES_MAX} bytes of input came untaken"));
                }
                Ok(vec![Step::Input(Bytes::copy_from_slice(bytes))])
            }
            Some((&END_OF_INPUT, _)) => Ok(vec![Step::EndOfInput]),
            Some((kind, _)) => Err(format!("there are no frames of kind {kind}")),
            None => Err("a frame is empty".to_owned()),
        }
    }

    fn taken(&mut self, bytes: usize) -> Vec<Step> {
        self.waiting = self.waiting.saturating_sub(bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        vec![frame(TAKEN, &bytes.to_be_bytes())]
    }

    fn has_room(&self) -> bool {
        true
    }

    fn say(&mut self, bytes: Vec<u8>, to_stderr: bool, _now: Instant) -> Vec<Step> {
        vec![frame(if to_stderr { ERROR_OUTPUT } else { OUTPUT }, &bytes)]
    }

    fn end(&mut self, end: &End, _now: Instant) -> Vec<Step> {
        let last = match end {
            End::Exited(code) => frame(EXIT, &code.to_be_bytes()),
            End::Failed(why) => frame(NOT_RUN, why.as_bytes()),
        };
        vec![last, Step::Close]
    }

    fn wakes_at(&self) -> Option<Instant> {
        None
    }

    fn wake(&mut self, _now: Instant) -> Vec<Step> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_a_kind_and_bytes() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        let input = frames.receive(b"\0hello", now, true);
        assert_eq!(input, Ok(vec![Step::Input(Bytes::from_static(b"hello"))]));
        assert_eq!(frames.taken(5), [Step::Send(Bytes::from_static(b"\x06\0\0\0\x05"))]);
        assert_eq!(frames.receive(b"\x04", now, true), Ok(vec![Step::EndOfInput]));
        assert!(frames.receive(b"", now, true).is_err() && frames.receive(b"\x01x", now, true).is_err());
        assert_eq!(frames.say(b"HELLO".to_vec(), false, now), [Step::Send(Bytes::from_static(b"\x01HELLO"))]);
        assert_eq!(frames.say(b"no".to_vec(), true, now), [Step::Send(Bytes::from_static(b"\x02no"))]);
        let end = frames.end(&End::Exited(7), now);
        assert_eq!(end, [Step::Send(Bytes::from_static(b"\x03\0\0\0\x07")), Step::Close]);
    }

    #[test]
    fn a_client_keeps_within_its_window() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        let mut half = vec![INPUT];
        half.resize(1 + INPUT_BYTES_MAX / 2, b'x');
        assert!(frames.receive(&half, now, true).is_ok() && frames.receive(&half, now, true).is_ok());
        frames.taken(INPUT_BYTES_MAX / 2);
        assert!(frames.receive(&half, now, true).is_ok());
        assert!(frames.receive(b"\0x", now, true).is_err());
    }
}
