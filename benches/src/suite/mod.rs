//! The benches, one file each. A bench answers with tables; what it holds itself against is in the same table.

pub mod allocs;
pub(crate) mod api;
pub(crate) mod artifact;
pub(crate) mod cap;
pub(crate) mod density;
pub(crate) mod fairness;
pub(crate) mod instantiate;
pub(crate) mod link;
pub(crate) mod metering;
pub(crate) mod noisy;
pub(crate) mod plugins;
pub(crate) mod proxy;
mod relay;
pub(crate) mod scheduler;
pub(crate) mod sdk;
pub(crate) mod startup;
pub(crate) mod store;
pub(crate) mod swap;
pub(crate) mod throughput;
