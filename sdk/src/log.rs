//! Lines of the task's log: `wasi:logging`, or standard output and standard error like any program.
//!
//! With the feature `tracing`, events of the macros in [`tracing`](https://docs.rs/tracing) become such lines. The
//! variable `CORACLE_LOG` in the task definition says from which level on: `error`, `warn`, `info` (the default),
//! `debug`, `trace` or `off`.

use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What happens on an ordinary day.
    Info,
    /// Somebody should look at it.
    Warn,
    /// Something was not done.
    Error,
    /// Nothing works any more.
    Critical,
}

/// Writes a line. `context` says what it is about, and may be empty.
pub fn line(level: Level, context: &str, message: &str) {
    host::log(level, context, message);
}

/// Makes what `tracing` needs to be heard, unless it is already.
#[cfg(feature = "tracing")]
pub(crate) fn listen() {
    subscriber::install();
}

#[cfg(feature = "tracing")]
mod subscriber {
    use std::fmt::{self, Write as _};
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing::field::{Field, Visit};
    use tracing::level_filters::LevelFilter;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::Level;
    use crate::host;

    /// Turns events into lines. Spans are numbered and otherwise ignored: a request has an instance of its own.
    struct Lines {
        from: LevelFilter,
        spans: AtomicU64,
    }

    pub(super) fn install() {
        let from = host::variable("CORACLE_LOG").and_then(|level| level.parse().ok());
        let lines = Lines { from: from.unwrap_or(LevelFilter::INFO), spans: AtomicU64::new(1) };
        // Fails where the program has a subscriber of its own, and where this was done before.
        let _ = tracing::subscriber::set_global_default(lines);
    }

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= self.from
        }

        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(self.from)
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let metadata = event.metadata();
            let level = match *metadata.level() {
                tracing::Level::TRACE => Level::Trace,
                tracing::Level::DEBUG => Level::Debug,
                tracing::Level::INFO => Level::Info,
                tracing::Level::WARN => Level::Warn,
                tracing::Level::ERROR => Level::Error,
            };
            let mut text = Text::default();
            event.record(&mut text);
            super::line(level, metadata.target(), &(text.message + &text.fields));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// The message, and after it the other fields as `name=value`.
    #[derive(Default)]
    struct Text {
        message: String,
        fields: String,
    }

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            // Writing to a String does not fail.
            let _ = match field.name() {
                "message" => write!(self.message, "{value:?}"),
                name => write!(self.fields, " {name}={value:?}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn lines_are_heard() {
        line(Level::Warn, "db", "slow");
        assert_eq!(testing::log_lines(), ["WARN db: slow"]);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn events_become_lines() {
        listen();
        tracing::info!(user = 7, name = "x", "logged in");
        tracing::debug!("unheard");
        assert_eq!(testing::log_lines(), ["INFO coracle_sdk::log::tests: logged in user=7 name=\"x\""]);
    }
}
