//! Requests that programs in this process send to services by name: a function call, no socket.
//!
//! They go the way of the default port and are counted and logged there, with two differences. The service is the
//! one whose name was asked for here, whatever the request's headers say: whoever lets a program call one service
//! must be sure that it reaches no other. And nobody looks after the client: it drops what takes it too long.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;

use crate::address::parse_internal;
use crate::connection::Connection;
use crate::handler;
use crate::headers::Scan;
use crate::router::Router;
use crate::target::{RequestBody, ResponseBody};

/// Where requests from this process seem to come from.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A service by the name that programs in this process have for it. Whether there is one shows when it is called.
#[derive(Clone)]
pub struct NamedService {
    router: Router,
    host: String,
}

impl Router {
    /// The service that the host `<service>.<cluster>[.<region>].internal` means, or the same below
    /// `localhost`; None for every other host.
    #[must_use]
    pub fn named(&self, host: &str) -> Option<NamedService> {
        parse_internal(host).map(|_| NamedService { router: self.clone(), host: host.to_owned() })
    }
}

impl NamedService {
    /// Has a request answered by the service, or by the router: 404 if there is no such service, 503 if it
    /// has no target. The request's URI is in origin form. Dropping the future, or the response's body, gives
    /// the request up.
    pub async fn call(&self, request: Request<RequestBody>) -> Response<ResponseBody> {
        let shared = &self.router.shared;
        let connection = Connection::new(Arc::clone(shared), Arc::clone(&shared.in_process), CLIENT, false);
        let scan = Scan::request(request.headers());
        let named = parse_internal(&self.host);
        let response =
            handler::to_service(connection, request, scan, named.as_ref(), |body, _connection| body).await;
        response.map(|body| body.boxed_unsync())
    }
}
