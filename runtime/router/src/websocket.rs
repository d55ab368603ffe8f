//! WebSocket over HTTP/2 (RFC 8441): a client asks by an extended CONNECT, and is answered 200 where HTTP/1.1 has 101.
//!
//! Targets are asked as HTTP/1.1 does it, whatever their clients speak: rules, targets and access log see a GET.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::Answer;
use crate::connection::Connection;
use crate::tunnel::Begun;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Makes of a request for WebSocket over HTTP/2 the one of HTTP/1.1 that means the same. Gives what becomes the
/// client's side of the stream; none if it is no such request.
pub(crate) fn translate<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    let asks = request.method() == Method::CONNECT
        && request
            .extensions_mut()
            .remove::<Protocol>()
            .is_some_and(|protocol| protocol.as_str() == "websocket");
    if !asks {
        return None;
    }
    *request.method_mut() = Method::GET;
    // Clients of HTTP/2 have no key; what a target makes of this one is for nobody.
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let headers = request.headers_mut();
    headers.insert(KEY, HeaderValue::try_from(key).expect("base64 is printable"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Some(hyper::upgrade::on(request))
}

/// Joins the client to its target, if that has agreed.
pub(crate) fn join(connection: &Arc<Connection>, client: OnUpgrade, response: &mut Response<Answer>) {
    let Some(tunnel) = response.extensions_mut().remove::<Begun>().and_then(|begun| begun.take()) else {
        return;
    };
    *response.status_mut() = StatusCode::OK;
    for name in [header::CONNECTION, header::UPGRADE, ACCEPT] {
        response.headers_mut().remove(name);
    }
    let longest_silence = connection.longest_silence();
    tokio::spawn(async move {
        match client.await {
            Ok(client) => tunnel.run_stream(TokioIo::new(client), longest_silence).await,
            Err(error) => tracing::debug!(%error, "a client left before its stream began"),
        }
    });
}
