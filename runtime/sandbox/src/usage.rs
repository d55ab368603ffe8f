//! What one request used, told to whoever asked for it with the request.

use std::fmt;
use std::sync::Arc;

/// What one request used of the instance that served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestUsage {
    /// Fuel, in wasmtime's units; None on an engine without metering.
    pub fuel: Option<u64>,
    /// Bytes of memory the instance held when the request had ended: linear memories, tables and what the host kept
    /// for it. An instance that serves several requests holds what the earlier ones left, too.
    pub memory: u64,
}

/// Asks for the usage of one request: put it into the request's extensions before
/// [`Container::handle`](crate::Container::handle).
///
/// It is told once the guest is done with the request, which may be long after the head of the response. It is not
/// told of a request that shared its instance with another at the same time, because fuel is counted per instance, nor
/// of one that never got an instance.
#[derive(Clone)]
pub struct RequestMeter(Arc<dyn Fn(RequestUsage) + Send + Sync>);

impl RequestMeter {
    /// A meter that hands the usage to `tell`, which must not block.
    pub fn new(tell: impl Fn(RequestUsage) + Send + Sync + 'static) -> Self {
        RequestMeter(Arc::new(tell))
    }
}

impl fmt::Debug for RequestMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestMeter")
    }
}

/// A meter at work.
pub(crate) struct Metered {
    meter: RequestMeter,
    /// The fuel there was when the request began.
    fuel: u64,
}

impl Metered {
    /// Begins to measure a request, if somebody wants to know.
    pub(crate) fn begin(extensions: &http::Extensions, fuel: u64) -> Option<Metered> {
        extensions.get::<RequestMeter>().map(|meter| Metered { meter: meter.clone(), fuel })
    }

    /// Tells what was used: `left` is the fuel there is now, `held` the memory.
    pub(crate) fn end(self, left: Option<u64>, held: u64) {
        let fuel = left.map(|left| self.fuel.saturating_sub(left));
        (self.meter.0)(RequestUsage { fuel, memory: held });
    }
}
