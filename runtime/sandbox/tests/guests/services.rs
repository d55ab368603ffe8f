//! The services of the host beside WASI, which are those of `sdk/wit`.

use crate::{ENGINE, Lines, eventually};
use coracle_sandbox::wasmtime::component::{Component, types::ComponentItem};
use coracle_sandbox::{
    Container, ContainerError, ContainerSpec, Exit, KeyValue, MemoryBudget, Metric, MetricKind, Metrics,
    Prepared, StdStream, wasmtime,
};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::{Path, PathBuf};
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
        "exists false",
        "true",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_read() {
    assert_eq!(run(&["config", "mode"], StdStream::Stdout).await, [r#"Some("fast")"#]);
    assert_eq!(run(&["config", "nope"], StdStream::Stdout).await, ["None"]);
    assert_eq!(run(&["config"], StdStream::Stdout).await, [r#"[("mode", "fast")]"#]);
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

/// Keeps what it is given, and takes no name with a blank.
#[derive(Default)]
struct Figures(Mutex<Vec<(MetricKind, String, f64)>>);

impl Metrics for Figures {
    fn record(&self, metric: &Metric<'_>) -> Result<(), String> {
        if metric.name.contains(' ') {
            return Err("a blank".to_owned());
        }
        self.0.lock().unwrap().push((
            metric.kind,
            format!("{}{:?}", metric.name, metric.labels),
            metric.value,
        ));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_handed_over() {
    let not_granted = ["Err(Error::NotGranted)"; 3];
    assert_eq!(run(&["metrics"], StdStream::Stdout).await, not_granted);

    let figures = Arc::new(Figures::default());
    let (spec, lines) = spec(&["metrics"]);
    let spec = ContainerSpec { metrics: Some(figures.clone()), ..spec };
    assert_eq!(Container::new(&SERVICES, spec).unwrap().run().await, Exit::Code(0));
    assert_eq!(lines.of(StdStream::Stdout), ["Ok(())", "Ok(())", "Err(Error::Refused(\"a blank\"))"]);
    let expected = [
        (MetricKind::Counter, "orders_total[(\"kind\", \"book\")]".to_owned(), 2.0),
        (MetricKind::Gauge, "queue[]".to_owned(), 3.0),
    ];
    assert_eq!(*figures.0.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_learn_what_is_left() {
    let unlimited = ["limit None", "more is used true", "less is available false", "fuel None"];
    assert_eq!(run(&["limits"], StdStream::Stdout).await, unlimited);

    let (spec, lines) = spec(&["limits"]);
    let memory = MemoryBudget::new(64 << 20).child(Some(32 << 20));
    let spec = ContainerSpec { memory, fuel_per_run: Some(100_000_000), ..spec };
    assert_eq!(Container::new(&SERVICES, spec).unwrap().run().await, Exit::Code(0));
    let limited = ["limit Some(33554432)", "more is used true", "less is available true", "fuel Some(true)"];
    assert_eq!(lines.of(StdStream::Stdout), limited);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_is_told_to_stop() {
    let (spec, lines) = spec(&["stop"]);
    let container = Container::new(&SERVICES, spec).unwrap();
    let running = tokio::spawn({
        let container = container.clone();
        async move { container.run().await }
    });
    eventually("it has begun", || !lines.of(StdStream::Stdout).is_empty()).await;
    assert!(container.request_stop());
    assert_eq!(running.await.unwrap(), Exit::Code(0));
    assert_eq!(lines.of(StdStream::Stdout), ["requested false", "requested true"]);

    let deaf = ENGINE.prepare_bytes(&std::fs::read(coracle_fixtures::example_batch()).unwrap()).unwrap();
    assert!(!Container::new(&deaf, ContainerSpec::default()).unwrap().request_stop());
}

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit")
}

/// The `.wit` files below a folder, in their order.
fn wit_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(wit_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The functions of a package, as components name them: `wasi:config/store@0.2.0-rc.1#get`.
fn functions(text: &str) -> BTreeSet<String> {
    let (mut package, mut version, mut interface, mut resource) = ("", "", "", "");
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("package ") {
            (package, version) = name.trim_end_matches(';').split_once('@').unwrap();
        } else if let Some(name) = line.strip_prefix("interface ") {
            interface = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("resource ") {
            resource = name.trim_end_matches(" {");
        } else if line == "}" {
            resource = "";
        } else if let Some((name, of)) = line.split_once(": ")
            && (of.starts_with("func") || of.starts_with("static func"))
        {
            let kind = if of.starts_with("static") { "static" } else { "method" };
            let name =
                if resource.is_empty() { name.to_owned() } else { format!("[{kind}]{resource}.{name}") };
            found.insert(format!("{package}/{interface}@{version}#{name}"));
        }
    }
    found
}

/// The guest is made from `sdk/wit` and uses all of it, and the host links it: so the host has every function, of the
/// type that is written there.
#[test]
fn the_host_has_what_the_sdk_says() {
    let engine = wasmtime::Engine::default();
    let guest = Component::from_file(&engine, coracle_fixtures::services()).unwrap();
    let mut imported = BTreeSet::new();
    for (interface, item) in guest.component_type().imports(&engine) {
        if let ComponentItem::ComponentInstance(instance) = item.ty {
            imported.extend(instance.exports(&engine).map(|(name, _)| format!("{interface}#{name}")));
        }
    }
    let mut written = BTreeSet::new();
    for file in wit_files(&wit()) {
        written.extend(functions(&std::fs::read_to_string(file).unwrap()));
    }
    written.retain(|function| !function.starts_with("wasi:io/"));
    assert!(written.contains("coracle:services/metrics@0.1.0#add"), "{written:?}");
    assert!(written.contains("wasi:keyvalue/atomics@0.2.0-draft2#[static]cas.new"), "{written:?}");
    let missing: Vec<_> = written.difference(&imported).collect();
    assert!(missing.is_empty(), "the guest `services` does not use {missing:?}");
    assert!(SERVICES.exports().command, "and the host links it");
}

/// The SDK carries bindings that were generated, because generating them takes longer than everything else in a guest's
/// first build. Their head says of which files.
#[test]
fn the_bindings_of_the_sdk_are_of_these_files() {
    let mut hasher = Sha256::new();
    for file in wit_files(&wit()) {
        hasher.update(std::fs::read(file).unwrap());
    }
    let digest = hex::encode(hasher.finalize());
    let expected = format!("// Generated by sdk/wit/generate.sh from files with the SHA-256 {digest}.");
    let bindings = wit().join("../src/host/bindings.rs");
    let text = std::fs::read_to_string(&bindings).unwrap();
    let head = text.lines().next().unwrap_or_default();
    assert_eq!(head, expected, "{} is out of date: run sdk/wit/generate.sh", bindings.display());
}
