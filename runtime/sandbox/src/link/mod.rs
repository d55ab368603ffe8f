//! Links: one container's imports, answered by another container's exports. A call is a function call from sandbox to
//! sandbox.
//!
//! An import of an interface that is not WASI's, and that no host function provides, is left open when a component is
//! prepared ([`open`]); a container that is made of it says in [`ContainerSpec::links`](crate::ContainerSpec) whose
//! exports answer it, and both sides' types are compared then ([`check`]), before anything runs. A call enters an
//! instance of the exporting container's pool: its own store, memory, fuel, grants and time, and its own bill. Nothing
//! is shared but the values of one call, which are lifted out of the one memory and lowered into the other.
//!
//! Values are taken apart and put together one by one, as their types are known only at run time; but for the usual
//! functions of bytes and text ([`typed`]), which are copied from memory to memory.
//!
//! What can't cross: resources, streams, futures and asynchronous functions. A handle is a number in one store's table,
//! and means nothing in another; an instance of the other side that is still needed for one could not be replaced, nor go
//! back to its pool, for as long as the importer likes. A component that imports such a function is refused when it
//! starts, with what its interface may have in its place.
//!
//! A trap on the other side, a limit reached, or a container that has ended is a trap of the importer's call, as a
//! function of a component has no other way to fail; the reason names the container and the function. Links lead one
//! way: a container can only be linked to one that is there already, so that they can't form a circle.

mod check;
mod open;
mod typed;
mod wit;

pub use check::LinkError;
pub(crate) use check::{Linked, resolve};
pub(crate) use open::{OpenFunction, leave_open};

use crate::plugin::Plugin;

/// Whose exports answer what a container imports.
#[derive(Clone)]
pub struct Link {
    /// The interface, as `demo:auth/policy` or `demo:auth/policy@1.0.0`. `None`: every interface, and every function
    /// of the world's root, that the component imports and the other exports.
    pub interface: Option<String>,
    /// What errors call the exporting container.
    pub container: String,
    /// The exports.
    pub exports: Plugin,
}

/// Why a call by a link has no result. The importer traps with it.
#[derive(Debug, thiserror::Error)]
#[error("linked container {container}: {function}: {reason}")]
pub(crate) struct LinkFailed {
    pub(crate) container: String,
    pub(crate) function: String,
    pub(crate) reason: String,
}
