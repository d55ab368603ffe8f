//! What native tests have in the place of a host: an executor, and a [`World`] for each thread.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::fetch::{Error as FetchError, Timeouts};
use crate::http::{BodyError, Request, Response};
use crate::keyvalue::{KeyValueError, Result as KeyValueResult};
use crate::limits::Memory;
use crate::log::Level;
use crate::metrics::{Kind, MetricError};
use crate::testing::World;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) async fn sleep(duration: Duration) {
    let end = Instant::now() + duration;
    poll_fn(|cx| {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        std::thread::spawn(move || {
            std::thread::sleep(left);
            waker.wake();
        });
        Poll::Pending
    })
    .await;
}

/// There is no host that a body could come from, or go to.
pub(crate) enum IncomingBody {}

impl IncomingBody {
    #[expect(clippy::unused_async, reason = "the host's is asynchronous")]
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        match *self {}
    }
}

pub(crate) enum OutgoingBody {}

impl OutgoingBody {
    #[expect(clippy::unused_async, reason = "the host's is asynchronous")]
    pub(crate) async fn write(&mut self, _: &[u8]) -> Result<(), BodyError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the host's is asynchronous")]
    pub(crate) async fn flush(&mut self) -> Result<(), BodyError> {
        match *self {}
    }
}

pub(crate) fn start() {
    #[cfg(feature = "tracing")]
    crate::log::listen();
}

pub(crate) fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

pub(crate) async fn fetch(request: Request, _: Timeouts) -> Result<Response, FetchError> {
    let uri = request.uri().clone();
    let answer = World::with(|world| world.fetch.clone());
    match answer {
        Some(answer) => answer(request),
        None => Err(FetchError::not_granted(&uri)),
    }
}

pub(crate) fn variable(name: &str) -> Option<String> {
    World::with(|world| world.variables.get(name).cloned()).or_else(|| std::env::var(name).ok())
}

pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    Ok(World::with(|world| world.config.get(key).cloned()).or_else(|| variable(key)))
}

pub(crate) fn memory() -> Memory {
    World::with(|world| world.memory)
}

pub(crate) fn fuel() -> Option<u64> {
    World::with(|world| world.fuel)
}

pub(crate) fn stop_requested() -> bool {
    World::with(|world| world.stop.0)
}

pub(crate) async fn stop() {
    poll_fn(|cx| {
        World::with(|world| {
            if world.stop.0 {
                return Poll::Ready(());
            }
            world.stop.1.push(cx.waker().clone());
            Poll::Pending
        })
    })
    .await;
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    let level = match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
        Level::Critical => "CRITICAL",
    };
    let context = if context.is_empty() { String::new() } else { format!(" {context}:") };
    let line = format!("{level}{context} {message}");
    eprintln!("{line}");
    World::with(|world| world.log.push(line));
}

pub(crate) fn record(
    kind: Kind,
    name: &str,
    labels: &[(String, String)],
    value: f64,
) -> Result<(), MetricError> {
    World::with(|world| {
        let metrics = world.metrics.as_mut().ok_or_else(MetricError::not_granted)?;
        let mut labels = labels.to_vec();
        labels.sort();
        let figure = metrics.entry((name.to_owned(), labels)).or_default();
        match kind {
            Kind::Counter | Kind::Histogram => *figure += value,
            Kind::Gauge => *figure = value,
        }
        Ok(())
    })
}

pub(crate) struct Bucket(String);

pub(crate) struct Watch(String, Option<Vec<u8>>);

impl Watch {
    #[expect(clippy::unnecessary_wraps, reason = "the host's may fail")]
    pub(crate) fn current(&self) -> KeyValueResult<Option<Vec<u8>>> {
        Ok(self.1.clone())
    }
}

impl Bucket {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> KeyValueResult<T> {
        World::with(|world| {
            let buckets = world.keyvalue.as_mut().ok_or_else(KeyValueError::not_granted)?;
            Ok(work(buckets.entry(self.0.clone()).or_default()))
        })
    }

    pub(crate) fn open(name: &str) -> KeyValueResult<Self> {
        let bucket = Self(name.to_owned());
        bucket.with(|_| ())?;
        Ok(bucket)
    }

    pub(crate) fn get(&self, key: &str) -> KeyValueResult<Option<Vec<u8>>> {
        self.with(|values| values.get(key).cloned())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> KeyValueResult<()> {
        self.with(|values| drop(values.insert(key.to_owned(), value.to_vec())))
    }

    pub(crate) fn delete(&self, key: &str) -> KeyValueResult<()> {
        self.with(|values| drop(values.remove(key)))
    }

    pub(crate) fn exists(&self, key: &str) -> KeyValueResult<bool> {
        self.with(|values| values.contains_key(key))
    }

    pub(crate) fn keys(&self, _: Option<String>) -> KeyValueResult<(Vec<String>, Option<String>)> {
        self.with(|values| (values.keys().cloned().collect(), None))
    }

    pub(crate) fn increment(&self, key: &str, by: i64) -> KeyValueResult<i64> {
        self.with(|values| {
            let before = match values.get(key) {
                None => Some(0),
                Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
            };
            let sum = before
                .and_then(|before| before.checked_add(by))
                .ok_or_else(|| KeyValueError::Refused(format!("the value of {key:?} is no number")))?;
            values.insert(key.to_owned(), sum.to_string().into_bytes());
            Ok(sum)
        })?
    }

    pub(crate) fn watch(&self, key: &str) -> KeyValueResult<Watch> {
        Ok(Watch(key.to_owned(), self.get(key)?))
    }

    pub(crate) fn swap(&self, watch: Watch, value: &[u8]) -> KeyValueResult<Option<Watch>> {
        let Watch(key, expected) = watch;
        let found = self.get(&key)?;
        if found != expected {
            return Ok(Some(Watch(key, found)));
        }
        self.set(&key, value)?;
        Ok(None)
    }
}
