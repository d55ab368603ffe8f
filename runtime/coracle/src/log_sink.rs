//! The log store as the agent's sink of lines.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use coracle_agent::{LogSink, LogStream, LogTarget};
use coracle_logs::{LogEvent, LogScope, LogStore, LogWriter, LogsError};
use coracle_types::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Fills the agent's wish for log streams from the log store.
pub(crate) struct StoreLogs {
    store: LogStore,
    writer: LogWriter,
    /// Regions and groups that are known to be there: one is made before anything is written to it, so that who
    /// looks for the lines of a silent container finds a group without any.
    groups: Mutex<HashSet<(Arc<str>, Arc<str>)>>,
    observer: Option<Arc<dyn LineObserver>>,
}

/// Is told of every line that a container writes.
pub(crate) trait LineObserver: Send + Sync + 'static {
    /// A line, without its end. Must not block.
    fn line(&self, target: &LogScope, line: &str);
}

impl StoreLogs {
    pub(crate) fn new(store: &LogStore, observer: Option<Arc<dyn LineObserver>>) -> Self {
        Self { store: store.clone(), writer: store.writer(), groups: Mutex::default(), observer }
    }

    /// A handle to the queue that all lines go through.
    pub(crate) fn writer(&self) -> LogWriter {
        self.writer.clone()
    }

    fn ensure_group(&self, scope: &LogScope) {
        let (region, group) = (Arc::clone(&scope.region), Arc::clone(&scope.group));
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.insert((Arc::clone(&region), Arc::clone(&group))) {
            let store = self.store.clone();
            tokio::task::spawn_blocking(move || match store.create_group(&region, &group) {
                Ok(()) | Err(LogsError::AlreadyExists { .. }) => {}
                Err(error) => tracing::warn!(%group, %error, "a log group could not be made"),
            });
        }
    }
}

impl LogSink for StoreLogs {
    fn open(&self, target: LogTarget) -> Arc<dyn LogStream> {
        let scope = LogScope {
            region: target.region.into(),
            group: target.group.into(),
            stream: target.stream.into(),
        };
        self.ensure_group(&scope);
        Arc::new(StoreStream { scope, writer: self.writer.clone(), observer: self.observer.clone() })
    }
}

/// One container's stream.
struct StoreStream {
    scope: LogScope,
    writer: LogWriter,
    observer: Option<Arc<dyn LineObserver>>,
}

impl LogStream for StoreStream {
    fn line(&self, timestamp: Timestamp, line: &[u8]) {
        let message = String::from_utf8_lossy(line).into_owned();
        if let Some(observer) = &self.observer {
            observer.line(&self.scope, &message);
        }
        let event = LogEvent { scope: self.scope.clone(), timestamp_ms: timestamp.as_millis(), message };
        self.writer.send(event);
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.poll_ready(cx)
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let writer = self.writer.clone();
        async move {
            // The store has said in the program's log that it lost events, and why.
            let _ = writer.flush().await;
        }
        .boxed()
    }
}
