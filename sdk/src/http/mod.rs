//! Requests, responses and what leads from one to the other.
//!
//! The types are the `http` crate's, with [`Body`] for a body.

mod body;
mod path;
mod request;
mod respond;
mod router;

pub use body::{Body, BodyError, Writer};
#[cfg_attr(not(target_family = "wasm"), expect(unused_imports, reason = "natively no host reads them"))]
pub(crate) use body::{Content, Sink};
pub use request::{MAX_BODY, Rejection, RequestExt};
pub use respond::{IntoResponse, Json};
pub use router::Router;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

pub use crate::Error;

/// What a handler gets. Its URI is the path and query; the host is in the header of that name.
pub type Request<T = Body> = ::http::Request<T>;

/// What a handler answers with.
pub type Response<T = Body> = ::http::Response<T>;
