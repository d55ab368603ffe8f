//! Requests that go out.

use std::time::Duration;

use ::http::uri::Scheme as HttpScheme;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use wasip2::http::outgoing_handler::{self, FutureIncomingResponse};
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method as WasiMethod, OutgoingRequest, RequestOptions, Scheme,
};

use super::executor::until;
use super::{IncomingBody, streams};
use crate::fetch::{Error, Timeouts};
use crate::http::{Body, Content, Request, Response};

/// Sends a request and waits for the head of its response.
pub(crate) async fn fetch(request: Request, timeouts: Timeouts) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let outgoing = OutgoingRequest::new(fields(&head.headers, &body)?);
    let refused = |what: &str| Error::Request(format!("its {what} is not allowed"));
    outgoing.set_method(&method(&head.method)).map_err(|()| refused("method"))?;
    let scheme = match head.uri.scheme() {
        Some(scheme) if *scheme == HttpScheme::HTTPS => Scheme::Https,
        Some(scheme) if *scheme != HttpScheme::HTTP => Scheme::Other(scheme.to_string()),
        _ => Scheme::Http,
    };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| refused("scheme"))?;
    let authority = head.uri.authority().map(|authority| authority.as_str());
    outgoing.set_authority(authority).map_err(|()| refused("host"))?;
    let path = head.uri.path_and_query().map(|path| path.as_str());
    outgoing.set_path_with_query(path).map_err(|()| refused("path"))?;

    let to = outgoing.body().expect("a request has one body, taken here first");
    let response =
        outgoing_handler::handle(outgoing, Some(options(timeouts))).map_err(|code| error(code, &head.uri))?;
    if let Err(failure) = streams::send(body, to).await {
        // The server may have answered before the end.
        if response.get().is_none() {
            until(response.subscribe()).await;
        }
        return match response.get() {
            Some(Ok(Ok(answer))) => self::response(answer),
            Some(Ok(Err(code))) => Err(error(code, &head.uri)),
            _ => Err(Error::Failed(failure.to_string())),
        };
    }
    answer(&response, &head.uri).await
}

async fn answer(response: &FutureIncomingResponse, uri: &Uri) -> Result<Response, Error> {
    loop {
        match response.get() {
            Some(Ok(Ok(answer))) => return self::response(answer),
            Some(Ok(Err(code))) => return Err(error(code, uri)),
            Some(Err(())) => return Err(Error::Failed("the answer was taken already".to_owned())),
            None => until(response.subscribe()).await,
        }
    }
}

fn response(incoming: IncomingResponse) -> Result<Response, Error> {
    let malformed = |what: &str| Error::Failed(format!("the answer's {what} is malformed"));
    let mut response = Response::default();
    *response.status_mut() = incoming.status().try_into().map_err(|_| malformed("status"))?;
    for (name, value) in incoming.headers().entries() {
        let name = HeaderName::try_from(name).map_err(|_| malformed("header"))?;
        response.headers_mut().append(name, HeaderValue::try_from(value).map_err(|_| malformed("header"))?);
    }
    let body = incoming.consume().expect("a response has one body, taken here first");
    *response.body_mut() = Body(Content::Incoming(IncomingBody::new(body)));
    Ok(response)
}

fn fields(headers: &HeaderMap, body: &Body) -> Result<Fields, Error> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        // The URI says it.
        if name != header::HOST {
            entries.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        }
    }
    if let Some(length @ 1..) = body.known_length()
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        entries.push((header::CONTENT_LENGTH.as_str().to_owned(), length.to_string().into_bytes()));
    }
    Fields::from_list(&entries).map_err(|error| Error::Request(format!("its headers: {error:?}")))
}

fn options(timeouts: Timeouts) -> RequestOptions {
    let options = RequestOptions::new();
    let nanos =
        |timeout: Option<Duration>| timeout.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    // A host that can't keep them is one without time-outs.
    let _ = options.set_connect_timeout(nanos(timeouts.connect));
    let _ = options.set_first_byte_timeout(nanos(timeouts.first_byte));
    let _ = options.set_between_bytes_timeout(nanos(timeouts.between_bytes));
    options
}

fn method(method: &Method) -> WasiMethod {
    match *method {
        Method::GET => WasiMethod::Get,
        Method::HEAD => WasiMethod::Head,
        Method::POST => WasiMethod::Post,
        Method::PUT => WasiMethod::Put,
        Method::DELETE => WasiMethod::Delete,
        Method::CONNECT => WasiMethod::Connect,
        Method::OPTIONS => WasiMethod::Options,
        Method::TRACE => WasiMethod::Trace,
        Method::PATCH => WasiMethod::Patch,
        _ => WasiMethod::Other(method.as_str().to_owned()),
    }
}

fn error(code: ErrorCode, uri: &Uri) -> Error {
    let words = || format!("{code:?}");
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::not_granted(uri),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => Error::TimedOut,
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => Error::Unresolved(words()),
        ErrorCode::ConnectionRefused
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable => Error::Unreachable(words()),
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            Error::Tls(words())
        }
        ErrorCode::HttpRequestUriInvalid => Error::Request(words()),
        _ => Error::Failed(words()),
    }
}
