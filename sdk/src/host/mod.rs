//! What the rest of the crate asks of its surroundings: the host of a component, or in native tests what the test says.

#[cfg(target_family = "wasm")]
#[allow(clippy::all, clippy::pedantic, unsafe_code, unreachable_pub, missing_docs, unused, reason = "generated")]
#[rustfmt::skip]
mod bindings;
#[cfg(target_family = "wasm")]
mod executor;
#[cfg(target_family = "wasm")]
mod incoming;
#[cfg(target_family = "wasm")]
mod outgoing;
#[cfg(target_family = "wasm")]
mod services;
#[cfg(target_family = "wasm")]
mod streams;
#[cfg(target_family = "wasm")]
pub use self::{
    executor::block_on,
    incoming::{Incoming, serve},
};
#[cfg(target_family = "wasm")]
pub(crate) use self::{
    executor::sleep,
    outgoing::fetch,
    services::*,
    streams::{IncomingBody, OutgoingBody},
};

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub use native::block_on;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::*;
