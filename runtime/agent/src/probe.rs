//! Carries out single health checks.

use std::time::Duration;

use bytes::Bytes;
use coracle_sandbox::{Container, ContainerSpec, Exit, Prepared};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};

use crate::shell::Fetch;

/// How much of a response's body a check reads before it lets go: the guest may finish a page of any sane
/// size, and one that never ends does not hold the check.
const MAX_BODY: usize = 1024 * 1024;

/// A check of one container, ready to be made again and again. Clones share the container.
#[derive(Clone)]
pub(crate) enum Probe {
    /// A request to the container's handler.
    Http { container: Container, fetch: Fetch },
    /// A run of its command, in a container of its own beside it. Its output goes nowhere.
    Command { prepared: Prepared, spec: Box<ContainerSpec> },
}

impl Probe {
    /// Whether the container is healthy. A check that takes longer than `timeout` says no.
    pub(crate) async fn passes(self, timeout: Duration) -> bool {
        let check = async {
            match self {
                Self::Http { container, fetch } => http(&container, &fetch).await,
                Self::Command { prepared, spec } => match Container::new(&prepared, *spec) {
                    Ok(container) => container.run().await == Exit::Code(0),
                    Err(_) => false,
                },
            }
        };
        tokio::time::timeout(timeout, check).await.unwrap_or(false)
    }
}

async fn http(container: &Container, fetch: &Fetch) -> bool {
    let mut request = Request::builder()
        .method(fetch.method.clone())
        .uri(fetch.path.as_str())
        .header(http::header::HOST, fetch.authority.as_str())
        .header(http::header::USER_AGENT, "coracle-health-check");
    if let Some(headers) = request.headers_mut() {
        for (name, value) in &fetch.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
    let Ok(request) = request.body(Empty::<Bytes>::new()) else { return false };
    let Ok(response) = container.handle(request).await else { return false };
    let status = response.status();
    let mut body = response.into_body();
    let mut read = 0;
    while read < MAX_BODY {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return false,
            None => break,
        }
    }
    (StatusCode::OK..StatusCode::BAD_REQUEST).contains(&status)
}
