//! `coracle:services/metrics`: figures of a guest's own.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::HostState;

/// The interface, as `sdk/wit` has it.
const METRICS: &str = "coracle:services/metrics@0.1.0";

/// Takes the figures of guests.
pub trait Metrics: Send + Sync + 'static {
    /// Takes one. It must not block.
    ///
    /// # Errors
    /// Why not, in words for the guest's author.
    fn record(&self, metric: &Metric<'_>) -> Result<(), String>;
}

/// One figure, as a guest gives it: nothing about it has been checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric<'a> {
    /// What is to be done with the value.
    pub kind: MetricKind,
    /// The name.
    pub name: &'a str,
    /// Labels and their values, in the guest's order.
    pub labels: &'a [(String, String)],
    /// The value.
    pub value: f64,
}

/// What is done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricKind {
    /// It is added.
    Counter,
    /// It is what there is from now on.
    Gauge,
    /// It is counted among others.
    Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum MetricError {
    #[component(name = "not-granted")]
    NotGranted,
    #[component(name = "refused")]
    Refused(String),
}

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut metrics = linker.instance(METRICS)?;
    let functions =
        [("add", MetricKind::Counter), ("set", MetricKind::Gauge), ("observe", MetricKind::Histogram)];
    for (function, kind) in functions {
        metrics.func_wrap(
            function,
            move |store: StoreContextMut<'_, HostState>,
                  (name, labels, value): (String, Vec<(String, String)>, f64)| {
                let Some(granted) = &store.data().container.spec.metrics else {
                    return Ok((Err(MetricError::NotGranted),));
                };
                let metric = Metric { kind, name: &name, labels: &labels, value };
                Ok((granted.record(&metric).map_err(MetricError::Refused),))
            },
        )?;
    }
    Ok(())
}
