//! Outgoing HTTP, as far as the label `coracle.egress` lets it.
//!
//! ```no_run
//! # async fn example() -> Result<(), coracle_sdk::Error> {
//! use coracle_sdk::fetch;
//! use std::time::Duration;
//!
//! let mut answer = fetch::get("https://api.example.com/rates").timeout(Duration::from_secs(2)).send().await?;
//! let rates: serde_json::Value = answer.body_mut().json().await?;
//!
//! let order = serde_json::json!({"book": 7});
//! fetch::post("http://orders.default.internal/").json(&order)?.send().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `http://SERVICE.CLUSTER.internal/` is another service of this Coracle, without a socket in between. Redirects are
//! answers like any other.

use std::fmt;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;

use crate::http::{Body, Request, Response};
use crate::{NotGranted, host, time};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The task may not go there.
    NotGranted(NotGranted),
    /// It took longer than it was given.
    TimedOut,
    /// The name could not be looked up.
    Unresolved(String),
    /// Nobody there takes connections.
    Unreachable(String),
    /// TLS failed; usually it is the certificate.
    Tls(String),
    /// What was to be sent is not a request.
    Request(String),
    /// Something else, in the host's words.
    Failed(String),
}

impl Error {
    /// What a service answers with that could not go on for this.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::NotGranted(_) | Self::Request(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unresolved(_) | Self::Unreachable(_) | Self::Tls(_) | Self::Failed(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// The error for a host that the task may not reach.
    pub(crate) fn not_granted(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Self::NotGranted(NotGranted {
            wanted: format!("a request to {host}:{port}"),
            grant: format!(
                "add {host}:{port} to the label coracle.egress in `dockerLabels` of the task definition, or start \
                 `coracle run` with --allow-net {host}:{port}"
            ),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the answer took too long"),
            Self::Unresolved(reason) => write!(f, "the name can't be looked up: {reason}"),
            Self::Unreachable(reason) => write!(f, "no connection: {reason}"),
            Self::Tls(reason) => write!(f, "no secure connection: {reason}"),
            Self::Request(reason) => write!(f, "not a request: {reason}"),
            Self::Failed(reason) => write!(f, "the request failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// How long the parts of a request may take; None is the host's own, 60 seconds for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Everything until the head of the answer.
    pub total: Option<Duration>,
    /// Until there is a connection.
    pub connect: Option<Duration>,
    /// From the request to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer's body.
    pub between_bytes: Option<Duration>,
}

/// A request that is being put together.
#[must_use = "nothing is sent until `send`"]
#[derive(Debug)]
pub struct Fetch {
    request: Result<Request, Error>,
    timeouts: Timeouts,
}

/// Asks for something.
pub fn get(uri: impl TryInto<Uri, Error: fmt::Display>) -> Fetch {
    request(Method::GET, uri)
}

/// Sends something; the body is still to come.
pub fn post(uri: impl TryInto<Uri, Error: fmt::Display>) -> Fetch {
    request(Method::POST, uri)
}

/// A request with any method.
pub fn request(method: Method, uri: impl TryInto<Uri, Error: fmt::Display>) -> Fetch {
    let request = uri.try_into().map_err(|error| Error::Request(error.to_string())).map(|uri| {
        let mut request = Request::default();
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request
    });
    Fetch { request, timeouts: Timeouts::default() }
}

impl From<Request> for Fetch {
    fn from(request: Request) -> Self {
        Self { request: Ok(request), timeouts: Timeouts::default() }
    }
}

impl Fetch {
    /// With a header.
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: fmt::Display>,
        value: impl TryInto<HeaderValue, Error: fmt::Display>,
    ) -> Self {
        self.request = self.request.and_then(|mut request| {
            let name = name.try_into().map_err(|error| Error::Request(error.to_string()))?;
            let value = value.try_into().map_err(|error| Error::Request(error.to_string()))?;
            request.headers_mut().append(name, value);
            Ok(request)
        });
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        if let Ok(request) = &mut self.request {
            *request.body_mut() = body.into();
        }
        self
    }

    /// With a value as JSON.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, Error> {
        let text = serde_json::to_vec(value).map_err(|error| Error::Request(error.to_string()))?;
        Ok(self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")).body(text))
    }

    /// For so long at most, until the head of the answer.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeouts.total = Some(total);
        self
    }

    /// With these time-outs.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sends it. Every status is an answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(self) -> Result<Response, Error> {
        let request = self.request?;
        if request.uri().host().is_none() {
            return Err(Error::Request(format!("{} names no host", request.uri())));
        }
        let answer = host::fetch(request, self.timeouts);
        match self.timeouts.total {
            Some(total) => time::timeout(total, answer).await.map_err(|_| Error::TimedOut)?,
            None => answer.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[crate::test]
    async fn what_can_not_be_sent_is_said_before() {
        assert!(matches!(get("http://[").send().await, Err(Error::Request(_))));
        assert!(matches!(get("/path").send().await, Err(Error::Request(_))));
        assert!(matches!(get("http://a/").header("a b", "c").send().await, Err(Error::Request(_))));
    }

    #[crate::test]
    async fn tests_say_who_answers() {
        let error = get("https://api.example.com/").send().await.unwrap_err();
        assert!(
            error.to_string().contains("coracle.egress") && error.to_string().contains("api.example.com:443")
        );

        testing::on_fetch(|request| {
            assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
            Ok(Response::new(Body::from("answer")))
        });
        let mut response = post("http://a/").json(&1).unwrap().send().await.unwrap();
        assert_eq!(response.body_mut().text().await.unwrap(), "answer");
    }
}
