//! The four questions, asked of a store in a real directory.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use coracle_logs::{
    DescribeGroups, DescribeStreams, EVENT_BYTES_MAX, FilterEvents, GetEvents, LogEvent, LogScope, LogStore,
    LogsError, OrderBy, Swept,
};

const REGION: &str = "us-east-1";
const GROUP: &str = "/ecs/web-app";

struct Fixture {
    dir: tempfile::TempDir,
    store: LogStore,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&dir.path().join("logs")).unwrap();
    Fixture { dir, store }
}

fn scope(stream: &str) -> LogScope {
    LogScope { region: REGION.into(), group: GROUP.into(), stream: stream.into() }
}

fn event(stream: &str, timestamp_ms: i64, message: &str) -> LogEvent {
    LogEvent { scope: scope(stream), timestamp_ms, message: message.to_owned() }
}

fn get(stream: &str) -> GetEvents {
    GetEvents {
        region: REGION.into(),
        group: GROUP.into(),
        stream: stream.into(),
        start_from_head: true,
        ..GetEvents::default()
    }
}

fn filter() -> FilterEvents {
    FilterEvents { region: REGION.into(), group: GROUP.into(), ..FilterEvents::default() }
}

impl Fixture {
    fn get(&self, query: &GetEvents) -> (String, String, String) {
        let page = self.store.get_events(query).unwrap();
        let messages: Vec<_> = page.events.iter().map(|event| event.message.as_str()).collect();
        (messages.join(" "), page.next_forward_token, page.next_backward_token)
    }

    fn filter(&self, query: &FilterEvents) -> (String, Option<String>) {
        let page = self.store.filter_events(query).unwrap();
        let messages: Vec<_> = page.events.iter().map(|event| event.message.as_str()).collect();
        (messages.join(" "), page.next_token)
    }

    /// The store as another process would find it had this one been killed now.
    fn after_a_kill(&self) -> (tempfile::TempDir, LogStore) {
        let dir = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("cp")
            .arg("-r")
            .args([self.dir.path().join("logs"), dir.path().join("logs")])
            .status()
            .unwrap();
        assert!(status.success());
        let store = LogStore::open(&dir.path().join("logs")).unwrap();
        (dir, store)
    }
}

#[track_caller]
fn check_invalid<T: std::fmt::Debug>(result: Result<T, LogsError>, expected: &str) {
    match result.unwrap_err() {
        LogsError::InvalidParameter(text) => assert!(text.contains(expected), "{text}"),
        other => panic!("{other}"),
    }
}

#[test]
fn events_come_by_timestamp_then_arrival() {
    let f = fixture();
    f.store.append(vec![event("s", 20, "c"), event("s", 10, "a"), event("s", 20, "d")]).unwrap();
    f.store.append(vec![event("s", 10, "b"), event("s", 20, "e")]).unwrap();
    assert_eq!(f.get(&get("s")).0, "a b c d e");
    assert_eq!(f.filter(&filter()).0, "a b c d e");
}

#[test]
fn start_is_inclusive_and_end_is_exclusive_except_for_filter() {
    let f = fixture();
    f.store.append((1..=5).map(|n| event("s", n, &n.to_string())).collect()).unwrap();
    assert_eq!(f.get(&GetEvents { start_ms: Some(2), end_ms: Some(4), ..get("s") }).0, "2 3");
    assert_eq!(f.get(&GetEvents { start_ms: Some(4), end_ms: Some(2), ..get("s") }).0, "");
    assert_eq!(f.get(&GetEvents { start_ms: Some(i64::MAX), ..get("s") }).0, "");
    assert_eq!(f.filter(&FilterEvents { start_ms: Some(2), end_ms: Some(4), ..filter() }).0, "2 3 4");
    assert_eq!(f.filter(&FilterEvents { start_ms: Some(4), end_ms: Some(2), ..filter() }).0, "");
    assert_eq!(f.filter(&FilterEvents { end_ms: Some(i64::MAX), ..filter() }).0, "1 2 3 4 5");
}

