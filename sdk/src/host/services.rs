//! Configuration, values, figures and limits, as the host's interfaces give them.

use super::bindings::coracle::services::metrics::Error as WitMetricError;
use super::bindings::coracle::services::{lifecycle, limits, metrics};
use super::bindings::wasi::config::store as configuration;
use super::bindings::wasi::keyvalue::{atomics, store};
use super::bindings::wasi::logging::logging;
use super::executor::until;
use crate::keyvalue::{KeyValueError, Result as KeyValueResult};
use crate::limits::Memory;
use crate::log::Level;
use crate::metrics::{Kind, MetricError};

/// Before anything else in an instance.
pub(crate) fn start() {
    #[cfg(feature = "tracing")]
    crate::log::listen();
}

/// Ends the program, with what it has printed.
pub(crate) fn exit(code: u8) -> ! {
    use std::io::Write as _;

    // Nobody is left to be told.
    let _ = std::io::stdout().flush();
    wasip2::cli::exit::exit_with_code(code);
    unreachable!("the host does not return from it")
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    configuration::get(key).map_err(|error| match error {
        configuration::Error::Upstream(reason) | configuration::Error::Io(reason) => reason,
    })
}

pub(crate) fn memory() -> Memory {
    let limits::MemoryUse { limit, used, available } = limits::memory();
    Memory { limit, used, available }
}

pub(crate) fn fuel() -> Option<u64> {
    limits::fuel()
}

pub(crate) fn stop_requested() -> bool {
    lifecycle::stop_requested()
}

pub(crate) async fn stop() {
    until(lifecycle::subscribe_stop()).await;
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, context, message);
}

pub(crate) fn record(
    kind: Kind,
    name: &str,
    labels: &[(String, String)],
    value: f64,
) -> Result<(), MetricError> {
    let recorded = match kind {
        Kind::Counter => metrics::add(name, labels, value),
        Kind::Gauge => metrics::set(name, labels, value),
        Kind::Histogram => metrics::observe(name, labels, value),
    };
    recorded.map_err(|error| match error {
        WitMetricError::NotGranted => MetricError::not_granted(),
        WitMetricError::Refused(reason) => MetricError::Refused(reason),
    })
}

/// A bucket of the key-value store.
pub(crate) struct Bucket(store::Bucket);

/// A value that may be swapped.
pub(crate) struct Watch(atomics::Cas);

impl Watch {
    pub(crate) fn current(&self) -> KeyValueResult<Option<Vec<u8>>> {
        self.0.current().map_err(key_value_error)
    }
}

impl Bucket {
    pub(crate) fn open(name: &str) -> KeyValueResult<Self> {
        store::open(name).map(Self).map_err(|error| match error {
            store::Error::NoSuchStore => KeyValueError::NoSuchBucket(name.to_owned()),
            error => key_value_error(error),
        })
    }

    pub(crate) fn get(&self, key: &str) -> KeyValueResult<Option<Vec<u8>>> {
        self.0.get(key).map_err(key_value_error)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> KeyValueResult<()> {
        self.0.set(key, value).map_err(key_value_error)
    }

    pub(crate) fn delete(&self, key: &str) -> KeyValueResult<()> {
        self.0.delete(key).map_err(key_value_error)
    }

    pub(crate) fn exists(&self, key: &str) -> KeyValueResult<bool> {
        self.0.exists(key).map_err(key_value_error)
    }

    /// A page of keys, and what to ask for the next one with.
    pub(crate) fn keys(&self, cursor: Option<String>) -> KeyValueResult<(Vec<String>, Option<String>)> {
        let page = self.0.list_keys(cursor.as_deref()).map_err(key_value_error)?;
        Ok((page.keys, page.cursor))
    }

    pub(crate) fn increment(&self, key: &str, by: i64) -> KeyValueResult<i64> {
        atomics::increment(&self.0, key, by).map_err(key_value_error)
    }

    pub(crate) fn watch(&self, key: &str) -> KeyValueResult<Watch> {
        atomics::Cas::new(&self.0, key).map(Watch).map_err(key_value_error)
    }

    /// Sets the value, or answers what it is now if somebody was faster.
    pub(crate) fn swap(&self, watch: Watch, value: &[u8]) -> KeyValueResult<Option<Watch>> {
        match atomics::swap(watch.0, value) {
            Ok(()) => Ok(None),
            Err(atomics::CasError::CasFailed(newer)) => Ok(Some(Watch(newer))),
            Err(atomics::CasError::StoreError(error)) => Err(key_value_error(error)),
        }
    }
}

fn key_value_error(error: store::Error) -> KeyValueError {
    match error {
        store::Error::AccessDenied => KeyValueError::not_granted(),
        store::Error::NoSuchStore => KeyValueError::NoSuchBucket(String::new()),
        store::Error::Other(reason) => KeyValueError::Refused(reason),
    }
}
