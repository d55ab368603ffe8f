//! Plain frames: what `coracle exec` speaks, as the WebSocket subprotocol `coracle-exec`.
//!
//! Each binary message is one byte that says what it is, and the rest:
//!
//! ```text
//! client:  0 input      4 end of input
//! server:  1 output     2 error output     3 exit code (4 bytes, big endian)     5 why there is none (text)
//! ```
//!
//! The server closes the connection after a 3 or a 5. A client that goes away ends the command. Neither side
//! acknowledges anything: the connection keeps order, and whoever is slow makes the other wait.

use bytes::Bytes;
use tokio::time::Instant;

use super::{End, Protocol, Step};

/// The subprotocol's name.
pub(super) const NAME: &str = "coracle-exec";

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERROR_OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const NOT_RUN: u8 = 5;

/// The protocol. It has nothing to remember.
#[derive(Debug, Default)]
pub(super) struct Frames;

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

    fn receive(&mut self, message: &[u8], _now: Instant) -> Result<Vec<Step>, String> {
        match message.split_first() {
            Some((&INPUT, bytes)) => Ok(vec![Step::Input(Bytes::copy_from_slice(bytes))]),
            Some((&END_OF_INPUT, _)) => Ok(vec![Step::EndOfInput]),
            Some((kind, _)) => Err(format!("there are no frames of kind {kind}")),
            None => Err("a frame is empty".to_owned()),
        }
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
        let (mut frames, now) = (Frames, Instant::now());
        assert_eq!(frames.receive(b"\0hello", now), Ok(vec![Step::Input(Bytes::from_static(b"hello"))]));
        assert_eq!(frames.receive(b"\x04", now), Ok(vec![Step::EndOfInput]));
        assert!(frames.receive(b"", now).is_err() && frames.receive(b"\x01x", now).is_err());
        assert_eq!(frames.say(b"HELLO".to_vec(), false, now), [Step::Send(Bytes::from_static(b"\x01HELLO"))]);
        assert_eq!(frames.say(b"no".to_vec(), true, now), [Step::Send(Bytes::from_static(b"\x02no"))]);
        let end = frames.end(&End::Exited(7), now);
        assert_eq!(end, [Step::Send(Bytes::from_static(b"\x03\0\0\0\x07")), Step::Close]);
    }
}