#[test]
fn reading_forward_ends_with_the_same_token_and_goes_on_later() {
    let f = fixture();
    f.store.append((1..=5).map(|n| event("s", n, &n.to_string())).collect()).unwrap();
    let page = |token: Option<String>| f.get(&GetEvents { limit: Some(2), token, ..get("s") });
    let (first, t1, back) = page(None);
    assert_eq!(first, "1 2");
    assert!(t1.starts_with("f/") && back.starts_with("b/"));
    let (second, t2, _) = page(Some(t1.clone()));
    assert_eq!(second, "3 4");
    let (third, t3, back) = page(Some(t2));
    assert_eq!(third, "5");
    let (end, t4, _) = page(Some(t3.clone()));
    assert_eq!((end.as_str(), &t4), ("", &t3));
    // Back from where the last page began.
    assert_eq!(page(Some(back)).0, "3 4");

    f.store.append(vec![event("s", 6, "6")]).unwrap();
    assert_eq!(page(Some(t3)).0, "6");
    assert_eq!(page(Some(t1)).0, "3 4");
}

#[test]
fn reading_backward_starts_with_the_newest() {
    let f = fixture();
    f.store.append((1..=5).map(|n| event("s", n, &n.to_string())).collect()).unwrap();
    let page = |token: Option<String>| {
        f.get(&GetEvents { limit: Some(2), token, start_from_head: false, ..get("s") })
    };
    let (first, forward, t1) = page(None);
    assert_eq!(first, "4 5");
    assert_eq!(page(Some(forward)).0, "");
    let (second, forward, t2) = page(Some(t1));
    assert_eq!(second, "2 3");
    assert_eq!(page(Some(forward)).0, "4 5");
    let (third, _, t3) = page(Some(t2));
    assert_eq!(third, "1");
    let (end, forward, t4) = page(Some(t3.clone()));
    assert_eq!((end.as_str(), &t4), ("", &t3));
    assert_eq!(page(Some(forward)).0, "1 2");
}

#[test]
fn a_token_of_an_empty_stream_finds_what_comes_later() {
    let f = fixture();
    f.store.create_group(REGION, GROUP).unwrap();
    f.store.create_stream(&scope("s")).unwrap();
    for start_from_head in [true, false] {
        let query = GetEvents { start_from_head, start_ms: Some(5), ..get("s") };
        let (nothing, forward, backward) = f.get(&query);
        assert_eq!(nothing, "");
        assert_eq!(f.get(&GetEvents { token: Some(forward.clone()), ..query.clone() }).1, forward);
        assert_eq!(f.get(&GetEvents { token: Some(backward.clone()), ..query.clone() }).2, backward);
        f.store.append(vec![event("s", 4, "early"), event("s", 7, "late")]).unwrap();
        assert!(f.get(&GetEvents { token: Some(forward), ..query.clone() }).0.starts_with("late"));
        f.store.clear().unwrap();
        f.store.create_group(REGION, GROUP).unwrap();
        f.store.create_stream(&scope("s")).unwrap();
    }
}

#[test]
fn tokens_of_other_questions_and_bad_limits_are_refused() {
    let f = fixture();
    f.store.append(vec![event("s", 1, "a"), event("t", 1, "b"), event("s", 2, "c")]).unwrap();
    let (_, forward, _) = f.get(&get("s"));
    for token in [forward.clone(), "f/".into(), "x/AAAA".into(), "f/§".into(), forward.replace("f/", "")] {
        check_invalid(
            f.store.get_events(&GetEvents { token: Some(token), ..get("t") }),
            "nextToken is invalid",
        );
    }
    let (_, next_token) = f.filter(&FilterEvents { limit: Some(1), ..filter() });
    assert!(next_token.is_some());
    let other = FilterEvents { next_token, pattern: Some("x".into()), ..filter() };
    check_invalid(f.store.filter_events(&other), "nextToken is invalid");

    check_invalid(
        f.store.get_events(&GetEvents { limit: Some(0), ..get("s") }),
        "greater than or equal to 1",
    );
    check_invalid(
        f.store.get_events(&GetEvents { limit: Some(10_001), ..get("s") }),
        "less than or equal to 10000",
    );
    check_invalid(f.store.get_events(&GetEvents { start_ms: Some(-1), ..get("s") }), "startTime");
    check_invalid(f.store.filter_events(&FilterEvents { limit: Some(0), ..filter() }), "'limit'");
    check_invalid(f.store.filter_events(&FilterEvents { end_ms: Some(-1), ..filter() }), "endTime");
    check_invalid(
        f.store.filter_events(&FilterEvents { pattern: Some("{ $.a = 1 }".into()), ..filter() }),
        "JSON",
    );
}

