//! The network of a task: its localhost, what its containers may reach, and which of them answer there.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_sandbox::{
    EgressPolicy, InProcess, Localhost, Loopback, Network, NetworkQuotas, NetworkSpec, NoLoopback, TlsClient,
    Upstream, UpstreamBody,
};
use coracle_types::NetworkMode;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;

use crate::handle::{CallError, HttpHandle};
use crate::metadata::{self, Metadata};

/// The network of one task.
pub(crate) struct TaskNetwork {
    /// With nothing let out: each container has a part of it with its own rules.
    shared: Network,
    services: Arc<Services>,
}

impl TaskNetwork {
    /// A network as `networkMode` says: `none` is none, `host` is the machine's, and every other is the task's own.
    pub(crate) fn new(
        mode: Option<NetworkMode>,
        quotas: NetworkQuotas,
        tls: TlsClient,
        metadata: Metadata,
        beyond: Option<Arc<dyn InProcess>>,
    ) -> Result<Self, NoLoopback> {
        let localhost = match mode {
            Some(NetworkMode::None) => Localhost::Machine,
            Some(NetworkMode::Host) => Localhost::Shared,
            Some(NetworkMode::Awsvpc | NetworkMode::Bridge) | None => Localhost::Own(Loopback::take()?),
        };
        let has_own_localhost = matches!(localhost, Localhost::Own(_));
        let metadata = Arc::new(metadata);
        let services = Arc::new(Services { local: Mutex::default(), has_own_localhost, metadata, beyond });
        let in_process = Some(Arc::clone(&services) as Arc<dyn InProcess>);
        let shared =
            Network::new(NetworkSpec { localhost, quotas, tls, in_process, ..NetworkSpec::default() });
        Ok(Self { shared, services })
    }

    /// A container's part of it.
    pub(crate) fn with_egress(&self, egress: &EgressPolicy) -> Network {
        self.shared.with_egress(egress.clone())
    }

    /// Where this machine finds what the task's containers listen on.
    pub(crate) fn address(&self, port: u16) -> Option<std::net::SocketAddr> {
        match self.shared.localhost() {
            Localhost::Own(loopback) => Some((loopback.address(), port).into()),
            Localhost::Shared => Some((std::net::Ipv4Addr::LOCALHOST, port).into()),
            Localhost::Machine => None,
        }
    }

    /// Lets the task's other containers call this one at its ports.
    pub(crate) fn serve(&self, ports: &[u16], handle: &HttpHandle) {
        let mut local = self.services.local.lock();
        local.extend(ports.iter().map(|&port| (port, handle.clone())));
    }
}

/// What is answered in this process.
struct Services {
    /// Containers of the task that answer requests, by port.
    local: Mutex<HashMap<u16, HttpHandle>>,
    /// Whether every name below `localhost` is the task's.
    has_own_localhost: bool,
    /// What the task can learn of itself.
    metadata: Arc<Metadata>,
    /// What lies beyond the task: other services, by name.
    beyond: Option<Arc<dyn InProcess>>,
}

impl InProcess for Services {
    fn find(&self, host: &str, port: u16) -> Option<Arc<dyn Upstream>> {
        if matches!(host, "localhost" | "127.0.0.1" | "::1") {
            let handle = self.local.lock().get(&port).cloned()?;
            return Some(Arc::new(Sibling(handle)));
        }
        if (host, port) == (metadata::HOST, metadata::PORT) {
            return Some(Arc::clone(&self.metadata) as Arc<dyn Upstream>);
        }
        if self.has_own_localhost && is_below_localhost(host) {
            return None;
        }
        self.beyond.as_ref()?.find(host, port)
    }

    fn is_open(&self, host: &str, port: u16) -> bool {
        (host, port) == (metadata::HOST, metadata::PORT)
    }
}

fn is_below_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// A container of the same task.
struct Sibling(HttpHandle);

impl Upstream for Sibling {
    fn call(
        &self,
        request: Request<UpstreamBody>,
    ) -> BoxFuture<'static, Result<Response<UpstreamBody>, String>> {
        let handle = self.0.clone();
        Box::pin(async move {
            match handle.call(request).await {
                Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(CallError::Draining(_)) => Err("the container is stopping".to_owned()),
                Err(CallError::Handle(error)) => Err(error.to_string()),
            }
        })
    }
}
