//! Services that guests call by name, answered through the router without a socket.

use std::sync::{Arc, OnceLock};

use coracle_router::{NamedService, Router};
use coracle_sandbox::{InProcess, Upstream, UpstreamBody};
use futures_util::future::BoxFuture;
use http::{Request, Response};

/// The port of `http`. Other ports of such names are left to whoever else has some.
const PORT: u16 = 80;

/// The services of the router, once there is one: the agent is made before it.
#[derive(Default)]
pub(crate) struct NamedServices(OnceLock<Router>);

impl NamedServices {
    /// Has calls answered by this router. The first one stays.
    pub(crate) fn answer_by(&self, router: &Router) {
        self.0.get_or_init(|| router.clone());
    }
}

impl InProcess for NamedServices {
    fn find(&self, host: &str, port: u16) -> Option<Arc<dyn Upstream>> {
        let service = self.0.get().filter(|_| port == PORT)?.named(host)?;
        Some(Arc::new(Named(service)))
    }
}

struct Named(NamedService);

impl Upstream for Named {
    fn call(
        &self,
        request: Request<UpstreamBody>,
    ) -> BoxFuture<'static, Result<Response<UpstreamBody>, String>> {
        let service = self.0.clone();
        Box::pin(async move { Ok(service.call(request).await) })
    }
}