#[test]
fn what_does_not_exist_is_said_to() {
    let f = fixture();
    f.store.append(vec![event("s", 1, "a")]).unwrap();
    let group = String::from("other");
    assert!(matches!(
        f.store.get_events(&GetEvents { group: group.clone(), ..get("s") }),
        Err(LogsError::NoSuchGroup)
    ));
    assert!(matches!(f.store.get_events(&get("t")), Err(LogsError::NoSuchStream)));
    assert!(matches!(
        f.store.filter_events(&FilterEvents { group, ..filter() }),
        Err(LogsError::NoSuchGroup)
    ));
    let names = vec!["s".to_owned(), "t".to_owned()];
    assert!(matches!(
        f.store.filter_events(&FilterEvents { stream_names: names, ..filter() }),
        Err(LogsError::NoSuchStream)
    ));
    // A group belongs to its region.
    let elsewhere = GetEvents { region: "eu-west-1".into(), ..get("s") };
    assert!(matches!(f.store.get_events(&elsewhere), Err(LogsError::NoSuchGroup)));
    assert!(matches!(
        f.store.create_group(REGION, GROUP),
        Err(LogsError::AlreadyExists { what: "log group" })
    ));
    assert!(matches!(
        f.store.create_stream(&scope("s")),
        Err(LogsError::AlreadyExists { what: "log stream" })
    ));
    let nowhere = LogScope { group: "other".into(), ..scope("s") };
    assert!(matches!(f.store.create_stream(&nowhere), Err(LogsError::NoSuchGroup)));
    check_invalid(f.store.create_group(REGION, "a b"), "logGroupName");
    check_invalid(f.store.append(vec![event("t", 1, "a"), event("a:b", 1, "b")]), "logStreamName");
    assert!(matches!(f.store.get_events(&get("t")), Err(LogsError::NoSuchStream)), "nothing was appended");
}

#[test]
fn filter_interleaves_streams() {
    let f = fixture();
    f.store
        .append(vec![
            event("a/1", 1, "a1"),
            event("a/2", 2, "b2"),
            event("b", 2, "c2"),
            event("a/1", 3, "a3"),
        ])
        .unwrap();
    assert_eq!(f.filter(&filter()).0, "a1 b2 c2 a3");
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(f.filter(&FilterEvents { stream_names: names(&["b", "a/1"]), ..filter() }).0, "a1 c2 a3");
    assert_eq!(f.filter(&FilterEvents { stream_names: names(&["b", "b"]), ..filter() }).0, "c2");
    let by_prefix = |prefix: &str| FilterEvents { stream_name_prefix: Some(prefix.into()), ..filter() };
    assert_eq!(f.filter(&by_prefix("a/")).0, "a1 b2 a3");
    assert_eq!(f.filter(&by_prefix("")).0, "a1 b2 c2 a3");
    assert_eq!(f.filter(&by_prefix("nothing")), (String::new(), None));
    check_invalid(
        f.store.filter_events(&FilterEvents { stream_names: names(&["b"]), ..by_prefix("a") }),
        "both",
    );
    check_invalid(
        f.store.filter_events(&FilterEvents { stream_names: vec!["b".into(); 101], ..filter() }),
        "100",
    );

    let page = f.store.filter_events(&filter()).unwrap();
    let ids: Vec<_> = page.events.iter().map(|event| event.event_id.clone()).collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 56), "{ids:?}");
    assert_eq!(page.events[1].log_stream_name, "a/2");
    assert!(page.events[1].ingestion_time_ms > 1_600_000_000_000);
}

