//! What can be a response.

use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

use super::{Body, Rejection, Response};
use crate::log::{self, Level};
use crate::{Error, NotGranted};

/// What can be a response.
pub trait IntoResponse {
    /// The response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

/// 204.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// A status, without a body.
impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        (self, Body::default()).into_response()
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        let (status, content) = self;
        let mut response = content.into_response();
        *response.status_mut() = status;
        response
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(content) => content.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

/// 404 if there is nothing.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(content) => content.into_response(),
            None => Error::not_found("not found").into_response(),
        }
    }
}

macro_rules! content {
    ($($kind:literal for $($type:ty),*;)*) => {$($(
        impl IntoResponse for $type {
            fn into_response(self) -> Response {
                with_type($kind, self.into())
            }
        }
    )*)*};
}

content! {
    "text/plain; charset=utf-8" for &'static str, String;
    "application/octet-stream" for Bytes, Vec<u8>, &'static [u8];
}

fn with_type(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A value as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(
    /// The value.
    pub T,
);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => with_type("application/json", text.into()),
            Err(error) => Error::from(error).into_response(),
        }
    }
}

/// Its status and its text. What it was made of goes to the log.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.source().is_some() {
            log::line(Level::Error, "", &self.to_string());
        }
        (self.status(), format!("{}\n", self.message())).into_response()
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl IntoResponse for NotGranted {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[crate::test]
    async fn values_become_responses() {
        let mut response = Json([1, 2]).into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.body_mut().text().await.unwrap(), "[1,2]");
        assert_eq!(().into_response().status(), StatusCode::NO_CONTENT);
        assert_eq!((StatusCode::CREATED, "made").into_response().status(), StatusCode::CREATED);
        assert_eq!(None::<&str>.into_response().status(), StatusCode::NOT_FOUND);

        let failed: Result<&str, Error> = Err(Error::internal("the password is 123"));
        let mut response = failed.into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.body_mut().text().await.unwrap(), "internal server error\n");
        assert!(crate::testing::log_lines().iter().any(|line| line.contains("the password is 123")));
    }
}
