//! Keys and values as bytes, so that every question is one range scan.
//!
//! ```text
//! records        'g' region 0x00 group        → GroupMeta (JSON)
//!                's' group id | stream name   → StreamMeta (JSON)
//!                'n' stream id                → stream name
//!                'd' group id                → (nothing; a deleted group of which something is left)
//!                'c'                          → Counters (JSON)
//! events         group id  | timestamp | seq  → stream id | ingestion time | message
//! stream_events  stream id | timestamp | seq  → (nothing; the event is found under its group)
//! ```
//! Numbers are 8 bytes, big-endian, timestamps with the sign bit flipped: bytes then sort as numbers do.
//! Events live under their group because FilterLogEvents reads most; a stream's index holds keys only, and
//! GetLogEvents, at most 10,000 events, looks each one up.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::error::LogsError;

/// The next numbers to hand out. They are never used twice, not even after the store was cleared.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Of events: the order of arrival.
    pub(crate) next_seq: u64,
    /// Of groups and streams.
    pub(crate) next_id: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GroupMeta {
    pub(crate) id: u64,
    pub(crate) creation_time_ms: i64,
    pub(crate) stored_bytes: u64,
    /// How long events are kept; None is for good.
    #[serde(default)]
    pub(crate) retention_days: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StreamMeta {
    pub(crate) id: u64,
    pub(crate) creation_time_ms: i64,
    pub(crate) first_event_ms: Option<i64>,
    pub(crate) last_event_ms: Option<i64>,
    pub(crate) last_ingestion_ms: Option<i64>,
}

/// Where an event stands among those of its group, and of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) timestamp_ms: i64,
    pub(crate) seq: u64,
}

impl Position {
    /// Before every event.
    pub(crate) const MIN: Self = Self { timestamp_ms: 0, seq: 0 };
    /// After every event: this number of events never arrives.
    pub(crate) const MAX: Self = Self { timestamp_ms: i64::MAX, seq: u64::MAX };

    /// Before every event of this millisecond.
    pub(crate) fn start_of(timestamp_ms: i64) -> Self {
        Self { timestamp_ms, seq: 0 }
    }

    /// After every event of this millisecond.
    pub(crate) fn end_of(timestamp_ms: i64) -> Self {
        timestamp_ms.checked_add(1).map_or(Self::MAX, Self::start_of)
    }

    /// The first position after this one.
    pub(crate) fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self::end_of(self.timestamp_ms),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.timestamp_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        let high = u64::try_from(number >> 64).expect("64 bits remain");
        let low = u64::try_from(number & u128::from(u64::MAX)).expect("64 bits remain");
        Self { timestamp_ms: (high ^ (1 << 63)).cast_signed(), seq: low }
    }
}

pub(crate) const COUNTERS_KEY: &[u8] = b"c";

/// `name` may be the beginning of a name: the key is then the beginning of the keys.
pub(crate) fn group_key(region: &str, name: &str) -> Vec<u8> {
    [b"g", region.as_bytes(), &[0], name.as_bytes()].concat()
}

/// The name in a group's key.
pub(crate) fn group_name(key: &[u8]) -> Result<String, LogsError> {
    let separator =
        key.iter().position(|&b| b == 0).ok_or_else(|| LogsError::damaged("a log group's key"))?;
    text(&key[separator + 1..], "a log group's name")
}

/// `name` may be the beginning of a name.
pub(crate) fn stream_key(group_id: u64, name: &str) -> Vec<u8> {
    [b"s".as_slice(), &group_id.to_be_bytes(), name.as_bytes()].concat()
}

/// The name in a stream's key.
pub(crate) fn stream_name(key: &[u8]) -> Result<String, LogsError> {
    text(key.get(9..).unwrap_or_default(), "a log stream's name")
}

/// The key under which a stream's name is found by its id.
pub(crate) fn stream_name_key(stream_id: u64) -> Vec<u8> {
    [b"n".as_slice(), &stream_id.to_be_bytes()].concat()
}

/// The key under which a deleted group is noted.
pub(crate) fn deleted_key(group_id: u64) -> Vec<u8> {
    [b"d".as_slice(), &group_id.to_be_bytes()].concat()
}

/// The group id in such a key.
pub(crate) fn deleted_id(key: &[u8]) -> Result<u64, LogsError> {
    let bytes = key.get(1..).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| LogsError::damaged("a deleted log group's key"))
}

/// The key of an event under a group's or a stream's id.
pub(crate) fn event_key(owner_id: u64, position: Position) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&owner_id.to_be_bytes());
    key[8..].copy_from_slice(&position.to_bytes());
    key
}

/// The position in an event's key.
pub(crate) fn event_position(key: &[u8]) -> Result<Position, LogsError> {
    let bytes = key.get(8..).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Position::from_bytes).ok_or_else(|| LogsError::damaged("a log event's key"))
}

pub(crate) fn event_value(stream_id: u64, ingestion_time_ms: i64, message: &str) -> Vec<u8> {
    [&stream_id.to_be_bytes(), &ingestion_time_ms.to_be_bytes(), message.as_bytes()].concat()
}

/// A stored event, borrowed from its value.
pub(crate) struct EventValue<'a> {
    pub(crate) stream_id: u64,
    pub(crate) ingestion_time_ms: i64,
    pub(crate) message: &'a str,
}

impl<'a> EventValue<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Result<Self, LogsError> {
        let damaged = || LogsError::damaged("a log event");
        let (stream_id, rest) = value.split_first_chunk().ok_or_else(damaged)?;
        let (ingestion_time_ms, message) = rest.split_first_chunk().ok_or_else(damaged)?;
        Ok(Self {
            stream_id: u64::from_be_bytes(*stream_id),
            ingestion_time_ms: i64::from_be_bytes(*ingestion_time_ms),
            message: std::str::from_utf8(message).map_err(|_| damaged())?,
        })
    }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of numbers always serialize")
}

pub(crate) fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, LogsError> {
    serde_json::from_slice(bytes).map_err(LogsError::io("read a record of the log store"))
}

pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Every key that starts with `prefix`.
pub(crate) fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    let end = match prefix.iter().rposition(|&b| b != u8::MAX) {
        None => Bound::Unbounded,
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bound::Excluded(end)
        }
    };
    (Bound::Included(prefix), end)
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, LogsError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| LogsError::damaged(what))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use proptest::prelude::*;

    use super::*;

    fn positions() -> impl Strategy<Value = Position> {
        (any::<i64>(), any::<u64>()).prop_map(|(timestamp_ms, seq)| Position { timestamp_ms, seq })
    }

    proptest! {
        #[test]
        fn positions_sort_as_their_bytes(a in positions(), b in positions()) {
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Position::from_bytes(a.to_bytes()), a);
            prop_assert!(a.next() > a || a == Position::MAX);
        }

        #[test]
        fn a_prefix_range_holds_what_starts_with_it(
            prefix in proptest::collection::vec(250..=255u8, 0..4),
            key in proptest::collection::vec(250..=255u8, 0..6),
        ) {
            let range = prefix_range(prefix.clone());
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
        }

        #[test]
        fn events_come_back(stream_id: u64, time: i64, message: String) {
            let bytes = event_value(stream_id, time, &message);
            let value = EventValue::parse(&bytes).unwrap();
            prop_assert_eq!((value.stream_id, value.ingestion_time_ms, value.message), (stream_id, time, &*message));
        }
    }
}
