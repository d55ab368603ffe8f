//! The log store as the agent's sink of lines.

use std::sync::Arc;
use std::task::{Context, Poll};

use coracle_agent::{LogSink, LogStream, LogTarget};
use coracle_logs::{LogEvent, LogScope, LogStore, LogWriter};
use coracle_types::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Fills the agent's wish for log streams from the log store.
pub(crate) struct StoreLogs(LogWriter);

impl StoreLogs {
    pub(crate) fn new(store: &LogStore) -> Self {
        Self(store.writer())
    }

    /// A handle to the queue that all lines go through.
    pub(crate) fn writer(&self) -> LogWriter {
        self.0.clone()
    }
}

impl LogSink for StoreLogs {
    fn open(&self, target: LogTarget) -> Arc<dyn LogStream> {
        let scope = LogScope {
            region: target.region.into(),
            group: target.group.into(),
            stream: target.stream.into(),
        };
        Arc::new(StoreStream { scope, writer: self.0.clone() })
    }
}

/// One container's stream.
struct StoreStream {
    scope: LogScope,
    writer: LogWriter,
}

impl LogStream for StoreStream {
    fn line(&self, timestamp: Timestamp, line: &[u8]) {
        let message = String::from_utf8_lossy(line).into_owned();
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
