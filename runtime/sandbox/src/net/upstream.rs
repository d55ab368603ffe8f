//! Services that guests call by name and that are answered in this process: a function call, no socket.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

/// A body on its way between two guests, or a guest and the host.
pub type UpstreamBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Knows which hosts are answered in this process.
pub trait InProcess: Send + Sync + 'static {
    /// The service that answers for `host` (a name, lower or upper case) at `port`; None if a connection has to be
    /// made. Whether the guest may call it has not been checked yet.
    fn find(&self, host: &str, port: u16) -> Option<Arc<dyn Upstream>>;

    /// Whether every guest may call it, whatever the rules of its network say.
    fn is_open(&self, _host: &str, _port: u16) -> bool {
        false
    }
}

/// Answers requests.
pub trait Upstream: Send + Sync + 'static {
    /// Answers one. Its URI is a path; the host is in its `Host` header.
    ///
    /// # Errors
    /// Why there is no response, in words for the guest's author.
    fn call(
        &self,
        request: Request<UpstreamBody>,
    ) -> BoxFuture<'static, Result<Response<UpstreamBody>, String>>;
}
