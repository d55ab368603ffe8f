//! One message of AWS's data channel, as session-manager-plugin and the SSM agent write it.
//!
//! ```text
//!   0  header length: 116            4 bytes
//!   4  message type, blanks at end  32 bytes
//!  36  schema version: 1             4
//!  40  created, ms since the epoch   8
//!  48  sequence number               8
//!  56  flags: 1 first, 2 last        8
//!  64  message id: a UUID, its less significant half first   16
//!  80  SHA-256 of the payload       32
//! 112  payload type                  4
//! 116  payload length                4
//! 120  payload
//! ```
//!
//! Numbers are big endian. The layout is that of `src/message` in aws/session-manager-plugin.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Where the payload's length stands, which is what the header says for its own.
const HEADER_BYTES: usize = 116;
/// Where the payload begins, when the header has this length.
const PAYLOAD_AT: usize = HEADER_BYTES + 4;
const TYPE_BYTES: usize = 32;

/// What a message is.
pub(super) mod kind {
    pub(in crate::exec) const INPUT: &str = "input_stream_data";
    pub(in crate::exec) const OUTPUT: &str = "output_stream_data";
    pub(in crate::exec) const ACKNOWLEDGE: &str = "acknowledge";
    pub(in crate::exec) const CHANNEL_CLOSED: &str = "channel_closed";
}

/// What a payload is.
pub(super) mod payload {
    pub(in crate::exec) const NONE: u32 = 0;
    pub(in crate::exec) const OUTPUT: u32 = 1;
    pub(in crate::exec) const HANDSHAKE_REQUEST: u32 = 5;
    pub(in crate::exec) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(in crate::exec) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(in crate::exec) const FLAG: u32 = 10;
    /// The value of a [`FLAG`] that ends the session.
    pub(in crate::exec) const FLAG_TERMINATE: u32 = 2;
}

/// The first of a stream.
pub(super) const FLAG_FIRST: u64 = 1;
/// The last of a stream.
pub(super) const FLAG_LAST: u64 = 2;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentMessage {
    pub(super) kind: String,
    pub(super) created_ms: u64,
    pub(super) sequence: i64,
    pub(super) flags: u64,
    pub(super) id: Uuid,
    pub(super) payload_type: u32,
    pub(super) payload: Vec<u8>,
}

impl AgentMessage {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAYLOAD_AT + self.payload.len());
        // None of the lengths comes near 4 GiB.
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        bytes.extend(length(HEADER_BYTES));
        bytes.extend(self.kind.bytes().chain(std::iter::repeat(b' ')).take(TYPE_BYTES));
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(self.created_ms.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        let (more, less) = self.id.as_u64_pair();
        bytes.extend(less.to_be_bytes());
        bytes.extend(more.to_be_bytes());
        bytes.extend(Sha256::digest(&self.payload));
        bytes.extend(self.payload_type.to_be_bytes());
        bytes.extend(length(self.payload.len()));
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is too short, or its parts contradict each other; the text says how.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let header = u32::from_be_bytes(array(bytes, 0)?) as usize;
        if header < HEADER_BYTES {
            return Err(format!("a message's header of {header} bytes is too short"));
        }
        let length = u32::from_be_bytes(array(bytes, header)?) as usize;
        let payload = bytes.get(header + 4..).unwrap_or_default();
        if payload.len() != length {
            return Err(format!("a message has {} bytes of payload and says {length}", payload.len()));
        }
        if length > 0 && Sha256::digest(payload)[..] != array::<32>(bytes, 80)? {
            return Err("the digest of a message's payload is another".to_owned());
        }
        let kind =
            String::from_utf8_lossy(&array::<TYPE_BYTES>(bytes, 4)?).trim_matches(['\0', ' ']).to_owned();
        let (less, more) = (u64::from_be_bytes(array(bytes, 64)?), u64::from_be_bytes(array(bytes, 72)?));
        Ok(Self {
            kind,
            created_ms: u64::from_be_bytes(array(bytes, 40)?),
            sequence: i64::from_be_bytes(array(bytes, 48)?),
            flags: u64::from_be_bytes(array(bytes, 56)?),
            id: Uuid::from_u64_pair(more, less),
            payload_type: u32::from_be_bytes(array(bytes, 112)?),
            payload: payload.to_vec(),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end));
    let short = || format!("a message of {} bytes is too short", bytes.len());
    found.and_then(|found| found.try_into().ok()).ok_or_else(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> AgentMessage {
        AgentMessage {
            kind: kind::INPUT.to_owned(),
            created_ms: 1_733_702_400_123,
            sequence: 5,
            flags: FLAG_FIRST,
            id: "01234567-89ab-cdef-fedc-ba9876543210".parse().unwrap(),
            payload_type: payload::OUTPUT,
            payload: b"ls\r".to_vec(),
        }
    }

    #[test]
    fn the_layout_is_that_of_the_plugin() {
        let bytes = message().encode();
        assert_eq!(bytes.len(), 123);
        assert_eq!(bytes[..4], [0, 0, 0, 116]);
        assert_eq!(&bytes[4..36], b"input_stream_data               ");
        assert_eq!(bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(bytes[48..56], [0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(bytes[64..72], [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10]);
        assert_eq!(bytes[112..120], [0, 0, 0, 1, 0, 0, 0, 3]);
        assert_eq!(&bytes[120..], b"ls\r");
        assert_eq!(AgentMessage::decode(&bytes), Ok(message()));
    }

    #[test]
    fn what_is_cut_or_altered_is_refused() {
        let bytes = message().encode();
        for end in 0..bytes.len() {
            assert!(AgentMessage::decode(&bytes[..end]).is_err(), "{end}");
        }
        for (at, with) in [(0, 0xff), (3, 20), (119, 9), (120, b'x'), (90, !bytes[90])] {
            let mut altered = bytes.clone();
            altered[at] = with;
            assert!(AgentMessage::decode(&altered).is_err(), "{at}");
        }
    }
}
