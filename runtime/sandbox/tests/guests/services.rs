//! The services of the host beside WASI: `wasi:keyvalue`, `wasi:config`, `wasi:logging`.

use crate::{ENGINE, Lines};
use coracle_sandbox::{Container, ContainerError, ContainerSpec, Exit, KeyValue, Prepared, StdStream};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, LazyLock, Mutex};

static SERVICES: LazyLock<Prepared> =
    LazyLock::new(|| ENGINE.prepare_bytes(&std::fs::read(coracle_fixtures::services()).unwrap()).unwrap());

/// Values in memory, of one bucket.
#[derive(Default)]
struct Values(Mutex<BTreeMap<String, Vec<u8>>>);

impl KeyValue for Values {
    fn get(&self, _: &str, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, String>> {
        let values = self.0.lock().unwrap();
        Box::pin(ready(Ok(keys.iter().map(|key| values.get(key).cloned()).collect())))
    }

    fn apply(
        &self,
        _: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let mut values = self.0.lock().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => drop(values.insert(key, value)),
                None => drop(values.remove(&key)),
            }
        }
        Box::pin(ready(Ok(())))
    }

    fn keys(
        &self,
        _: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<String>, String>> {
        let values = self.0.lock().unwrap();
        let after = |key: &&String| after.as_ref().is_none_or(|after| *key > after);
        Box::pin(ready(Ok(values.keys().filter(after).take(limit).cloned().collect())))
    }

    fn increment(&self, _: &str, key: String, delta: i64) -> BoxFuture<'static, Result<i64, String>> {
        let mut values = self.0.lock().unwrap();
        let before: i64 = values.get(&key).map_or(0, |value| String::from_utf8_lossy(value).parse().unwrap());
        values.insert(key, (before + delta).to_string().into_bytes());
        Box::pin(ready(Ok(before + delta)))
    }

    fn swap(
        &self,
        _: &str,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> BoxFuture<'static, Result<bool, String>> {
        let mut values = self.0.lock().unwrap();
        let same = values.get(&key) == expected.as_ref();
        if same {
            values.insert(key, value);
        }
        Box::pin(ready(Ok(same)))
    }
}

fn spec(args: &[&str]) -> (ContainerSpec, Lines) {
    let lines = Lines::default();
    let args = std::iter::once("guest").chain(args.iter().copied()).map(str::to_owned).collect();
    let config: Arc<[_]> = Arc::new([("mode".to_owned(), "fast".to_owned())]);
    let spec = ContainerSpec {
        args,
        config: Some(config),
        keyvalue: Some(Arc::new(Values::default())),
        output: Arc::new(lines.clone()),
        ..ContainerSpec::default()
    };
    (spec, lines)
}

async fn run(args: &[&str], stream: StdStream) -> Vec<String> {
    let (spec, lines) = spec(args);
    let exit = Container::new(&SERVICES, spec).unwrap().run().await;
    assert_eq!(exit, Exit::Code(0), "{:?}", lines.of(StdStream::Stderr));
    lines.of(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_kept_swapped_and_counted() {
    let lines = run(&["keyvalue"], StdStream::Stdout).await;
    let expected = [
        "before None",
        "count 2",
        "swapped true",
        "too late: howdy",
        "swapped true",
        r#"many [("a", Some([1])), ("nope", None)]"#,
        r#"keys ["a", "b", "count", "greeting"]"#,
        "exists false",
        "true",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_read() {
    assert_eq!(run(&["config", "mode"], StdStream::Stdout).await, [r#"Some("fast")"#]);
    assert_eq!(run(&["config", "nope"], StdStream::Stdout).await, ["None"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_messages_are_lines_on_standard_error() {
    assert_eq!(run(&["log"], StdStream::Stderr).await, ["WARN db: slow query"]);
}

#[tokio::test]
async fn what_is_imported_and_not_granted_is_named() {
    let (full, _) = spec(&["log"]);
    let refused = |spec| match Container::new(&SERVICES, spec) {
        Err(error @ ContainerError::NotGranted { .. }) => error.to_string(),
        other => panic!("{}", other.is_ok()),
    };
    let text = refused(ContainerSpec { keyvalue: None, ..full.clone() });
    assert!(text.contains("wasi:keyvalue/") && text.contains("`keyvalue`"), "{text}");
    let text = refused(ContainerSpec { config: None, ..full });
    assert!(text.contains("wasi:config/store") && text.contains("`config`"), "{text}");
}

#[tokio::test]
async fn arguments_and_environment_are_bounded() {
    let (full, _) = spec(&["log"]);
    let env = vec![("A".to_owned(), "x".repeat(2 << 20))];
    let error = Container::new(&SERVICES, ContainerSpec { env, ..full.clone() }).err().unwrap().to_string();
    assert!(error.contains("environment is of 2097153 bytes"), "{error}");
    let error = Container::new(&SERVICES, ContainerSpec { args: vec![String::new(); 10_001], ..full });
    assert!(matches!(error, Err(ContainerError::TooLarge { what: "arguments", .. })));
}
