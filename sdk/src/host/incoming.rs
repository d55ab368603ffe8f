//! Requests that come in, and the responses to them.

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method as WasiMethod, OutgoingResponse, ResponseOutparam,
};

use super::{IncomingBody, block_on, streams};
use crate::http::{Body, Content, IntoResponse, Rejection, Request, Response};
use crate::log::{self, Level};

/// A request that nobody has looked at.
pub struct Incoming(IncomingRequest);

impl Incoming {
    /// The request with all its parts.
    ///
    /// # Errors
    /// When a part of it is not what it should be.
    pub fn request(self) -> Result<Request, Rejection> {
        let incoming = self.0;
        let path = incoming.path_with_query();
        let uri = match path {
            Some(path) => path.try_into().map_err(|_| malformed("path"))?,
            None => ::http::Uri::default(),
        };
        let mut request = Request::default();
        *request.method_mut() = method(incoming.method()).ok_or_else(|| malformed("method"))?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        for (name, value) in incoming.headers().entries() {
            let name = HeaderName::try_from(name).map_err(|_| malformed("header"))?;
            headers.append(name, HeaderValue::try_from(value).map_err(|_| malformed("header"))?);
        }
        // WASI has it apart.
        if let Some(host) = incoming.authority()
            && !headers.contains_key(header::HOST)
        {
            headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| malformed("host"))?);
        }
        let body = incoming.consume().expect("a request has one body, taken here first");
        *request.body_mut() = Body(Content::Incoming(IncomingBody::new(body)));
        Ok(request)
    }
}

fn malformed(what: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, format!("the request's {what} is malformed"))
}

fn method(method: WasiMethod) -> Option<Method> {
    Some(match method {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        WasiMethod::Other(name) => name.parse().ok()?,
    })
}

/// Answers a request: what the attribute for handlers expands to.
pub fn serve<R: IntoResponse>(
    request: IncomingRequest,
    out: ResponseOutparam,
    handler: impl AsyncFnOnce(Incoming) -> Result<R, Rejection>,
) {
    super::start();
    block_on(async {
        let response = handler(Incoming(request)).await.into_response();
        respond(response, out).await;
    });
}

async fn respond(response: Response, out: ResponseOutparam) {
    let (head, body) = response.into_parts();
    let mut entries: Vec<(String, Vec<u8>)> = Vec::with_capacity(head.headers.len() + 1);
    for (name, value) in &head.headers {
        entries.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
    }
    if let Some(length) = body.known_length()
        && may_have_length(head.status)
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        entries.push((header::CONTENT_LENGTH.as_str().to_owned(), length.to_string().into_bytes()));
    }
    let headers = match Fields::from_list(&entries) {
        Ok(headers) => headers,
        Err(error) => {
            log::line(
                Level::Error,
                "",
                &format!("the response's headers are not for a handler to set: {error:?}"),
            );
            let reason = "the handler set a header that it may not set".to_owned();
            ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(reason))));
            return;
        }
    };
    let response = OutgoingResponse::new(headers);
    if head.status != StatusCode::OK {
        response
            .set_status_code(head.status.as_u16())
            .expect("the http crate has no status that HTTP has not");
    }
    let outgoing = response.body().expect("a response has one body, taken here first");
    // From here on the host may send the head, while the body is still being written.
    ResponseOutparam::set(out, Ok(response));
    let whole = body.known_length().is_some();
    if let Err(error) = streams::send(body, outgoing).await
        && !whole
    {
        // Of a whole body it is only that the client has gone.
        log::line(Level::Error, "", &format!("the response is cut off: {error}"));
    }
}

fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}