#[test]
fn a_prefix_of_many_streams_reads_the_group() {
    let f = fixture();
    let mut batch: Vec<_> = (0..150).map(|n| event(&format!("many/{n}"), n, "x")).collect();
    batch.push(event("other", 3, "y"));
    f.store.append(batch).unwrap();
    let query = FilterEvents { stream_name_prefix: Some("many/".into()), limit: Some(100), ..filter() };
    let first = f.store.filter_events(&query).unwrap();
    let second = f.store.filter_events(&FilterEvents { next_token: first.next_token, ..query }).unwrap();
    assert_eq!((first.events.len(), second.events.len(), second.next_token), (100, 50, None));
    let mut events = first.events.iter().chain(&second.events);
    assert!(events.all(|event| event.message == "x" && event.log_stream_name.starts_with("many/")));
}

#[test]
fn filter_pages_and_patterns() {
    let f = fixture();
    f.store
        .append(
            (0..10)
                .map(|n| event("s", n, &format!("{}{n}", if n % 2 == 0 { "GET" } else { "PUT" })))
                .collect(),
        )
        .unwrap();
    let query = FilterEvents { pattern: Some("GET -GET4".into()), limit: Some(3), ..filter() };
    let (first, next_token) = f.filter(&query);
    assert_eq!(first, "GET0 GET2 GET6");
    assert_eq!(f.filter(&FilterEvents { next_token, ..query }), ("GET8".into(), None));
    assert_eq!(f.filter(&FilterEvents { pattern: Some("?GET1 ?PUT1".into()), ..filter() }).0, "PUT1");
}

#[test]
fn a_search_that_finds_nothing_for_long_answers_with_a_token() {
    let f = fixture();
    for start in 0..21 {
        f.store.append((0..5000).map(|n| event("s", start * 5000 + n, "hay")).collect()).unwrap();
    }
    f.store.append(vec![event("s", 200_000, "needle")]).unwrap();
    let query = FilterEvents { pattern: Some("needle".into()), ..filter() };
    let (first, next_token) = f.filter(&query);
    assert!(first.is_empty() && next_token.is_some());
    assert_eq!(f.filter(&FilterEvents { next_token, ..query }), ("needle".into(), None));
}

#[test]
fn a_page_holds_a_mebibyte_and_at_least_one_event() {
    let f = fixture();
    let message = "x".repeat(EVENT_BYTES_MAX);
    f.store.append((0..6).map(|n| event("s", n, &message)).collect()).unwrap();
    let mut token = None;
    let mut sizes = Vec::new();
    loop {
        let page = f.store.get_events(&GetEvents { token: token.clone(), ..get("s") }).unwrap();
        if page.events.is_empty() {
            break;
        }
        sizes.push(page.events.len());
        token = Some(page.next_forward_token);
    }
    assert_eq!(sizes, [3, 3]);
    let first = f.store.filter_events(&filter()).unwrap();
    let second = f.store.filter_events(&FilterEvents { next_token: first.next_token, ..filter() }).unwrap();
    assert_eq!((first.events.len(), second.events.len(), second.next_token), (3, 3, None));
}

#[test]
fn long_and_empty_messages() {
    let f = fixture();
    let long = "é".repeat(EVENT_BYTES_MAX);
    f.store.append(vec![event("s", 1, ""), event("s", 1, &long)]).unwrap();
    let page = f.store.get_events(&get("s")).unwrap();
    assert_eq!(page.events.len(), 3);
    let joined: String = page.events.into_iter().map(|event| event.message).collect();
    assert_eq!(joined, long);
}

