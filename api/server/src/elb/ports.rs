//! The ports of listeners, which are the router's.

use std::collections::HashMap;

use coracle_protocol::ApiError;
use coracle_protocol::elb::ElbCode;
use coracle_store::BoxFuture;
use coracle_types::elb::ListenerId;

use crate::api::Api;

/// What the API asks of whoever opens ports for listeners.
pub trait ListenerPorts: Send + Sync {
    /// Takes a port for a listener that is about to be made, so that making it does not fail later.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do about it.
    fn reserve(&self, port: u16) -> BoxFuture<'_, Result<(), String>>;

    /// Gives a port back whose listener was not made after all.
    fn release(&self, port: u16);

    /// The listeners that could not be opened, and why.
    fn failed(&self) -> HashMap<ListenerId, String>;
}

/// An API without a router: every port will do.
pub(crate) struct AnyPort;

impl ListenerPorts for AnyPort {
    fn reserve(&self, _port: u16) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(&self, _port: u16) {}

    fn failed(&self) -> HashMap<ListenerId, String> {
        HashMap::new()
    }
}

/// A port that is kept for a listener until that is made, or this is dropped.
pub(super) struct Reserved<'a> {
    api: &'a Api,
    port: Option<u16>,
}

impl<'a> Reserved<'a> {
    /// Reserves `port`, unless a listener has it already.
    pub(super) async fn take(api: &'a Api, port: u16) -> Result<Self, ApiError> {
        let state = api.store.snapshot();
        if state.listeners.values().any(|found| found.value.port == port) {
            return Ok(Self { api, port: None });
        }
        let reserved = api.ports.reserve(port).await;
        reserved.map_err(|why| ElbCode::InvalidConfigurationRequest.because(why))?;
        Ok(Self { api, port: Some(port) })
    }

    /// The listener is there: it takes the port.
    pub(super) fn keep(mut self) {
        self.port = None;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            self.api.ports.release(port);
        }
    }
}
