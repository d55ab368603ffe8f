//! Whether listeners can have the ports they ask for.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use coracle_router::{ListenerState, Router};
use coracle_server::ListenerPorts;
use coracle_store::BoxFuture;
use coracle_types::elb::{ElbArn, ElbResource, ListenerId};

/// The ports of the router's address.
pub(crate) struct RouterPorts {
    router: Router,
    address: IpAddr,
}

impl RouterPorts {
    pub(crate) fn new(router: Router, address: IpAddr) -> Self {
        Self { router, address }
    }
}

impl ListenerPorts for RouterPorts {
    fn reserve(&self, port: u16) -> BoxFuture<'_, Result<(), String>> {
        let address = SocketAddr::new(self.address, port);
        Box::pin(async move {
            let reserved = self.router.reserve(address).await;
            reserved.map(|_| ()).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => format!(
                    "Coracle is not allowed to listen on {address}: ports below 1024 need a privilege. Use a higher port, or \
                     run `sysctl net.ipv4.ip_unprivileged_port_start={port}`, or give the binary the capability \
                     CAP_NET_BIND_SERVICE"
                ),
                ErrorKind::AddrInUse => {
                    format!("The port {port} is in use: something else listens on {address}. Use another port")
                }
                _ => format!("Coracle cannot listen on {address}: {error}"),
            })
        })
    }

    fn release(&self, port: u16) {
        self.router.release(SocketAddr::new(self.address, port));
    }

    fn failed(&self) -> HashMap<ListenerId, String> {
        let states = self.router.listener_states();
        let states = states.borrow();
        let failed = states.iter().filter_map(|(id, state)| {
            let ListenerState::Failed(why) = state else { return None };
            match id.parse::<ElbArn>().ok()?.resource {
                ElbResource::Listener(id) => Some((id, why.clone())),
                _ => None,
            }
        });
        failed.collect()
    }
}
