//! A component in this process, under limits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use coracle_sandbox::{
    Container, ContainerError, ContainerSpec, Engine, EngineConfig, EngineError, Exit, HandleError, KeyValue,
    LineSplitter, Metric, MetricKind, Metrics, Output, OutputSink, PrepareError, Prepared, StdStream,
};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};

use crate::http::{Body, Request, Response};

/// A component that tests run as Coracle would.
///
/// It sees an environment and configuration of its own, a key-value store that ends with it, and nothing else, unless
/// [`Component::with`] says so. Each call has a fresh instance.
///
/// ```no_run
/// use coracle_sdk::http::Request;
/// use coracle_sdk::testing::Component;
///
/// let hello = Component::load("target/wasm32-wasip2/release/hello.wasm").unwrap().variable("NAME", "you");
/// let request = Request::get("/greet").body(Default::default()).unwrap();
/// let response = hello.request(request).unwrap();
/// assert_eq!(response.status(), 200);
/// ```
pub struct Component {
    runtime: tokio::runtime::Runtime,
    prepared: Prepared,
    spec: ContainerSpec,
    output: Lines,
    metrics: Arc<Figures>,
}

/// Why a component can't be run.
#[derive(Debug)]
pub enum ComponentError {
    /// The file can't be read, or there is no runtime for it.
    Io(std::io::Error),
    /// There is no engine.
    Engine(EngineError),
    /// It is no component that could be run here.
    Prepare(PrepareError),
    /// It asks for what it was not granted.
    Container(ContainerError),
    /// It did not answer.
    Handle(HandleError),
    /// Its answer's body did not come to its end.
    Body(String),
}

impl std::fmt::Display for ComponentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Prepare(error) => error.fmt(f),
            Self::Container(error) => error.fmt(f),
            Self::Handle(error) => error.fmt(f),
            Self::Body(reason) => write!(f, "the answer's body ended early: {reason}"),
        }
    }
}

impl std::error::Error for ComponentError {}

macro_rules! from {
    ($($variant:ident $error:ty;)*) => {$(
        impl From<$error> for ComponentError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from! {
    Io std::io::Error;
    Engine EngineError;
    Prepare PrepareError;
    Container ContainerError;
    Handle HandleError;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How: its exit code, a trap, a limit.
    pub exit: Exit,
    /// The lines it wrote to standard output, in this run.
    pub stdout: Vec<String>,
    /// The lines it wrote to standard error and to its log, in this run.
    pub stderr: Vec<String>,
}

impl Component {
    /// Compiles a component.
    ///
    /// # Errors
    /// When it can't be read, or is none.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ComponentError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let engine = Engine::new(&EngineConfig { max_instances: 16, ..EngineConfig::default() })?;
        let prepared = engine.prepare_bytes(&std::fs::read(path)?)?;
        let (output, metrics) = (Lines::default(), Arc::<Figures>::default());
        let spec = ContainerSpec {
            args: vec!["component".to_owned()],
            config: Some(Arc::default()),
            keyvalue: Some(Arc::<Values>::default()),
            metrics: Some(Arc::clone(&metrics) as _),
            output: Arc::new(output.clone()),
            ..ContainerSpec::default()
        };
        Ok(Self { runtime, prepared, spec, output, metrics })
    }

    /// With a variable, which its configuration has too.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.spec.env.push((name.to_owned(), value.to_owned()));
        self.spec.config = Some(self.spec.env.clone().into());
        self
    }

    /// With other limits and grants.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ContainerSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Runs it with these arguments, to its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Ended, ComponentError> {
        let mut spec = self.spec.clone();
        spec.args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let _runtime = self.runtime.enter();
        let container = Container::new(&self.prepared, spec)?;
        self.output.take();
        let exit = self.runtime.block_on(container.run());
        let (stdout, stderr) = self.output.take();
        Ok(Ended { exit, stdout, stderr })
    }

    /// Sends it a request, and gives its answer with all of its body.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn request(&self, request: Request) -> Result<Response, ComponentError> {
        let _runtime = self.runtime.enter();
        let container = Container::new(&self.prepared, self.spec.clone())?;
        let (mut head, mut body) = request.into_parts();
        let whole = crate::block_on(body.bytes_up_to(usize::MAX))
            .map_err(|error| ComponentError::Body(error.to_string()))?;
        if head.uri.authority().is_none() && !head.headers.contains_key(::http::header::HOST) {
            head.headers.insert(::http::header::HOST, ::http::HeaderValue::from_static("localhost"));
        }
        let request = ::http::Request::from_parts(head, Full::new(whole));
        self.runtime.block_on(async {
            let (head, body) = container.handle(request).await?.into_parts();
            let body = body.collect().await.map_err(|error| ComponentError::Body(error.to_string()))?;
            Ok(Response::from_parts(head, Body::from(body.to_bytes())))
        })
    }

    /// What a figure is now: of a histogram, the sum of its observations.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        locked(&self.metrics.0).get(name).copied()
    }

    /// The lines written since the last time, to standard output and to standard error.
    #[must_use]
    pub fn lines(&self) -> (Vec<String>, Vec<String>) {
        self.output.take()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Figures by name, over all labels.
#[derive(Default)]
struct Figures(Mutex<BTreeMap<String, f64>>);

impl Metrics for Figures {
    fn record(&self, metric: &Metric<'_>) -> Result<(), String> {
        let mut figures = locked(&self.0);
        let figure = figures.entry(metric.name.to_owned()).or_default();
        match metric.kind {
            MetricKind::Counter | MetricKind::Histogram => *figure += metric.value,
            MetricKind::Gauge => *figure = metric.value,
        }
        Ok(())
    }
}

type Written = Arc<Mutex<(Vec<String>, Vec<String>)>>;

/// What was written, in lines.
#[derive(Clone, Default)]
struct Lines(Written);

impl Lines {
    fn take(&self) -> (Vec<String>, Vec<String>) {
        std::mem::take(&mut *locked(&self.0))
    }
}

impl Output for Lines {
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink> {
        let written = Arc::clone(&self.0);
        Box::new(LineSink(LineSplitter::new(move |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            let mut written = locked(&written);
            match stream {
                StdStream::Stdout => written.0.push(line),
                StdStream::Stderr => written.1.push(line),
            }
        })))
    }
}