#[test]
fn groups_by_prefix_in_pages() {
    let f = fixture();
    for group in ["/ecs/b", "/ecs/a", "/other", "/ecs/c"] {
        f.store.create_group(REGION, group).unwrap();
    }
    f.store.create_group("eu-west-1", "/ecs/d").unwrap();
    f.store
        .append(vec![LogEvent {
            scope: LogScope { group: "/ecs/a".into(), ..scope("s") },
            ..event("s", 1, "abc")
        }])
        .unwrap();
    let query = DescribeGroups {
        region: REGION.into(),
        prefix: Some("/ecs/".into()),
        limit: Some(2),
        next_token: None,
    };
    let first = f.store.describe_groups(&query).unwrap();
    let names: Vec<_> = first.items.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["/ecs/a", "/ecs/b"]);
    assert_eq!((first.items[0].stored_bytes, first.items[1].stored_bytes), (29, 0));
    assert!(first.items[0].creation_time_ms > 1_600_000_000_000);
    let second = f
        .store
        .describe_groups(&DescribeGroups { next_token: first.next_token.clone(), ..query.clone() })
        .unwrap();
    assert_eq!((second.items.len(), second.items[0].name.as_str(), second.next_token), (1, "/ecs/c", None));

    let all = DescribeGroups { region: REGION.into(), ..DescribeGroups::default() };
    assert_eq!(f.store.describe_groups(&all).unwrap().items.len(), 4);
    check_invalid(
        f.store.describe_groups(&DescribeGroups { next_token: first.next_token, ..all.clone() }),
        "nextToken",
    );
    check_invalid(f.store.describe_groups(&DescribeGroups { limit: Some(51), ..all.clone() }), "equal to 50");
    check_invalid(
        f.store.describe_groups(&DescribeGroups { prefix: Some("*".into()), ..all }),
        "logGroupNamePrefix",
    );
}

#[test]
fn streams_in_both_orders_and_directions() {
    let f = fixture();
    f.store
        .append(vec![event("b", 30, "x"), event("a", 20, "x"), event("c", 20, "x"), event("b", 10, "x")])
        .unwrap();
    f.store.create_stream(&scope("d")).unwrap();
    let names = |order_by, descending, prefix: Option<&str>| {
        let mut query = DescribeStreams {
            region: REGION.into(),
            group: GROUP.into(),
            prefix: prefix.map(str::to_owned),
            order_by,
            descending,
            limit: Some(1),
            next_token: None,
        };
        let mut names = String::new();
        loop {
            let page = f.store.describe_streams(&query).unwrap();
            assert!(page.items.len() <= 1);
            names.extend(page.items.iter().map(|stream| stream.name.as_str()));
            query.next_token = page.next_token;
            if query.next_token.is_none() {
                return names;
            }
        }
    };
    assert_eq!(names(OrderBy::LogStreamName, false, None), "abcd");
    assert_eq!(names(OrderBy::LogStreamName, true, None), "dcba");
    assert_eq!(names(OrderBy::LogStreamName, true, Some("b")), "b");
    assert_eq!(names(OrderBy::LastEventTime, false, None), "dacb");
    assert_eq!(names(OrderBy::LastEventTime, true, None), "bcad");

    let query = DescribeStreams { region: REGION.into(), group: GROUP.into(), ..DescribeStreams::default() };
    let streams = f.store.describe_streams(&query).unwrap().items;
    assert_eq!(
        (streams[1].first_event_timestamp_ms, streams[1].last_event_timestamp_ms),
        (Some(10), Some(30))
    );
    assert!(streams[1].last_ingestion_time_ms.unwrap() >= streams[1].creation_time_ms);
    assert_eq!((streams[3].last_event_timestamp_ms, streams[3].last_ingestion_time_ms), (None, None));
    assert_eq!(streams[3].upload_sequence_token.len(), 56);
    let both =
        DescribeStreams { order_by: OrderBy::LastEventTime, prefix: Some("b".into()), ..query.clone() };
    check_invalid(
        f.store.describe_streams(&both),
        "Cannot order by LastEventTime with a logStreamNamePrefix",
    );
    let nowhere = DescribeStreams { group: "x".into(), ..query };
    assert!(matches!(f.store.describe_streams(&nowhere), Err(LogsError::NoSuchGroup)));
}

#[test]
fn a_reopened_store_has_everything_and_goes_on_in_order() {
    let Fixture { dir, store } = fixture();
    store.append(vec![event("s", 5, "a"), event("t", 5, "b")]).unwrap();
    drop(store);
    let f = Fixture { store: LogStore::open(&dir.path().join("logs")).unwrap(), dir };
    f.store.append(vec![event("s", 5, "c")]).unwrap();
    assert_eq!(f.filter(&filter()).0, "a b c");
    assert_eq!(f.get(&get("s")).0, "a c");
}

