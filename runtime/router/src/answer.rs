//! The answers the router gives itself: what was wrong, and what to do, in one line.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::address::AddressError;
use crate::headers::ERROR_HEADER;
use crate::table::{RouteError, Routes, ServiceName};
use crate::target::CallError;

/// Bytes of a target's reason that are shown.
const MAX_REASON: usize = 512;

/// Services named in the answer to a request for one that is not there.
const MAX_LISTED: usize = 20;

/// When to come back after an answer that only time can mend.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// An answer of the router's own.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// For programs: the value of `x-coracle-error`.
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    services: Option<Vec<String>>,
    /// The connection ends with it: where the next request begins is not sure.
    closes: bool,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self { status, code, message, retry_after: None, services: None, closes: false }
    }

    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    pub(crate) fn uri_too_long(max: usize) -> Self {
        let message = format!("the request's URI is longer than {max} bytes; send long values in the body");
        Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", message)
    }

    pub(crate) fn connect() -> Self {
        let message = "CONNECT is not supported: this is not a forward proxy; send the request itself";
        Self::new(StatusCode::NOT_IMPLEMENTED, "connect_not_supported", message.to_owned())
    }

    pub(crate) fn upgrade() -> Self {
        let message = "of protocol upgrades only that to WebSocket is passed on, asked for by GET; \
                       send the request without Upgrade";
        Self::new(StatusCode::NOT_IMPLEMENTED, "upgrade_not_supported", message.to_owned())
    }

    pub(crate) fn trace() -> Self {
        let message = "TRACE is not allowed: it would show what was added to the request on its way";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message.to_owned())
    }

    pub(crate) fn too_many_fields(max: usize) -> Self {
        let message = format!("the request has more than {max} header fields");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", message)
    }

    pub(crate) fn transfer_coding() -> Self {
        let message = "the request's Transfer-Encoding is not just \"chunked\"; \
                       compress the content by Content-Encoding instead";
        Self::new(StatusCode::NOT_IMPLEMENTED, "transfer_coding_not_supported", message.to_owned()).closing()
    }

    pub(crate) fn content_length() -> Self {
        let message = "the request's Content-Length is not one number, or not the length of its body";
        Self::new(StatusCode::BAD_REQUEST, "bad_content_length", message.to_owned()).closing()
    }

    pub(crate) fn unexpected_body() -> Self {
        let message = "the request has a body, which means nothing with its method; \
                       desync_mitigation_mode is strictest";
        Self::new(StatusCode::BAD_REQUEST, "unexpected_body", message.to_owned()).closing()
    }

    pub(crate) fn expectation() -> Self {
        let message = "the request expects something else than 100-continue";
        Self::new(StatusCode::EXPECTATION_FAILED, "expectation_failed", message.to_owned())
    }

    pub(crate) fn bad_uri(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_uri", format!("the request's URI can't be read: {why}"))
    }

    pub(crate) fn many_hosts() -> Self {
        let message = "the request has more than one Host header; send one";
        Self::new(StatusCode::BAD_REQUEST, "bad_host", message.to_owned()).closing()
    }

    pub(crate) fn no_host() -> Self {
        let message = format!("the request has no Host header; {HOW_TO_ADDRESS}");
        Self::new(StatusCode::BAD_REQUEST, "bad_host", message).closing()
    }

    pub(crate) fn bad_host(why: &str) -> Self {
        let message = format!("the request's host can't be read: {why}; {HOW_TO_ADDRESS}");
        Self::new(StatusCode::BAD_REQUEST, "bad_host", message).closing()
    }

    pub(crate) fn bad_service_header(why: &str) -> Self {
        let message = format!("the X-Coracle-Service header can't be read: {why}; {HOW_TO_ADDRESS}");
        Self::new(StatusCode::BAD_REQUEST, "bad_service_header", message)
    }

    pub(crate) fn of_host(error: AddressError, host: &str, routes: &Routes) -> Self {
        match error {
            AddressError::Malformed(why) => Self::bad_host(why),
            AddressError::NoService => Self::unknown(&format!("the host {host:?} names no service"), routes),
        }
    }

    pub(crate) fn of_route(error: RouteError, cluster: &str, service: &str, routes: &Routes) -> Self {
        match error {
            RouteError::Unknown => {
                Self::unknown(&format!("there is no service {service:?} in cluster {cluster:?}"), routes)
            }
            RouteError::Ambiguous(mut choices) => {
                choices.truncate(MAX_LISTED);
                let message = format!(
                    "{cluster}/{service} could mean several services: {}; \
                     name one in the header X-Coracle-Service",
                    choices.join(", "),
                );
                let refusal = Self::new(StatusCode::BAD_REQUEST, "ambiguous_service", message);
                Self { services: Some(choices), ..refusal }
            }
        }
    }

    fn unknown(what: &str, routes: &Routes) -> Self {
        let (services, beyond) = routes.list(MAX_LISTED);
        let listed = match (services.is_empty(), beyond) {
            (true, _) => "there are no services yet".to_owned(),
            (false, 0) => format!("services here: {}", services.join(", ")),
            (false, beyond) => format!("services here: {}, and {beyond} more", services.join(", ")),
        };
        let message = format!("{what}; {HOW_TO_ADDRESS}; {listed}");
        let refusal = Self::new(StatusCode::NOT_FOUND, "unknown_service", message);
        Self { services: Some(services), ..refusal }
    }

    pub(crate) fn no_ready_target(name: &ServiceName, why: &str) -> Self {
        let message = format!(
            "service {}/{} has no ready target: {}; try again in a moment",
            name.cluster,
            name.service,
            printable(why),
        );
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_ready_target", message);
        Self { retry_after: Some(RETRY_SOON), ..refusal }
    }

    pub(crate) fn listener_gone() -> Self {
        let message = "this listener was deleted".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "listener_deleted", message)
    }

    pub(crate) fn no_target_group() -> Self {
        let message = "the rule forwards to no target group: there is none, or all have the weight 0; set a \
                       weight above 0 with modify-rule or modify-listener";
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_target_group", message.to_owned());
        Self { retry_after: Some(RETRY_SOON), ..refusal }
    }

    pub(crate) fn group_without_target(group: &str, why: &str) -> Self {
        let message = format!("target group {group} has no target for this request: {why}");
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_ready_target", message);
        Self { retry_after: Some(RETRY_SOON), ..refusal }
    }

    pub(crate) fn group_is_full(group: &str, retry_after: Duration) -> Self {
        let message = format!(
            "target group {group} has as many requests in flight and waiting as it may \
             (coracle.max_in_flight, coracle.max_pending); try again in a moment"
        );
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "group_is_full", message);
        Self { retry_after: Some(retry_after), ..refusal }
    }

    pub(crate) fn body_too_large(max: u64) -> Self {
        let message = format!("the request's body is longer than the {max} bytes the target group allows");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(crate) fn headers_too_large(max: usize) -> Self {
        let message =
            format!("the request's headers are longer than the {max} bytes the target group allows");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", message)
    }

    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let message = "too many requests: the rule's rate limit is reached; try again later".to_owned();
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(retry_after), ..refusal }
    }

    pub(crate) fn bad_redirect() -> Self {
        let message = "what the rule's redirect makes of this request is no URL".to_owned();
        Self::new(StatusCode::BAD_REQUEST, "bad_redirect", message)
    }

    pub(crate) fn bad_rewrite(what: &str) -> Self {
        let message = format!("the rule's transform makes something of this request that is no {what}");
        Self::new(StatusCode::BAD_REQUEST, "bad_rewrite", message)
    }

    pub(crate) fn bad_response(what: &str) -> Self {
        let message = format!("the target's response can't be forwarded: {what}");
        Self::new(StatusCode::BAD_GATEWAY, "bad_response", message)
    }

    /// What a target's error means to the client.
    pub(crate) fn of_call(error: &CallError) -> Self {
        let (status, code, what, reason, retry_after) = match error {
            // The handler tries another target; this is for completeness, and still true.
            CallError::NotStarted(_) => {
                let (status, reason) = (StatusCode::SERVICE_UNAVAILABLE, "it is draining");
                (status, "no_ready_target", "the target takes no more requests", reason, Some(RETRY_SOON))
            }
            CallError::Unreachable { reason, timed_out, .. } => {
                let status = if *timed_out { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
                (status, "target_unreachable", "the target can't be reached", reason.as_str(), None)
            }
            CallError::Unavailable { reason, retry_after } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, "target_unavailable", "the target is busy", reason.as_str(), Some(*retry_after))
            }
            CallError::Failed { reason } => {
                (StatusCode::BAD_GATEWAY, "target_failed", "the target failed", reason.as_str(), None)
            }
            CallError::TimedOut { reason } => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                (status, "target_timed_out", "the target took too long", reason.as_str(), None)
            }
            CallError::NoUpgrade => {
                let (status, reason) = (StatusCode::NOT_IMPLEMENTED, "it speaks HTTP only");
                (status, "upgrade_not_supported", "the target can't be upgraded to", reason, None)
            }
            CallError::BadRequest { reason } => {
                (StatusCode::BAD_REQUEST, "bad_request", "the request is invalid", reason.as_str(), None)
            }
        };
        let refusal = Self::new(status, code, format!("{what}: {}", printable(reason)));
        Self { retry_after, ..refusal }
    }

    /// For programs: what was wrong.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn into_response(self, as_json: bool) -> Response<Bytes> {
        let (content_type, body) = if as_json {
            let mut body = serde_json::json!({ "error": self.code, "message": self.message });
            if let Some(services) = self.services {
                body["services"] = services.into();
            }
            ("application/json", format!("{body}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("{}\n", self.message))
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.code));
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: coming back early would only be refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

const HOW_TO_ADDRESS: &str = "address a service as http://<service>.<cluster>.localhost/ or with the header \
                              X-Coracle-Service: <cluster>/<service>";

/// A reason on one line, of bounded length.
fn printable(reason: &str) -> String {
    let mut line = String::with_capacity(reason.len().min(MAX_REASON));
    for character in reason.trim().chars() {
        if line.len() + character.len_utf8() > MAX_REASON {
            line.push('…');
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_error_has_its_status() {
        let reason = || "why\nso".to_owned();
        let not_started = CallError::NotStarted(http::Request::default());
        let unreachable = |timed_out| {
            let request = http::Request::default();
            CallError::Unreachable { request, reason: reason(), timed_out }
        };
        let retry_after = Duration::from_millis(1500);
        for (error, status, code, retry) in [
            (not_started, 503, "no_ready_target", Some("1")),
            (unreachable(false), 502, "target_unreachable", None),
            (unreachable(true), 504, "target_unreachable", None),
            (CallError::Unavailable { reason: reason(), retry_after }, 503, "target_unavailable", Some("2")),
            (CallError::Failed { reason: reason() }, 502, "target_failed", None),
            (CallError::TimedOut { reason: reason() }, 504, "target_timed_out", None),
            (CallError::NoUpgrade, 501, "upgrade_not_supported", None),
            (CallError::BadRequest { reason: reason() }, 400, "bad_request", None),
        ] {
            let response = Refusal::of_call(&error).into_response(false);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-coracle-error"], code);
            let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(retry_after, retry);
            let body = std::str::from_utf8(response.body()).unwrap();
            assert_eq!(body.lines().count(), 1, "{body}");
            assert!(
                ["no_ready_target", "upgrade_not_supported"].contains(&code) || body.contains("why so"),
                "{body}"
            );
        }
    }

    #[test]
    fn json_is_escaped() {
        let response = Refusal::bad_host("a \"quote\"").into_response(true);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"], "bad_host");
        assert!(body["message"].as_str().unwrap().contains("a \"quote\""));
    }

    #[test]
    fn reasons_are_bounded() {
        let long = "é".repeat(2000);
        let shown = printable(&long);
        assert!(shown.len() <= MAX_REASON + '…'.len_utf8() && shown.ends_with('…'));
    }
}
