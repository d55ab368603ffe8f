//! What a handler asks of its request.

use std::fmt;
use std::str::FromStr;

use ::http::{StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::path::decode;
use super::{BodyError, Request};

/// The most bytes of a body that are taken at once without being asked for: 2 MiB.
pub const MAX_BODY: usize = 2 << 20;

/// The request is not what it should be. As a response it says so to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: StatusCode,
    reason: String,
}

impl Rejection {
    pub(crate) fn new(status: StatusCode, reason: String) -> Self {
        Self { status, reason }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Rejection {}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::EndedEarly(_) | BodyError::NoText(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// The parameters of the route that a router has found, in the extensions of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

/// What handlers ask of a [`Request`].
pub trait RequestExt {
    /// A parameter of the route: `name` for `{name}`.
    ///
    /// # Errors
    /// When the route has none of that name, which is a mistake of the program: 500.
    fn param(&self, name: &str) -> Result<&str, Rejection>;

    /// A parameter of the route, as a number or whatever else a text can be.
    ///
    /// # Errors
    /// When it can't, which is as if there were no such path: 404.
    fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, Rejection>;

    /// The first value of that name in the query.
    fn query(&self, name: &str) -> Option<String>;

    /// The first header of that name, if it is text.
    fn header(&self, name: &str) -> Option<&str>;

    /// The body, up to [`MAX_BODY`].
    ///
    /// # Errors
    /// 413 when it is larger, 400 when it does not come to its end.
    fn bytes(&mut self) -> impl Future<Output = Result<Bytes, Rejection>>;

    /// The body as text, up to [`MAX_BODY`].
    ///
    /// # Errors
    /// As [`RequestExt::bytes`], and 400 when it is not UTF-8.
    fn text(&mut self) -> impl Future<Output = Result<String, Rejection>>;

    /// The body as JSON, up to [`MAX_BODY`].
    ///
    /// # Errors
    /// As [`RequestExt::bytes`]; 415 when its `content-type` is another, 422 when it is JSON that `T` does not take, 400
    /// when it is none.
    fn json<T: DeserializeOwned>(&mut self) -> impl Future<Output = Result<T, Rejection>>;
}

impl RequestExt for Request {
    fn param(&self, name: &str) -> Result<&str, Rejection> {
        let found = self.extensions().get::<Parameters>().map(|parameters| parameters.0.as_slice());
        let found = found.unwrap_or_default().iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| {
            Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the route has no parameter {name:?}"))
        })
    }

    fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, Rejection> {
        let value = self.param(name)?;
        value.parse().map_err(|_| Rejection::new(StatusCode::NOT_FOUND, format!("{name} can't be {value:?}")))
    }

    fn query(&self, name: &str) -> Option<String> {
        self.uri().query()?.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(found, true) == name).then(|| decode(value, true))
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    async fn bytes(&mut self) -> Result<Bytes, Rejection> {
        let length =
            self.header(header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_BODY as u64) {
            return Err(BodyError::TooLarge(MAX_BODY).into());
        }
        Ok(self.body_mut().bytes().await?)
    }

    async fn text(&mut self) -> Result<String, Rejection> {
        let bytes = RequestExt::bytes(self).await?;
        String::from_utf8(bytes.into())
            .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, format!("the body is no text: {error}")))
    }

    async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Rejection> {
        let kind = self.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if !is_json(kind) {
            let reason = format!("the content-type is {kind:?}; application/json is expected");
            return Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
        let bytes = RequestExt::bytes(self).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let status =
                if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
            Rejection::new(status, format!("the body: {error}"))
        })
    }
}

/// `application/json`, or something that is written as JSON.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn request(kind: &str, body: &'static str) -> Request {
        ::http::Request::post("/").header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    }

    #[crate::test]
    async fn bodies_are_rejected_for_what_is_wrong_with_them() {
        for (kind, body, status) in
            [("text/plain", "1", 415), ("application/json", "1 2", 400), ("application/json", "\"one\"", 422)]
        {
            let rejection = request(kind, body).json::<u32>().await.unwrap_err();
            assert_eq!(rejection.status().as_u16(), status, "{rejection}");
        }
        assert_eq!(request("application/json; charset=utf-8", "[1]").json::<Vec<u32>>().await.unwrap(), [1]);
        assert_eq!(request("application/vnd.x+json", "1").json::<u32>().await.unwrap(), 1);

        let body = Body::stream(async |mut writer| {
            loop {
                writer.write(vec![0; 64 << 10]).await?;
            }
        });
        let rejection = RequestExt::bytes(&mut Request::new(body)).await.unwrap_err();
        assert_eq!(rejection.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn queries_are_decoded() {
        let request = ::http::Request::get("/?a=1&b=x%26y+z&c&a=2").body(Body::default()).unwrap();
        assert_eq!(request.query("a").as_deref(), Some("1"));
        assert_eq!(request.query("b").as_deref(), Some("x&y z"));
        assert_eq!(request.query("c").as_deref(), Some(""));
        assert_eq!(request.query("d"), None);
    }
}
