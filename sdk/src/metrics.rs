//! Figures of the service's own, at `/metrics`, with the labels `cluster` and `group` of its tasks.
//!
//! ```
//! # fn order() -> Result<(), coracle_sdk::metrics::MetricError> {
//! use coracle_sdk::metrics::{counter, gauge, histogram};
//!
//! counter("orders_total").with("kind", "book").add(1.0)?;
//! gauge("queue_length").set(12.0)?;
//! histogram("parse_seconds").observe(0.003)?;
//! # Ok(())
//! # }
//! ```
//!
//! Names are as in Prometheus: letters, digits and `_`; a counter's ends in `_total`, and nobody's begins with
//! `coracle_`. A service has at most 200 of them, each combination of labels counted.

use std::fmt;

use crate::{NotGranted, host};

/// Why a figure was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// The host takes none from this component.
    NotGranted(NotGranted),
    /// The name, a label or the value is not one, or there are too many already: in words.
    Refused(String),
}

impl MetricError {
    pub(crate) fn not_granted() -> Self {
        Self::NotGranted(NotGranted {
            wanted: "a place for metrics".to_owned(),
            grant:
                "a host of its own has to set `metrics` of its ContainerSpec; in a Coracle task it always is"
                    .to_owned(),
        })
    }
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(error) => error.fmt(f),
            Self::Refused(reason) => write!(f, "metric: {reason}"),
        }
    }
}

impl std::error::Error for MetricError {}

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A figure, with its labels.
#[derive(Clone, Debug)]
#[must_use = "nothing is recorded until a value is given"]
struct Metric<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
}

macro_rules! metrics {
    ($($(#[$about:meta])* $function:ident $type:ident: $(#[$does:meta])* $verb:ident;)*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug)]
        #[must_use = "nothing is recorded until a value is given"]
        pub struct $type<'a>(Metric<'a>);

        $(#[$about])*
        pub fn $function(name: &str) -> $type<'_> {
            $type(Metric { name, labels: Vec::new() })
        }

        impl $type<'_> {
            /// The same with a label.
            pub fn with(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
                self.0.labels.push((label.into(), value.into()));
                self
            }

            $(#[$does])*
            ///
            /// # Errors
            /// When the host does not take it.
            pub fn $verb(&self, value: f64) -> Result<(), MetricError> {
                host::record(Kind::$type, self.0.name, &self.0.labels, value)
            }
        }
    )*};
}

metrics! {
    /// What only grows.
    counter Counter:
    /// Adds to it: 0 or more.
    add;
    /// What goes up and down. Each instance sets the same one.
    gauge Gauge:
    /// Sets it.
    set;
    /// What is spread over a range: durations in seconds, sizes.
    histogram Histogram:
    /// Counts one value.
    observe;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn figures_reach_the_host() {
        counter("orders_total").with("kind", "book").add(2.0).unwrap();
        counter("orders_total").with("kind", "book").add(1.0).unwrap();
        gauge("queue").set(5.0).unwrap();
        assert_eq!(testing::metric("orders_total", &[("kind", "book")]), Some(3.0));
        assert_eq!(testing::metric("queue", &[]), Some(5.0));
        assert_eq!(testing::metric("queue", &[("kind", "book")]), None);
        testing::deny_metrics();
        assert!(gauge("queue").set(5.0).unwrap_err().to_string().contains("`metrics`"));
    }
}
