//! Whatever is appended, in whatever batches, comes back in the order (timestamp, arrival), page by page,
//! in both directions and through every way of selecting streams.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use coracle_logs::{FilterEvents, GetEvents, LogEvent, LogScope, LogStore};
use proptest::prelude::*;

const REGION: &str = "eu-central-1";

/// Opening a store takes longer than a case: all share one, each in a group of its own.
static STORE: LazyLock<(tempfile::TempDir, LogStore)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    (dir, store)
});
static CASES: AtomicU32 = AtomicU32::new(0);

/// A stream, a timestamp; few of each, so that they meet.
type Line = (u8, i64);

fn lines() -> impl Strategy<Value = Vec<Vec<Line>>> {
    let line = (0..3u8, 0..6i64);
    proptest::collection::vec(proptest::collection::vec(line, 0..8), 0..6)
}

fn stream_name(stream: u8) -> String {
    format!("stream-{stream}")
}

/// What the store should hold: (timestamp, stream, message), in order.
fn fill(store: &LogStore, group: &str, batches: &[Vec<Line>]) -> Vec<(i64, String, String)> {
    let mut expected = Vec::new();
    for batch in batches {
        let mut events = Vec::new();
        for &(stream, timestamp_ms) in batch {
            let message = format!("message {}", expected.len());
            let stream = stream_name(stream);
            let scope =
                LogScope { region: REGION.into(), group: group.into(), stream: stream.as_str().into() };
            events.push(LogEvent { scope, timestamp_ms, message: message.clone() });
            expected.push((timestamp_ms, stream, message));
        }
        store.append(events).unwrap();
    }
    // Stable: what has the same timestamp stays in the order of arrival.
    expected.sort_by_key(|(timestamp_ms, _, _)| *timestamp_ms);
    expected
}

fn read_stream(
    store: &LogStore,
    group: &str,
    stream: &str,
    limit: u32,
    is_forward: bool,
) -> Vec<(i64, String)> {
    let mut query = GetEvents {
        region: REGION.into(),
        group: group.into(),
        stream: stream.into(),
        start_from_head: is_forward,
        limit: Some(limit),
        ..GetEvents::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = store.get_events(&query).unwrap();
        let next = if is_forward { page.next_forward_token } else { page.next_backward_token };
        let events: Vec<_> =
            page.events.into_iter().map(|event| (event.timestamp_ms, event.message)).collect();
        assert_eq!(
            events.is_empty(),
            query.token.as_ref() == Some(&next),
            "the end is where the token stays"
        );
        if events.is_empty() {
            break;
        }
        pages.push(events);
        query.token = Some(next);
    }
    if !is_forward {
        pages.reverse();
    }
    pages.concat()
}

fn read_group(store: &LogStore, query: FilterEvents) -> Vec<(i64, String, String)> {
    let mut query = query;
    let mut events = Vec::new();
    loop {
        let page = store.filter_events(&query).unwrap();
        events.extend(
            page.events.into_iter().map(|event| (event.timestamp_ms, event.log_stream_name, event.message)),
        );
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            return events;
        }
    }
}

proptest! {
    #[test]
    fn events_come_back_in_order(batches in lines(), limit in 1..5u32, start in 0..6i64, end in 0..7i64, ) {
        let store = &STORE.1;
        let group = format!("group-{}", CASES.fetch_add(1, Ordering::Relaxed));
        let expected = fill(store, &group, &batches);
        if expected.is_empty() {
            return Ok(());
        }

        for stream in 0..3 {
            let name = stream_name(stream);
            let of_stream: Vec<_> = expected
                .iter()
                .filter(|(_, stream, _)| *stream == name)
                .map(|(time, _, message)| (*time, message.clone()))
                .collect();
            if !of_stream.is_empty() {
                prop_assert_eq!(&read_stream(store, &group, &name, limit, true), &of_stream);
                prop_assert_eq!(&read_stream(store, &group, &name, limit, false), &of_stream);
            }
        }

        let query = FilterEvents { region: REGION.into(), group, limit: Some(limit), ..FilterEvents::default() };
        prop_assert_eq!(&read_group(store, query.clone()), &expected);
        let by_prefix = FilterEvents { stream_name_prefix: Some("stream-".into()), ..query.clone() };
        prop_assert_eq!(&read_group(store, by_prefix), &expected);
        let in_range: Vec<_> = expected.iter().filter(|(time, _, _)| (start..=end).contains(time)).cloned().collect();
        let ranged = FilterEvents { start_ms: Some(start), end_ms: Some(end), ..query };
        prop_assert_eq!(&read_group(store, ranged), &in_range);
    }
}