#[test]
fn a_directory_in_use_is_refused() {
    let f = fixture();
    assert!(matches!(LogStore::open(&f.dir.path().join("logs")), Err(LogsError::Io { .. })));
}

#[test]
fn what_was_appended_survives_a_kill_and_what_was_cleared_does_not_come_back() {
    let f = fixture();
    f.store.append(vec![event("s", 1, "old")]).unwrap();
    f.store.clear().unwrap();
    let everything = DescribeGroups { region: REGION.into(), ..DescribeGroups::default() };
    assert_eq!(f.store.describe_groups(&everything).unwrap().items, []);
    let (_dir, store) = f.after_a_kill();
    assert_eq!(store.describe_groups(&everything).unwrap().items, []);
    drop(store);

    f.store.append(vec![event("s", 1, "new")]).unwrap();
    let (_dir, store) = f.after_a_kill();
    let events = store.get_events(&get("s")).unwrap().events;
    assert_eq!(events.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.describe_groups(&everything).unwrap().items[0].stored_bytes, 29);
}

#[test]
fn clearing_reaches_what_was_written_to_tables() {
    let f = fixture();
    // Several times what is kept in memory.
    let message = "x".repeat(EVENT_BYTES_MAX);
    for n in 0..8 {
        f.store.append((0..24).map(|i| event("s", n * 24 + i, &message)).collect()).unwrap();
    }
    f.store.clear().unwrap();
    f.store.append(vec![event("s", 1, "only"), event("t", 2, "these")]).unwrap();
    assert_eq!(f.filter(&filter()), ("only these".into(), None));
    let (dir, store) = f.after_a_kill();
    let killed = Fixture { dir, store };
    assert_eq!(killed.filter(&filter()), ("only these".into(), None));
    let Fixture { dir, store } = killed;
    drop(store);
    let reopened = Fixture { store: LogStore::open(&dir.path().join("logs")).unwrap(), dir };
    assert_eq!(reopened.filter(&filter()), ("only these".into(), None));
    assert_eq!(reopened.get(&get("t")).0, "these");
}

#[test]
fn subscribers_see_every_append() {
    let f = fixture();
    let mut appends = f.store.subscribe();
    assert!(!appends.has_changed().unwrap());
    f.store.append(vec![event("s", 1, "a")]).unwrap();
    assert!(appends.has_changed().unwrap());
    let first = *appends.borrow_and_update();
    f.store.append(vec![]).unwrap();
    assert!(!appends.has_changed().unwrap());
    f.store.append(vec![event("s", 1, "a")]).unwrap();
    assert!(*appends.borrow_and_update() > first);
}

const DAY_MS: i64 = 86_400_000;

impl Fixture {
    fn stored(&self) -> u64 {
        let query = DescribeGroups { region: REGION.into(), ..DescribeGroups::default() };
        self.store.describe_groups(&query).unwrap().items.iter().map(|group| group.stored_bytes).sum()
    }

    fn streams(&self) -> Vec<(String, Option<i64>)> {
        let query =
            DescribeStreams { region: REGION.into(), group: GROUP.into(), ..DescribeStreams::default() };
        let page = self.store.describe_streams(&query).unwrap();
        page.items.into_iter().map(|stream| (stream.name, stream.first_event_timestamp_ms)).collect()
    }
}

