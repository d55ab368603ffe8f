//! The ports of listeners, which are the router's.

use std::collections::HashMap;

use coracle_types::elb::ListenerId;

/// What the API asks of whoever opens ports for listeners.
pub trait ListenerPorts: Send + Sync {
    /// Whether a listener could be opened at a port on which there is none yet.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    fn free(&self, port: u16) -> Result<(), String>;

    /// The listeners that could not be opened, and why.
    fn failed(&self) -> HashMap<ListenerId, String>;
}

/// An API without a router: every port will do.
pub(crate) struct AnyPort;

impl ListenerPorts for AnyPort {
    fn free(&self, _port: u16) -> Result<(), String> {
        Ok(())
    }

    fn failed(&self) -> HashMap<ListenerId, String> {
        HashMap::new()
    }
}
