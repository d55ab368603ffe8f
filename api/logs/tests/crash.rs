//! A process that is killed while it writes. The test runs itself again as the process to be killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use coracle_logs::{FilterEvents, LogEvent, LogScope, LogStore};

const DIRECTORY_VARIABLE: &str = "CORACLE_LOGS_CRASH_TEST_DIR";
const STREAMS: i64 = 3;
/// After how many acknowledged lines the process is killed.
const ENOUGH: i64 = 2000;

fn line(n: i64) -> LogEvent {
    let stream = format!("stream-{}", n % STREAMS);
    let scope = LogScope { region: "us-east-1".into(), group: "group".into(), stream: stream.into() };
    LogEvent { scope, timestamp_ms: n / 10, message: n.to_string() }
}

/// Not a test by itself: writes lines for ever, and says how far a flush has acknowledged them.
#[tokio::test]
async fn write_until_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE) else { return };
    let store = LogStore::open(dir.as_ref()).unwrap();
    let writer = store.writer();
    let mut n = 0;
    loop {
        for _ in 0..37 {
            writer.ready().await;
            writer.send(line(n));
            n += 1;
        }
        writer.flush().await.unwrap();
        println!("\nacknowledged {n}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "write_until_killed", "--nocapture"])
        .env(DIRECTORY_VARIABLE, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = 0;
    for text in output.lines() {
        if let Some(n) = text.unwrap().strip_prefix("acknowledged ") {
            acknowledged = n.parse().unwrap();
            if acknowledged >= ENOUGH {
                break;
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(acknowledged >= ENOUGH, "the child ended early, at {acknowledged}");

    let store = LogStore::open(dir.path()).unwrap();
    let mut query =
        FilterEvents { region: "us-east-1".into(), group: "group".into(), ..FilterEvents::default() };
    let mut kept = Vec::new();
    loop {
        let page = store.filter_events(&query).unwrap();
        for event in page.events {
            let n: i64 = event.message.parse().unwrap();
            assert_eq!(event.log_stream_name, format!("stream-{}", n % STREAMS));
            kept.push(n);
        }
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            break;
        }
    }
    let last = i64::try_from(kept.len()).unwrap();
    assert!(last >= acknowledged, "{last} kept of {acknowledged} acknowledged");
    assert_eq!(kept, (0..last).collect::<Vec<_>>(), "no gaps, in order");
}