struct LineSink<F: FnMut(&[u8]) + Send>(LineSplitter<F>);

impl<F: FnMut(&[u8]) + Send> OutputSink for LineSink<F> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

type Bucketed = BTreeMap<(String, String), Vec<u8>>;

/// Values by bucket and key.
#[derive(Default)]
struct Values(Mutex<Bucketed>);

impl Values {
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Bucketed) -> Result<T, String>,
    ) -> BoxFuture<'static, Result<T, String>> {
        Box::pin(std::future::ready(work(&mut locked(&self.0))))
    }
}

impl KeyValue for Values {
    fn get(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, String>> {
        self.with(|values| {
            Ok(keys.into_iter().map(|key| values.get(&(bucket.to_owned(), key)).cloned()).collect())
        })
    }

    fn apply(
        &self,
        bucket: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> BoxFuture<'static, Result<(), String>> {
        self.with(|values| {
            for (key, value) in changes {
                let key = (bucket.to_owned(), key);
                match value {
                    Some(value) => drop(values.insert(key, value)),
                    None => drop(values.remove(&key)),
                }
            }
            Ok(())
        })
    }

    fn keys(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<String>, String>> {
        self.with(|values| {
            let keys = values.keys().filter(|(of, _)| of == bucket).map(|(_, key)| key.clone());
            Ok(keys.filter(|key| after.as_ref().is_none_or(|after| key > after)).take(limit).collect())
        })
    }

    fn increment(&self, bucket: &str, key: String, delta: i64) -> BoxFuture<'static, Result<i64, String>> {
        self.with(|values| {
            let value = values.entry((bucket.to_owned(), key)).or_insert_with(|| b"0".to_vec());
            let before = String::from_utf8_lossy(value).parse::<i64>().map_err(|error| error.to_string())?;
            let sum = before.checked_add(delta).ok_or_else(|| "the number would be too large".to_owned())?;
            *value = sum.to_string().into_bytes();
            Ok(sum)
        })
    }

    fn swap(
        &self,
        bucket: &str,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> BoxFuture<'static, Result<bool, String>> {
        self.with(|values| {
            let key = (bucket.to_owned(), key);
            let same = values.get(&key) == expected.as_ref();
            if same {
                values.insert(key, value);
            }
            Ok(same)
        })
    }
}

/// The guide's program compiles. This stands here because projects that carry the SDK have neither this file nor the guide.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Guide;