#[test]
fn what_is_older_than_a_group_keeps_goes_with_the_next_sweep() {
    let fixture = fixture();
    // Ingestion is now, so the moment of the sweep is later than now by more than is kept.
    let first_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let at = |days: i64| first_ms + days * DAY_MS;
    let batch = [("a", 0, "one"), ("a", 2, "two"), ("b", 0, "three"), ("a", 9, "four")];
    let events = batch.map(|(stream, days, message)| event(stream, at(days), message));
    fixture.store.append(events.to_vec()).unwrap();
    let sweep = |days: i64| fixture.store.sweep(at(days), u64::MAX).unwrap();
    assert_eq!(sweep(100), Swept::default(), "events are kept for good unless somebody says otherwise");

    let error = fixture.store.set_retention(REGION, GROUP, Some(2)).unwrap_err();
    assert!(error.to_string().contains("[1, 3, 5, 7,"), "{error}");
    assert!(matches!(fixture.store.set_retention(REGION, "/none", Some(1)), Err(LogsError::NoSuchGroup)));
    fixture.store.set_retention(REGION, GROUP, Some(3)).unwrap();
    assert_eq!(sweep(3), Swept::default());
    assert_eq!(sweep(4), Swept { expired: 2, ..Swept::default() });
    assert_eq!(fixture.filter(&filter()).0, "two four");
    assert_eq!(fixture.streams(), [("a".to_owned(), Some(at(2)))], "a stream without events is forgotten");
    assert_eq!(fixture.stored(), 2 * 26 + 7);
    assert_eq!(fixture.get(&get("a")).0, "two four");
    // What comes between two sweeps is seen by the next one that concerns it.
    fixture.store.append(vec![event("c", at(4), "five")]).unwrap();
    assert_eq!(sweep(5), Swept::default());
    assert_eq!(fixture.streams().len(), 2);
    assert_eq!(sweep(8), Swept { expired: 2, ..Swept::default() });
    assert_eq!(fixture.streams(), [("a".to_owned(), Some(at(9)))]);
    fixture.store.set_retention(REGION, GROUP, None).unwrap();
    assert_eq!(sweep(100), Swept::default());
}

#[test]
fn the_largest_groups_give_way_when_all_hold_too_much() {
    let fixture = fixture();
    let line = "x".repeat(74);
    let other = LogScope { group: "/small".into(), ..scope("s") };
    fixture.store.append(vec![LogEvent { scope: other, timestamp_ms: 0, message: line.clone() }]).unwrap();
    // More than one step.
    let flood: Vec<LogEvent> = (0..10_000).map(|n| event("a", n, &line)).collect();
    fixture.store.append(flood).unwrap();
    assert_eq!(fixture.stored(), 1_000_100);
    let swept = fixture.store.sweep(0, 100_000).unwrap();
    assert_eq!(swept, Swept { crowded_out: 9_101, ..Swept::default() });
    assert_eq!(fixture.stored(), 90_000);
    let oldest = fixture.store.get_events(&GetEvents { limit: Some(1), ..get("a") }).unwrap();
    assert_eq!(oldest.events[0].timestamp_ms, 9_101, "the oldest go first");
    assert_eq!(fixture.store.sweep(0, 100_000).unwrap(), Swept::default());
}

#[test]
fn groups_and_streams_are_deleted() {
    let fixture = fixture();
    let many: Vec<LogEvent> = (0..5_000).map(|n| event(if n % 2 == 0 { "a" } else { "b" }, n, "x")).collect();
    fixture.store.append(many).unwrap();
    fixture.store.delete_stream(&scope("a")).unwrap();
    assert!(matches!(fixture.store.delete_stream(&scope("a")), Err(LogsError::NoSuchStream)));
    assert!(matches!(fixture.store.get_events(&get("a")), Err(LogsError::NoSuchStream)));
    assert_eq!(fixture.stored(), 2_500 * 27);
    fixture.store.append(vec![event("a", 1, "again")]).unwrap();
    assert_eq!(fixture.get(&get("a")).0, "again");

    fixture.store.delete_group(REGION, GROUP).unwrap();
    assert!(matches!(fixture.store.delete_group(REGION, GROUP), Err(LogsError::NoSuchGroup)));
    assert!(matches!(fixture.store.filter_events(&filter()), Err(LogsError::NoSuchGroup)));
    fixture.store.append(vec![event("a", 1, "new")]).unwrap();
    let (_dir, store) = fixture.after_a_kill();
    assert_eq!(store.sweep(0, u64::MAX).unwrap().deleted, 2_501, "a crash does not bring them back");
    assert_eq!(fixture.store.sweep(0, u64::MAX).unwrap().deleted, 2_501);
    assert_eq!(fixture.store.sweep(0, u64::MAX).unwrap(), Swept::default());
    assert_eq!(fixture.filter(&filter()).0, "new");
    assert_eq!(fixture.streams(), [("a".to_owned(), Some(1))]);
}
